"""One comparison of an experiment: the request and all of its results."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from rarelab.compare import contrast
from rarelab.compare.across import Across, across
from rarelab.compare.arms import DataSet, find_baseline, group
from rarelab.compare.by_group import ByGroup, by_group
from rarelab.compare.caught import Caught, Gain, asked_of, gains
from rarelab.compare.contrast import BETTER, Finding, Question
from rarelab.compare.costs import (
    ALERTS,
    Costs,
    Monthly,
    monthly,
    recall_key,
    recall_metric,
    share_of,
    value_key,
)
from rarelab.compare.decision import Decision, decide
from rarelab.compare.noise import ReadRows, resampled
from rarelab.compare.planned import planned, with_plan
from rarelab.compare.rows import TestRows, metric_of, read_test_rows
from rarelab.errors import RequestError, nearest
from rarelab.metrics.budget import Budget, budgets, recorded_budget
from rarelab.metrics.rankings import is_ranking
from rarelab.metrics.table import higher_is_better, is_at_budget
from rarelab.records.load import Records, Run
from rarelab.records.seedless import for_every_seed, in_use

USUAL_BUDGET = Budget(Fraction("0.005"))


@dataclass(frozen=True)
class Options:
    """The values of ``conf/compare.yaml``; :meth:`check` raises RequestError for an invalid one.

    ``budget`` is a value of the configuration (:func:`rarelab.metrics.budget.budgets`).
    """

    experiment: str | None = None
    baseline: str | None = None
    metric: str = "test/aucpr"
    runs: Sequence[str] = ()
    within: Sequence[str] = ()
    sweep: str | None = None
    level: float = 0.95
    margin: float | Caught | None = None
    budget: Any = None
    costs: Costs = field(default_factory=Costs)
    dashboard: str = "http://127.0.0.1:5000"
    uri: str | None = None
    home: str | None = None
    by: Sequence[str] = ()

    def check(self) -> None:
        if not 0.5 <= self.level < 1:
            raise RequestError(f"level={self.level:g}: expected a number from 0.5 to below 1")
        if self.margin == 0:
            raise RequestError("margin=0: expected a number above 0, or null for the usual one")
        budgets(self.budget)
        if self.runs and len(self.runs) != 2:
            raise RequestError(f"runs: expected two run ids, got {len(self.runs)}")
        if not self.runs and not self.experiment:
            raise RequestError("experiment: expected the name of a recorded experiment")
        self.costs.check()
        if isinstance(self.margin, Caught):
            if not self.margin.positives:
                raise RequestError(f"margin={self.margin}: expected more than 0 positives")
            if not self.runs:
                self.margin.check(self.metric, self.costs)


@dataclass(frozen=True)
class Study:
    """The result of :class:`Options` on one experiment; a decision for each finding."""

    options: Options
    experiment: str
    experiment_id: str
    question: Question
    runs: Sequence[Run] = field(repr=False)
    data_sets: Sequence[DataSet] = field(repr=False)
    findings: Sequence[Finding] = field(repr=False)
    across: Across | None = None
    monthly: Sequence[Monthly] = ()
    budget: Budget = USUAL_BUDGET
    decisions: Sequence[Decision] = ()
    groups: Sequence[ByGroup] = ()

    @property
    def share(self) -> float:
        """The share of the test rows that the budget allows; the usual one where it depends on how
        many rows a day has, and no run says that."""
        found = share_of(self.budget, self.runs)
        return float(USUAL_BUDGET.share or 0.0) if found is None else found


def study(records: Records, options: Options) -> Study:
    """Read the experiment and compare its arms with the baseline, data set by data set.

    Raises:
        RequestError: for an unknown experiment, sweep, metric or baseline, or a baseline without a
            usable run.
    """
    experiment = options.experiment or ""
    read = reader(records)
    runs = _of_sweep(records.runs(experiment), options.sweep)
    runs = for_every_seed([*runs, *in_use(records, runs)], options.within)
    budget = budget_of(runs, options)
    for metric in [options.metric, *_priced(options, budget)]:
        runs = completed(runs, metric, read, budget)
    found = answer(runs, options, resampled(read))
    jobs = planned(records, experiment, found.runs)
    by_label = {data.label: data for data in found.data_sets}
    findings = [with_plan(finding, by_label[finding.data], jobs) for finding in found.findings]
    return replace(
        found,
        findings=findings,
        experiment_id=records.experiments()[experiment],
        decisions=_decisions(found, read),
        groups=by_group(records, found.data_sets, findings, options.by, found.share),
    )


def answer(runs: Sequence[Run], options: Options, noise: contrast.NoiseOfRows) -> Study:
    """Compare these runs, wherever they and their test-row noise come from.

    Raises:
        RequestError: as :func:`study`.
    """
    runs = _within(runs, options.within)
    data_sets = group(runs, options.metric)
    higher_is_better(options.metric)  # refuse an unsuitable metric before computing anything
    budget = budget_of(runs, options)
    caught = options.margin if isinstance(options.margin, Caught) else None
    question = Question(
        options.metric,
        find_baseline(runs, options.baseline),
        options.level,
        None if isinstance(options.margin, Caught) else options.margin,
        budget,
    )
    share = share_of(budget, runs) or math.nan
    questions = [asked_of(data, question, caught, options.costs, share) for data in data_sets]
    findings = [
        finding
        for data, own in zip(data_sets, questions, strict=True)
        if (finding := contrast.compare(data, own, noise))
    ]
    if is_at_budget(options.metric):
        note = f"{options.metric}: the budget is {budget}"
        findings = [replace(finding, notes=[note, *finding.notes]) for finding in findings]
    _refuse_empty(findings, data_sets, question)
    told: list[Monthly] = []
    if options.costs.asked:
        told = _costs(runs, options, question, noise)
    return Study(
        options,
        options.experiment or "",
        "",
        questions[0] if len(questions) == 1 else question,
        runs,
        data_sets,
        findings,
        None if options.within else across(data_sets, options.metric),
        told,
        budget,
    )


def _priced(options: Options, budget: Budget) -> list[str]:
    """The recalls that the costs are computed from."""
    keys = [recall_key(budget)] if options.costs.asked else []
    return [*keys, value_key(budget)] if options.costs.by_amount else keys


def budget_of(runs: Sequence[Run], options: Options) -> Budget:
    """The budget that is asked for, else the one that the runs recorded, else 0.5 % of the rows.

    Raises:
        RequestError: the metric is one at the budget, and the runs have none, or several.
    """
    if asked := budgets(options.budget):
        return asked[0]
    recorded = {found for run in runs if (found := recorded_budget(run.params)) is not None}
    if len(recorded) == 1:
        return recorded.pop()
    if is_at_budget(options.metric):
        several = f"have different budgets ({', '.join(sorted(map(str, recorded)))})"
        why = several if recorded else "have no budget"
        raise RequestError(f"metric={options.metric}: the runs {why}; give one, as in budget=0.02")
    return USUAL_BUDGET


def completed(
    runs: Sequence[Run], metric: str, read_rows: ReadRows, budget: Budget = USUAL_BUDGET
) -> list[Run]:
    """The runs, with a ranking metric that a finished one did not record, or recorded at another
    budget, computed from its test rows, where they were kept."""
    if is_at_budget(metric):
        return [_at_budget(run, metric, read_rows, budget) for run in runs]
    if not is_ranking(metric):
        return list(runs)
    return [
        replace(run, metrics={**run.metrics, metric: value})
        if run.status == "done"
        and metric not in run.metrics
        and (rows := read_rows(run)) is not None
        and (value := metric_of(rows, metric)) is not None
        else run
        for run in runs
    ]


def _at_budget(run: Run, metric: str, read_rows: ReadRows, budget: Budget) -> Run:
    """The run with the metric at this budget and the number of its alerts, or without both."""
    if run.status == "done" and recorded_budget(run.params) == budget and metric in run.metrics:
        return run
    others = {k: v for k, v in run.metrics.items() if k not in (metric, ALERTS)}
    rows = read_rows(run) if run.status == "done" else None
    value = metric_of(rows, metric, budget) if rows is not None and is_ranking(metric) else None
    if rows is not None and value is not None:
        alerts = budget.alerts(len(rows.targets), rows.days)
        others |= {metric: value, ALERTS: float(alerts)}
    return replace(run, metrics=others)


def _within(runs: Sequence[Run], keys: Sequence[str]) -> Sequence[Run]:
    """The runs, marked with the keys within which they are compared."""
    known = {key for run in runs for key in run.params}
    for key in keys:
        if key not in known:
            raise RequestError(f"within={key}: no run has this key; {nearest(key, known)}")
    return [replace(run, within=tuple(keys)) for run in runs] if keys else runs


def _of_sweep(runs: Sequence[Run], sweep: str | None) -> Sequence[Run]:
    if sweep is None:
        return runs
    chosen = [run for run in runs if run.sweep == sweep]
    if not chosen:
        known = {run.sweep for run in runs if run.sweep}
        raise RequestError(f"sweep_id={sweep}: no run belongs to it; {nearest(sweep, known)}")
    return chosen


def _refuse_empty(
    findings: Sequence[Finding], data_sets: Sequence[DataSet], question: Question
) -> None:
    if not findings:
        why = next((note for data in data_sets for note in data.notes), "")
        raise RequestError(
            f"baseline={question.baseline}: it has no usable run{f' ({why})' if why else ''}; "
            f"{nearest(question.baseline, _usable(data_sets))}"
        )
    if not any(finding.contrasts for finding in findings):
        why = next((note for data in data_sets for note in data.notes), "")
        raise RequestError(
            f"nothing to compare with {question.baseline}: no other arm has a usable run"
            + (f" ({why})" if why else "")
        )


def _usable(data_sets: Sequence[DataSet]) -> set[str]:
    return {arm.label for data in data_sets for arm in data.arms if arm.runs}


def _decisions(found: Study, read: ReadRows) -> list[Decision]:
    """The decision on each finding, with what a switch brings in positives caught."""
    gained: Mapping[str, Mapping[str, Gain]] = {}
    if any(c.verdict == BETTER for finding in found.findings for c in finding.contrasts):
        gained = _gains(found, read)
    return [decide(finding, gained.get(finding.data)) for finding in found.findings]


def _gains(found: Study, read: ReadRows) -> dict[str, Mapping[str, Gain]]:
    """By data set and arm, the positives that are caught at the budget beyond the baseline."""
    options, metric = found.options, recall_key(found.budget)
    data_sets, findings = found.data_sets, found.findings
    if metric != found.question.metric:
        runs = completed(found.runs, metric, read, found.budget)
        if not any(metric in run.metrics for run in runs):
            return {}
        baseline = found.question.baseline
        asked = Question(metric, baseline, options.level, budget=found.budget)
        data_sets = group(runs, metric)
        noise = resampled(read)
        findings = [f for data in data_sets if (f := contrast.compare(data, asked, noise))]
    by_label = {data.label: data for data in data_sets}
    return {
        finding.data: gains(by_label[finding.data], finding, options.costs, found.share)
        for finding in findings
    }


def _costs(
    runs: Sequence[Run], options: Options, question: Question, noise: contrast.NoiseOfRows
) -> list[Monthly]:
    budget = question.budget or USUAL_BUDGET
    metric = recall_metric(group(runs, options.metric), budget)
    asked = Question(metric, question.baseline, question.level, budget=budget)
    by_value = _by_value(runs, options, asked, noise)
    told: list[Monthly] = []
    for data in group(runs, metric):
        finding = contrast.compare(data, asked, noise)
        valued = by_value.get(data.label)
        if finding:
            share = share_of(budget, [run for arm in data.arms for run in arm.runs.values()])
            told += monthly(data, finding, options.costs, share or math.nan, valued)
    return told


def _by_value(
    runs: Sequence[Run], options: Options, question: Question, noise: contrast.NoiseOfRows
) -> dict[str, Finding]:
    """The finding on value-weighted recall at the budget, by data set."""
    if not options.costs.by_amount:
        return {}
    metric = value_key(question.budget or USUAL_BUDGET)
    if not any(metric in run.metrics for run in runs):
        raise RequestError(
            "costs.missed_positive=amount: no run kept the amounts of its test rows; expected runs "
            "with dataset.amount"
        )
    asked = replace(question, metric=metric)
    found = {d.label: contrast.compare(d, asked, noise) for d in group(runs, metric)}
    return {label: finding for label, finding in found.items() if finding is not None}


def reader(records: Records) -> ReadRows:
    """Reads the test rows of a run, each file once."""
    kept: dict[str, TestRows | None] = {}

    def read(run: Run) -> TestRows | None:
        if run.run_id not in kept:
            path = records.file(run, "predictions.parquet")
            kept[run.run_id] = None if path is None else read_test_rows(path)
        return kept[run.run_id]

    return read


def as_number(name: str, value: Any, *, or_else: str = "") -> float | None:
    """A number from the configuration, or None. ``or_else``: a word that would do as well.

    Raises:
        RequestError: for anything else.
    """
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number) or number < 0:
        also = f", or {or_else}" if or_else else ""
        raise RequestError(f"{name}={value}: expected a number, 0 or more{also}")
    return number

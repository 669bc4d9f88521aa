"""One comparison of an experiment: the request and all of its results."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rarelab.compare import contrast
from rarelab.compare.across import Across, across
from rarelab.compare.arms import DataSet, find_baseline, group
from rarelab.compare.by_group import ByGroup, by_group
from rarelab.compare.caught import Caught, Gain, asked_of, gains
from rarelab.compare.contrast import BETTER, Finding, Question
from rarelab.compare.costs import Costs, Monthly, monthly, recall_key, recall_metric
from rarelab.compare.decision import Decision, decide
from rarelab.compare.noise import ReadRows, resampled
from rarelab.compare.planned import planned, with_plan
from rarelab.compare.rows import TestRows, metric_of, read_test_rows
from rarelab.errors import RequestError, nearest
from rarelab.metrics.table import higher_is_better, is_ranking
from rarelab.records.load import Records, Run


@dataclass(frozen=True)
class Options:
    """The values of ``conf/compare.yaml``; :meth:`check` raises RequestError for an invalid one."""

    experiment: str | None = None
    baseline: str | None = None
    metric: str = "test/aucpr"
    runs: Sequence[str] = ()
    within: Sequence[str] = ()
    sweep: str | None = None
    level: float = 0.95
    margin: float | Caught | None = None
    budget: float = 0.005
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
        if not 0 < self.budget < 1:
            raise RequestError(f"budget={self.budget:g}: expected a share of rows between 0 and 1")
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
    decisions: Sequence[Decision] = ()
    groups: Sequence[ByGroup] = ()


def study(records: Records, options: Options) -> Study:
    """Read the experiment and compare its arms with the baseline, data set by data set.

    Raises:
        RequestError: for an unknown experiment, sweep, metric or baseline, or a baseline without a
            usable run.
    """
    experiment = options.experiment or ""
    read = reader(records)
    runs = _of_sweep(records.runs(experiment), options.sweep)
    asked = [options.metric, *([recall_key(options.budget)] if options.costs.asked else [])]
    for metric in asked:
        runs = completed(runs, metric, read)
    found = answer(runs, options, resampled(read))
    jobs = planned(records, experiment, found.runs)
    by_label = {data.label: data for data in found.data_sets}
    findings = [with_plan(finding, by_label[finding.data], jobs) for finding in found.findings]
    return replace(
        found,
        findings=findings,
        experiment_id=records.experiments()[experiment],
        decisions=_decisions(found, read),
        groups=by_group(records, found.data_sets, findings, options.by, options.budget),
    )


def answer(runs: Sequence[Run], options: Options, noise: contrast.NoiseOfRows) -> Study:
    """Compare these runs, wherever they and their test-row noise come from.

    Raises:
        RequestError: as :func:`study`.
    """
    runs = _within(runs, options.within)
    data_sets = group(runs, options.metric)
    higher_is_better(options.metric)  # refuse an unsuitable metric before computing anything
    caught = options.margin if isinstance(options.margin, Caught) else None
    question = Question(
        options.metric,
        find_baseline(runs, options.baseline),
        options.level,
        None if isinstance(options.margin, Caught) else options.margin,
    )
    questions = [
        asked_of(data, question, caught, options.costs, options.budget) for data in data_sets
    ]
    findings = [
        finding
        for data, own in zip(data_sets, questions, strict=True)
        if (finding := contrast.compare(data, own, noise))
    ]
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
    )


def completed(runs: Sequence[Run], metric: str, read_rows: ReadRows) -> list[Run]:
    """The runs, with a ranking metric that a finished one did not record computed from its test
    rows, where they were kept."""
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
    options, metric = found.options, recall_key(found.options.budget)
    data_sets, findings = found.data_sets, found.findings
    if metric != found.question.metric:
        runs = completed(found.runs, metric, read)
        if not any(metric in run.metrics for run in runs):
            return {}
        asked = Question(metric, found.question.baseline, options.level)
        data_sets = group(runs, metric)
        noise = resampled(read)
        findings = [f for data in data_sets if (f := contrast.compare(data, asked, noise))]
    by_label = {data.label: data for data in data_sets}
    return {
        finding.data: gains(by_label[finding.data], finding, options.costs, options.budget)
        for finding in findings
    }


def _costs(
    runs: Sequence[Run], options: Options, question: Question, noise: contrast.NoiseOfRows
) -> list[Monthly]:
    metric = recall_metric(group(runs, options.metric), options.budget)
    asked = Question(metric, question.baseline, question.level)
    told: list[Monthly] = []
    for data in group(runs, metric):
        finding = contrast.compare(data, asked, noise)
        if finding:
            told += monthly(data, finding, options.costs, options.budget)
    return told


def reader(records: Records) -> ReadRows:
    """Reads the test rows of a run, each file once."""
    kept: dict[str, TestRows | None] = {}

    def read(run: Run) -> TestRows | None:
        if run.run_id not in kept:
            path = records.file(run, "predictions.parquet")
            kept[run.run_id] = None if path is None else read_test_rows(path)
        return kept[run.run_id]

    return read


def as_number(name: str, value: Any) -> float | None:
    """A number from the configuration, or None.

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
        raise RequestError(f"{name}={value}: expected a number, 0 or more")
    return number

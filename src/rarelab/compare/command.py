"""``rarelab compare``: the verdict in the terminal, in an HTML report and on the sweep's run."""

import importlib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rarelab.compare import caught, tables, words
from rarelab.compare.contrast import by_difference
from rarelab.compare.costs import Costs
from rarelab.compare.decision import answers
from rarelab.compare.study import Options, Study, as_number, budget_of, study
from rarelab.compare.two_runs import Pair, compare_pair
from rarelab.errors import RequestError
from rarelab.metrics.costs import BY_AMOUNT
from rarelab.records.load import Records
from rarelab.records.names import printable

_SHOWN = 12


def compare(cfg: Mapping[str, Any], overrides: Sequence[str] = ()) -> Path | None:
    """Run the comparison of ``conf/compare.yaml``: print verdict and table, write the report.

    Returns the report's path, or None for a pair of runs.

    Raises:
        RequestError: for an invalid request; nothing is written then.
    """
    records, found = _found(cfg)
    if isinstance(found, Pair):
        print(found.text())
        return None
    print(text(found))
    report, where = _report(found, records, overrides)
    print(f"\n{where}\n\nreport: {report}")
    return report


def compared(
    cfg: Mapping[str, Any], overrides: Sequence[str] = (), *, report: bool = False
) -> pd.DataFrame:
    """The comparison of ``conf/compare.yaml`` as a frame, a row per arm; writes the report only if
    asked to, and prints nothing.

    ``frame.attrs["decisions"]`` has what follows from the verdicts, a sentence for each data set.

    Raises:
        RequestError: for an invalid request.
    """
    records, found = _found(cfg)
    if isinstance(found, Pair):
        if report:
            raise RequestError("report=True: a pair of runs has no report")
        return pd.DataFrame(found.flat())
    frame = pd.DataFrame(tables.flat(found))
    told = zip(found.findings, found.decisions, strict=True)
    frame.attrs["decisions"] = {finding.data: decision.text for finding, decision in told}
    if report:
        frame.attrs["report"] = str(_report(found, records, overrides)[0])
    return frame


def _found(cfg: Mapping[str, Any]) -> tuple[Records, Study | Pair]:
    options = options_of(cfg)
    options.check()
    records = Records(options.home, options.uri)
    if options.runs:
        first, second = (records.run(run_id) for run_id in options.runs)
        budget = budget_of((first, second), options)
        return records, compare_pair(records, first, second, options.metric, options.level, budget)
    return records, study(records, options)


def options_of(cfg: Mapping[str, Any]) -> Options:
    """The configuration as :class:`Options`.

    Raises:
        RequestError: for a value of the wrong type.
    """
    costs = cfg["costs"]
    numbers = {
        key: as_number(f"costs.{key}", costs[key])
        for key in ("false_alert", "rows_per_month", "alerts_per_month")
    }
    missed = costs["missed_positive"]
    if missed != BY_AMOUNT:
        missed = as_number("costs.missed_positive", missed, or_else=BY_AMOUNT)
    runs, within, by = (
        _list(key, value, of)
        for key, value, of in (
            ("runs", cfg["runs"], "RUN_ID,RUN_ID"),
            ("within", cfg["within"], "KEY"),
            ("report.by", cfg["report"]["by"], "COLUMN"),
        )
    )
    return Options(
        experiment=_text(cfg["experiment"]),
        baseline=_text(cfg["baseline"]),
        metric=str(cfg["metric"]),
        runs=runs,
        within=within,
        sweep=_text(cfg["sweep_id"]),
        level=_required("level", cfg["level"]),
        margin=_margin(cfg["margin"]),
        budget=cfg["budget"],
        costs=Costs(**numbers, missed_positive=missed, currency=str(costs["currency"] or "")),
        dashboard=str(cfg["dashboard"]),
        uri=_text(cfg["tracking"]["uri"]),
        home=_text(cfg["paths"]["home"]),
        by=by,
    )


def text(found: Study) -> str:
    """The terminal output: the answer, then for each data set the verdicts, what was varied, and
    the table."""
    parts = ["\n".join(printable(line) for line in answers(found.findings, found.decisions))]
    for finding in found.findings:
        lines = [words.headline(finding)]
        contrasts = by_difference(finding.contrasts)
        lines += [f"  {words.sentence(finding, c)}" for c in contrasts[:_SHOWN]]
        if len(contrasts) > _SHOWN:
            lines.append(f"  {len(contrasts) - _SHOWN} more arms in the table")
        lines += [f"  {told(finding)}" for told in (words.varied, words.margin, words.test_names)]
        lines += [f"  note: {note}" for note in finding.notes]
        printed = "\n".join(printable(line) for line in lines)
        parts.append(f"{printed}\n\n{tables.aligned(finding)}")
    parts += [printable(x) for x in words.across(found.across, found.question.alpha)]
    currency = found.options.costs.currency
    told = [f"  {words.monthly(line, currency)}" for line in found.monthly]
    if told:
        first = found.monthly[0]
        budget = f"per month, {words.percent(first.budget)} of the rows flagged"
        told.insert(0, f"{budget} ({words.number(first.alerts)} alerts):")
        parts.append("\n".join(printable(line) for line in told))
    parts += map(tables.aligned_groups, found.groups)
    return "\n\n".join(parts)


def _report(found: Study, records: Records, overrides: Sequence[str]) -> tuple[Path, str]:
    """Write the report; its path, and a line that says where else it went."""
    # Templates and figures take a second to import, so print the verdict first.
    gallery = importlib.import_module("rarelab.compare.gallery")
    report = importlib.import_module("rarelab.compare.report")
    folder = report.new_folder(records.home, found.experiment)
    pictures = gallery.draw(found, records, folder / "figures")
    path = report.write(found, records, pictures, folder, report.command_of(overrides))
    report.point_latest(folder)
    return path, _publish(found, records, folder)


def _publish(found: Study, records: Records, folder: Path) -> str:
    """Attach the report to the sweep's run; returns a line saying so, or why it could not."""
    parent = records.parent_of(found.runs)
    if parent is None:
        return "these runs have no parent sweep run: the report is only in its folder"
    note = tables.as_note(found)
    metrics = published_metrics(found)
    headline = "; ".join(words.headline(finding) for finding in found.findings)
    records.publish(parent, headline, note, metrics, folder)
    return f"also attached to the sweep's run {parent.run_id} ({printable(parent.name)})"


def published_metrics(found: Study) -> dict[str, float]:
    """Difference and adjusted p of every arm, for the sweep's run; empty if there are too many."""
    several = len(found.findings) > 1
    metrics: dict[str, float] = {}
    for finding in found.findings:
        for c in finding.contrasts:
            if c.test is not None:
                name = f"{finding.data}/{c.arm.label}" if several else c.arm.label
                metrics[f"verdict/{name}/difference"] = c.test.difference
                metrics[f"verdict/{name}/p_holm"] = c.p_holm
    return metrics if len(metrics) <= _MOST_METRICS else {}


# The dashboard draws one chart per key.
_MOST_METRICS = 24


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _margin(value: Any) -> float | caught.Caught | None:
    """A number in the metric's units, or a count of positives: ``5 caught``."""
    if isinstance(value, str) and value.strip():
        found = caught.parsed(value)
        if found is None and not re.fullmatch(r"[-+.\deE]+|nan|inf", value.strip()):
            raise RequestError(
                f"margin={value}: expected a number in the metric's units, or positives caught a "
                "month such as '5 caught'"
            )
        return found or as_number("margin", value)
    return as_number("margin", value)


def _list(name: str, value: Any, of: str) -> list[str]:
    if isinstance(value, str) or not isinstance(value or [], Sequence):
        raise RequestError(f"{name}={value}: expected [{of}]")
    return [str(item) for item in value or []]


def _required(name: str, value: Any) -> float:
    number = as_number(name, value)
    return math.nan if number is None else number

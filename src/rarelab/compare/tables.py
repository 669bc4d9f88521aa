"""The numbers of a study as tables: for the terminal, CSV, JSON, Markdown and LaTeX."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rarelab.compare.by_group import ByGroup, Cell
from rarelab.compare.contrast import Contrast, Finding, Summary, by_difference
from rarelab.compare.study import Study
from rarelab.compare.words import headline, interval, margin, number, percent, sentence, varied
from rarelab.records.names import printable

HEADER = (
    "arm", "runs", "mean", "interval of the mean", "difference", "interval", "p", "p (Holm)",
    "d_z", "worse / equal / better", "verdict",
)  # fmt: skip

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip
_MARKDOWN = {c: f"\\{c}" for c in "\\`*_{}[]#|"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def rows(finding: Finding) -> list[tuple[str, ...]]:
    """One row of text per arm: the baseline, then the others, largest difference first."""
    base = finding.baseline
    first = (*_own(base, finding.question.level), "baseline", "", "", "", "", "", "")
    return [first, *(_row(c, finding.question.level) for c in by_difference(finding.contrasts))]


def _own(arm: Summary, level: float) -> tuple[str, ...]:
    return (arm.label, str(arm.n), number(arm.mean), interval(arm.low, arm.high))


def _row(c: Contrast, level: float) -> tuple[str, ...]:
    if c.test is None:
        return (*_own(c.arm, level), "-", "-", "-", "-", "-", "-", c.verdict)
    around = interval(c.test.low, c.test.high)
    if math.isfinite(c.test.low) and abs(c.test.level - level) > 0.01:
        around += f" ({percent(c.test.level)})"
    return (
        *_own(c.arm, level),
        number(c.test.difference, signed=True),
        around,
        _p(c.p),
        _p(c.p_holm),
        f"{c.effect:+.2f}" if math.isfinite(c.effect) else "-",
        " / ".join(f"{100 * share:.0f}" for share in c.chances) + " %" if c.chances else "-",
        c.verdict,
    )


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def aligned(finding: Finding) -> str:
    """The table for a terminal: aligned plain text, control characters escaped."""
    header = (f"{finding.question.metric}", *HEADER[1:])
    return _aligned([header, *rows(finding)])


def _aligned(table: Sequence[Sequence[str]]) -> str:
    table = [tuple(printable(cell) for cell in row) for row in table]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = []
    for row in table:
        cells = [
            cell.ljust(width) if i in (0, len(row) - 1) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def group_header(found: ByGroup) -> tuple[str, ...]:
    return (found.column, "rows", "positives", *found.arms)


def group_rows(found: ByGroup) -> list[tuple[str, ...]]:
    """One row of text per group: how many rows and positives, and by arm the recall with its
    interval, what was caught and what was flagged."""
    return [
        (
            group.level,
            f"{group.rows:,.0f}",
            f"{group.positives:,.0f}",
            *(_cell_text(group.cells[arm]) for arm in found.arms),
        )
        for group in found.groups
    ]


def _cell_text(cell: Cell) -> str:
    count = f"{_mean_count(cell.caught)} of {_mean_count(cell.flagged)} flagged"
    if math.isnan(cell.recall):
        return count
    return f"{cell.recall:.3f} [{cell.low:.3f}, {cell.high:.3f}], {count}"


def _mean_count(value: float) -> str:
    return f"{value:,.1f}".removesuffix(".0")


def group_title(found: ByGroup) -> str:
    return f"{found.data}: recall at {percent(found.budget)} flagged, by {found.column}"


def aligned_groups(found: ByGroup) -> str:
    """The table of a column for a terminal, with its title and notes."""
    notes = [f"  note: {printable(note)}" for note in found.notes]
    table = [group_header(found), *group_rows(found)]
    return "\n".join([printable(group_title(found)), *notes, _aligned(table)])


def flat_groups(study: Study) -> list[dict[str, Any]]:
    """One flat record per data set, column, group and arm, unrounded."""
    return [
        {
            "data": found.data,
            "column": found.column,
            "budget": found.budget,
            "group": group.level,
            "rows": group.rows,
            "positives": group.positives,
            "arm": arm,
            **group.cells[arm]._asdict(),
        }
        for found in study.groups
        for group in found.groups
        for arm in found.arms
    ]


def flat(study: Study) -> list[dict[str, Any]]:
    """One flat record per arm and data set, unrounded; baselines have no difference."""
    records = []
    for finding in study.findings:
        common = {
            "data": finding.data,
            "metric": finding.question.metric,
            "margin": finding.question.within,
        }
        records.append(common | _summary(finding.baseline) | {"verdict": "baseline"})
        records += [
            common | _summary(c.arm) | _numbers(c) for c in by_difference(finding.contrasts)
        ]
    return records


def _summary(arm: Summary) -> dict[str, Any]:
    return {
        "arm": arm.label,
        "runs": arm.n,
        "mean": arm.mean,
        "mean_low": arm.low,
        "mean_high": arm.high,
        "standard_deviation": arm.spread,
    }


def _numbers(c: Contrast) -> dict[str, Any]:
    found: dict[str, Any] = {"verdict": c.verdict}
    if c.test is not None:
        found |= {
            "pairs": c.test.n,
            "difference": c.test.difference,
            "low": c.test.low,
            "high": c.test.high,
            "level": c.test.level,
            "test": c.test.name,
            "p_test": c.test.p,
        }
    if c.rows is not None:
        found |= {
            "rows_low": c.rows.low,
            "rows_high": c.rows.high,
            "p_rows": c.rows.p,
            "error_seeds_and_rows": c.rows.error,
            "error_rows": c.rows.rows_error,
            "test_rows": c.rows.rows,
            "resamples": c.rows.resamples,
        }
    if c.chances is not None:
        found |= {f"chance_{name}": share for name, share in c.chances._asdict().items()}
    return found | {
        "p": c.p,
        "p_holm": c.p_holm,
        "p_equal": c.p_equal,
        "p_equal_holm": c.p_equal_holm,
        "d_z": c.effect,
        "superiority": c.superiority,
        "seeds_needed": c.needed,
        "seeds_needed_equal": c.needed_equal,
        "detectable": c.detectable,
    }


def as_csv(study: Study) -> str:
    """:func:`flat` as CSV."""
    return records_as_csv(flat(study))


def records_as_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """RFC 4180 CSV; an apostrophe precedes cells that a spreadsheet would run as a formula."""
    names = list(dict.fromkeys(key for record in records for key in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows([{key: _cell(value) for key, value in r.items()} for r in records])
    return text.getvalue()


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" else value


def as_json(study: Study) -> str:
    """Everything, in words and numbers; non-finite numbers are null."""
    findings = [
        {
            "data": finding.data,
            "headline": headline(finding),
            "varied": varied(finding),
            "verdicts": [sentence(finding, c) for c in finding.contrasts],
            "notes": list(finding.notes),
            "units": {c.arm.label: [list(unit) for unit in c.units] for c in finding.contrasts},
            "differences": {c.arm.label: list(c.differences) for c in finding.contrasts},
        }
        for finding in study.findings
    ]
    content: dict[str, Any] = {
        "experiment": study.experiment,
        "metric": study.question.metric,
        "baseline": study.question.baseline,
        "level": study.question.level,
        "margin": study.question.within,
        "decisions": [vars(decision) for decision in study.decisions],
        "findings": findings,
        "table": flat(study),
    }
    if study.groups:
        content["groups"] = flat_groups(study)
    if study.across:
        content["across"] = {
            "test": study.across.test,
            "statistic": study.across.statistic,
            "p": study.across.p,
            "data_sets": study.across.data_sets,
            "ranks": study.across.ranks,
        }
    return json.dumps(_finite(content), indent=1, allow_nan=False) + "\n"


def _finite(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {str(key): _finite(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_finite(value) for value in node]
    if isinstance(node, float):  # includes numpy's float64
        return float(node) if math.isfinite(node) else None
    return node


def as_markdown(study: Study) -> str:
    """One table per data set, names escaped."""
    return "\n".join(map(_as_markdown, study.findings))


def _as_markdown(finding: Finding) -> str:
    lines = [f"**{_escaped(headline(finding), _MARKDOWN)}**\n", f"| {' | '.join(HEADER)} |"]
    lines.append("|---" * len(HEADER) + "|")
    for row in rows(finding):
        lines.append(f"| {' | '.join(_escaped(cell, _MARKDOWN) for cell in row)} |")
    return "\n".join([*lines, ""])


def in_words(finding: Finding) -> str:
    """A Markdown list: the verdict on each arm, what was varied, the notes."""
    told = [sentence(finding, c) for c in by_difference(finding.contrasts)]
    told += [varied(finding), margin(finding), *(f"note: {note}" for note in finding.notes)]
    return "".join(f"- {_escaped(line, _MARKDOWN)}\n" for line in told)


def as_note(study: Study) -> str:
    """The verdict for a run's description in the dashboard: tables, then words."""
    return as_markdown(study) + "\n" + "".join(map(in_words, study.findings))


def as_page(study: Study) -> str:
    """The verdict as a page: for each data set the table, then the words."""
    return "\n".join(f"{_as_markdown(f)}\n{in_words(f)}" for f in study.findings)


def as_latex(study: Study) -> str:
    """One tabular per data set, names escaped; needs no LaTeX package."""
    parts = []
    for finding in study.findings:
        parts += [f"% {printable(headline(finding))}", r"\begin{tabular}{lrrlrlrrrrl}", r"\hline"]
        parts += [_latex_row(HEADER), r"\hline"]
        parts += [_latex_row(row) for row in rows(finding)]
        parts += [r"\hline", r"\end{tabular}", ""]
    return "\n".join(parts)


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(_escaped(cell, _LATEX) for cell in cells) + r" \\"


def _escaped(text: str, table: Mapping[str, str]) -> str:
    return "".join(table.get(c, c) for c in printable(text))

"""Recall at the budget in each group of the test rows: ``report.by=[country]``.

The rows are flagged over all groups together, by the threshold that spends the budget on the whole
test set, as an alert queue would: a group's own share of alerts is part of the answer.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rarelab.compare.arms import Arm, DataSet
from rarelab.compare.contrast import Finding, by_difference
from rarelab.errors import RequestError, nearest
from rarelab.metrics.thresholds import exact_interval
from rarelab.metrics.tie_groups import top_size
from rarelab.records.load import Records, Run

MOST_LEVELS = 20
"""Groups shown; the rest are counted together. Numbers of more values become quartiles."""

MISSING = "(missing)"
_OWN = ("split", "row", "target", "score")
_GROUP = "given/group"


class Cell(NamedTuple):
    """Per run of an arm, on average: rows of a group flagged, positives among them, and the recall
    with its interval, all NaN if the group has no positive."""

    flagged: float
    caught: float
    recall: float
    low: float
    high: float


@dataclass(frozen=True)
class Group:
    """The rows and positives of a group in the test rows of a run, and its cell by arm."""

    level: str
    rows: float
    positives: float
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class ByGroup:
    """One column of one data set; ``groups`` end with all rows together."""

    data: str
    column: str
    budget: float
    arms: Sequence[str]
    groups: Sequence[Group]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class _Rows:
    """The test rows of a run: raw scores and targets [N], and the column's values, if kept."""

    scores: NDArray[np.float64]
    targets: NDArray[np.int64]
    values: Any = field(repr=False)


def by_group(
    records: Records,
    data_sets: Sequence[DataSet],
    findings: Sequence[Finding],
    columns: Sequence[str],
    budget: float,
) -> list[ByGroup]:
    """A table for each data set and column.

    Raises:
        RequestError: no run kept the column, or the task has several classes.
    """
    by_label = {data.label: data for data in data_sets}
    found = []
    for finding in findings if columns else ():
        data = by_label[finding.data]
        order = [finding.baseline.label, *(c.arm.label for c in by_difference(finding.contrasts))]
        arms = [data.arm(label) for label in order]
        paths = {
            run.run_id: path
            for arm in arms
            for run in arm.runs.values()
            if (path := records.file(run, "predictions.parquet")) is not None
        }
        for column in columns:
            named = {run.run_id: _named(run, column) for arm in arms for run in arm.runs.values()}
            _refuse_unknown(column, paths, named)
            level = finding.question.level
            found.append(_by_column(data.label, arms, paths, named, column, budget, level))
    return found


def kept_columns(path: Path) -> list[str]:
    """The columns of a ``predictions.parquet`` that its rows can be grouped by."""
    names = pq.read_schema(path).names
    return [name for name in names if name not in _OWN and not name.startswith("score/")]


def flagged_shares(scores: NDArray, budget: float) -> NDArray[np.float64]:
    """How much of each row is flagged, [N]: 1 in the top ⌈budget · N⌉ rows, 0 below, and for rows
    that tie at the edge the share of them that fits (their expectation over random order)."""
    size = top_size(budget, len(scores))
    edge = np.partition(scores, len(scores) - size)[len(scores) - size]
    above, level = scores > edge, scores == edge
    return above + level * ((size - above.sum()) / level.sum())


def levels_of(values: Any) -> tuple[NDArray[np.int64], list[str]]:
    """A code for each value, and the names of the groups, in their order: numbers of more than
    `MOST_LEVELS` values by quartile, other values each on its own; missing ones last."""
    place, distinct = pd.factorize(np.asarray(values, dtype=object))  # -1: missing
    texts = [str(value).strip() for value in distinct]
    numbers: Any = pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce")
    numeric = all(number == number or not text for number, text in zip(numbers, texts, strict=True))
    if numeric and numbers.nunique() > MOST_LEVELS:
        each = np.append(numbers.to_numpy(dtype=float), np.nan)
        code, names = _quartiles(each, each[place])
    else:
        order = sorted(
            {text: number for text, number in zip(texts, numbers, strict=True) if text}.items(),
            key=lambda item: (item[1] if numeric else 0.0, item[0]),
        )
        names = [text for text, _ in order]
        of_text = {text: code for code, text in enumerate(names)}
        code = np.array([of_text.get(text, len(names)) for text in [*texts, ""]])
    codes = code[place].astype(np.int64)
    return codes, [*names, MISSING] if (codes == len(names)).any() else names


def _quartiles(
    distinct: NDArray[np.float64], numbers: NDArray[np.float64]
) -> tuple[NDArray[np.int64], list[str]]:
    """The code of each distinct number by the quartiles of all ``numbers``, NaN after the last."""
    known = numbers[~np.isnan(numbers)]
    edges = np.unique(np.quantile(known, [0.25, 0.5, 0.75]))
    edges = edges[edges < known.max()]
    texts = [f"{edge:g}" for edge in edges]
    ends = [f"over {low} to {high}" for low, high in itertools.pairwise(texts)]
    names = [f"up to {texts[0]}", *ends, f"over {texts[-1]}"] if texts else ["all values"]
    code = np.searchsorted(edges, distinct, side="left")
    return np.where(np.isnan(distinct), len(names), code), names


def counts_of(
    rows: Sequence[tuple[NDArray, NDArray, NDArray]], groups: int, budget: float
) -> NDArray[np.float64]:
    """Rows, positives, flagged rows and caught positives of each group, [4, groups]: the mean over
    runs, each given as scores, positives and codes [N]."""
    every = []
    for scores, positives, codes in rows:
        flagged = flagged_shares(scores, budget)
        weights = (np.ones(len(scores)), positives, flagged, flagged * positives)
        every.append([np.bincount(codes, weight, minlength=groups) for weight in weights])
    return np.mean(every, axis=0)


def _by_column(
    data: str,
    arms: Sequence[Arm],
    paths: Mapping[str, Path],
    named: Mapping[str, str],
    column: str,
    budget: float,
    level: float,
) -> ByGroup:
    rows, notes = _grouped_rows(arms, paths, named, column)
    codes, names = levels_of(np.concatenate([r.values for own in rows.values() for r in own]))
    counts: dict[str, NDArray] = {}
    start = 0
    for label, own in rows.items():
        given = []
        for run in own:
            given.append((run.scores, run.targets == 1, codes[start : start + len(run.scores)]))
            start += len(run.scores)
        counts[label] = counts_of(given, len(names), budget)
    shown, rest = _shown(next(iter(counts.values())), names)
    groups = [_group(names[i], [i], counts, level) for i in shown]
    if rest:
        groups.append(_group(f"{len(rest)} more values", rest, counts, level))
    groups.append(_group("all rows", range(len(names)), counts, level))
    return ByGroup(data, column, budget, list(rows), groups, notes)


def _grouped_rows(
    arms: Sequence[Arm], paths: Mapping[str, Path], named: Mapping[str, str], column: str
) -> tuple[dict[str, list[_Rows]], list[str]]:
    """The test rows by arm, each run with the column's values: its own, or those that another run
    kept of the same rows."""
    runs = {run.run_id: run for arm in arms for run in arm.runs.values() if run.run_id in paths}
    read = {run_id: _read(paths[run_id], named[run_id]) for run_id in runs}
    known = {runs[run_id].digest: rows for run_id, rows in read.items() if rows.values is not None}
    found: dict[str, list[_Rows]] = {}
    left_out = 0
    for arm in arms:
        for run in arm.runs.values():
            rows = read.get(run.run_id)
            other = known.get(run.digest) if run.digest else None
            if rows is not None and rows.values is None and other is not None:
                same = np.array_equal(rows.targets, other.targets)
                rows = _Rows(rows.scores, rows.targets, other.values if same else None)
            if rows is None or rows.values is None:
                left_out += 1
            else:
                found.setdefault(arm.label, []).append(rows)
    notes = [f"{left_out} runs did not keep {column} and are left out"] if left_out else []
    return found, notes


def _read(path: Path, column: str) -> _Rows:
    table = pq.read_table(path, filters=[("split", "==", "test")])
    if "score" not in table.column_names:
        raise RequestError("report.by: recall in groups needs a binary task, this one has several")
    values = (
        table[column].to_pandas().to_numpy(dtype=object) if column in table.column_names else None
    )
    scores = table["score"].to_numpy().astype(np.float64)
    return _Rows(scores, table["target"].to_numpy(), values)


def _named(run: Run, column: str) -> str:
    """The column as a run's predictions name it: that of ``dataset.group`` is kept by itself."""
    return _GROUP if run.params.get("dataset.group") == column else column


def _refuse_unknown(column: str, paths: Mapping[str, Path], named: Mapping[str, str]) -> None:
    kept = {run_id: kept_columns(path) for run_id, path in paths.items()}
    if any(named[run_id] in names for run_id, names in kept.items()):
        return
    known = {name for names in kept.values() for name in names}
    raise RequestError(
        f"report.by={column}: no run kept this column beside its predictions; "
        f'{nearest(column, known)} (to keep it, train with "dataset.keep=[{column}]")'
    )


def _shown(counts: NDArray, names: Sequence[str]) -> tuple[list[int], list[int]]:
    """The groups to show, in their order, and those to count together: the fewest positives."""
    if len(names) <= MOST_LEVELS:
        return list(range(len(names))), []
    rows, positives = counts[:2]
    order = sorted(range(len(names)), key=lambda i: (-positives[i], -rows[i], i))
    return sorted(order[:MOST_LEVELS]), sorted(order[MOST_LEVELS:])


def _group(name: str, members: Iterable[int], counts: Mapping[str, NDArray], level: float) -> Group:
    own = list(members)
    sums = {label: table[:, own].sum(axis=1).tolist() for label, table in counts.items()}
    rows, positives, *_ = next(iter(sums.values()))
    cells = {}
    for label, (_, of, flagged, caught) in sums.items():
        recall = caught / of if of else float("nan")
        low, high = exact_interval(caught, of, level) if of else (recall, recall)
        cells[label] = Cell(flagged, caught, recall, low, high)
    return Group(name, rows, positives, cells)

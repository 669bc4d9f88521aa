"""Curves of arms with intervals: recall by share of rows flagged, precision by recall, and how far
probabilities can be trusted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from rarelab.compare import statistics
from rarelab.compare.arms import Unit
from rarelab.compare.pairs import FIXED, over_splits
from rarelab.compare.rows import TestRows, Weigh, resample_by, row_noise
from rarelab.figures.arms import Band
from rarelab.metrics.reliability import reliability
from rarelab.metrics.tie_groups import top_size

RESAMPLES = 300
"""Of the test rows: they estimate a standard error to within 4 %."""

RECALLS = np.arange(0.02, 1.001, 0.02)
_POINTS = 60
_SPAN = 20.0  # how far the budget is from either end of the axis, as a factor

Runs = Mapping[Unit, TestRows]


@dataclass(frozen=True)
class Bands:
    """By arm: recall by share of rows flagged, and precision by recall."""

    recall: Mapping[str, Band]
    precision: Mapping[str, Band]


def shares_around(budget: float, rows: int) -> NDArray[np.float64]:
    """Shares of the rows, evenly spaced on a logarithmic axis, the budget among them: from the
    smaller of a twentieth of it (at least a row) to twenty times it (at most all rows)."""
    low, high = max(budget / _SPAN, 1 / rows), min(1.0, budget * _SPAN)
    spaced = np.geomspace(min(low, budget), max(high, budget), _POINTS)
    return np.unique(np.append(spaced, budget))


def bands(
    arms: Mapping[str, Runs],
    budget: float,
    *,
    varied: str,
    ratio: float | None = None,
    level: float = 0.95,
) -> Bands | None:
    """The curves of arms on one data set, each with an interval at every point.

    On one fixed split, test rows are resampled and their noise is added to that of the seeds, as
    for a difference (:func:`~rarelab.compare.rows.row_noise`). Otherwise every run has test rows
    of its own, so that the spread over runs holds both: Student's interval, corrected over splits.

    Args:
        arms: by name, the test rows of its runs.
        budget: the share of rows in the middle of the axis.
        varied: what varies between the runs (:mod:`rarelab.compare.pairs`).
        ratio: test rows / training rows of overlapping splits.
        level: of the intervals.

    Returns:
        None where the task has several classes, or the runs of a split have different rows.
    """
    every = [rows for runs in arms.values() for rows in runs.values()]
    if not every or any(rows.scores.shape[1] > 1 or not rows.targets.any() for rows in every):
        return None
    shares = shares_around(budget, min(len(rows.targets) for rows in every))
    if varied == FIXED or all(len(runs) == 1 for runs in arms.values()):
        found = _over_rows(arms, shares, level)
    else:
        found = {name: _over_runs(runs, shares, ratio, level) for name, runs in arms.items()}
    if found is None:
        return None
    cut = len(shares)
    return Bands(
        {name: Band(shares, *(part[:cut] for part in parts)) for name, parts in found.items()},
        {name: Band(RECALLS, *(part[cut:] for part in parts)) for name, parts in found.items()},
    )


def reliability_of(runs: Sequence[tuple[NDArray, NDArray]]) -> dict[str, list[float]]:
    """The reliability of an arm from the probabilities and positives [N] of each of its runs,
    pooled; the intervals (Wilson's) are those of the rows of a single run."""
    probabilities, positives = (np.concatenate(part) for part in zip(*runs, strict=True))
    return reliability(torch.tensor(probabilities), torch.tensor(positives), repeats=len(runs))


def _over_rows(
    arms: Mapping[str, Runs], shares: NDArray, level: float
) -> dict[str, list[NDArray]] | None:
    every = [rows for runs in arms.values() for rows in runs.values()]
    try:
        values = resample_by(every, [curves(rows, shares) for rows in every], most=RESAMPLES)
    except ValueError:
        return None
    found, start = {}, 0
    for name, runs in arms.items():
        own = values[start : start + len(runs)]
        start += len(runs)
        noises = [row_noise(own[:, p], every[0].targets, level=level) for p in range(own.shape[1])]
        found[name] = [
            np.array([noise.difference for noise in noises]),
            np.clip([noise.low for noise in noises], 0, 1),
            np.clip([noise.high for noise in noises], 0, 1),
        ]
    return found


def _over_runs(
    runs: Runs, shares: NDArray, ratio: float | None, level: float
) -> list[NDArray[np.float64]]:
    ones = [np.ones((len(rows.targets), 1), np.float32) for rows in runs.values()]
    values = np.stack(
        [curves(rows, shares)(one)[:, 0] for rows, one in zip(runs.values(), ones, strict=True)]
    )
    ends = []
    for point in values.T:
        each = point if ratio is None else over_splits(list(runs), point)
        ends.append(statistics.mean_interval(each, level=level, ratio=ratio))
    low, high = np.clip(np.transpose(ends), 0, 1)
    return [values.mean(axis=0), low, high]


def curves(run: TestRows, shares: NDArray) -> Weigh:
    """Recall at each of the shares, then precision at each of `RECALLS`, as a function of weights.

    Recall in the top of the weighted rows, ties in expectation; precision at the highest threshold
    "score >= t" with at least that recall, t the scores of the positives. Both follow from the
    weights of two kinds of cells in turn: the rows between two scores of positives, and those that
    tie with one.
    """
    scores, positives = run.scores[:, 0], run.targets == 1
    unique = np.unique(scores[positives])
    group = len(unique) - np.searchsorted(unique, scores, side="right")
    tied = np.append(unique, np.nan)[len(unique) - 1 - group] == scores
    cells = _members(2 * group + tied, 2 * len(unique) + 1)
    hits_of = _members(np.where(positives, group, -1), len(unique))
    sizes = np.array([top_size(share, len(scores)) for share in shares])

    def weigh(weights: NDArray) -> NDArray[np.float64]:
        reached = np.cumsum(cells @ weights, axis=0, dtype=np.float64)
        hits = np.cumsum(hits_of @ weights, axis=0, dtype=np.float64)
        tops = sizes[:, None] * (reached[-1] / len(scores))  # the weights of groups vary in sum
        found = [_curves(reached[:, b], hits[:, b], tops[:, b]) for b in range(weights.shape[1])]
        return np.stack(found, axis=1)

    return weigh


def _curves(reached: NDArray, hits: NDArray, sizes: NDArray) -> NDArray[np.float64]:
    """The curves under one column of weights: rows [2G + 1] and positives [G] at or above."""
    total = hits[-1] if len(hits) else 0.0
    if not total:
        return np.full(len(sizes) + len(RECALLS), np.nan)
    # Before the rows that tie with a positive nothing is caught, among them a proportional part.
    caught = np.concatenate([[0.0, 0.0], np.repeat(hits, 2)])
    recall = np.interp(sizes, np.append(0.0, reached), caught) / total
    first = np.searchsorted(hits, RECALLS * total * (1 - 1e-9))
    precision = hits[first] / reached[1::2][first]
    return np.concatenate([recall, precision])


def _members(cell: NDArray, cells: int) -> csr_matrix:
    """Indicator [cells, N] of the rows in each cell; a row of cell -1 is in none."""
    rows = np.flatnonzero(cell >= 0)
    ones = np.ones(len(rows), dtype=np.float32)
    return csr_matrix((ones, (cell[rows], rows)), shape=(cells, len(cell)))

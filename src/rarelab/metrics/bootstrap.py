"""How much average precision would vary with other test rows: a percentile bootstrap.

A resample of N rows with replacement gives each row an integer weight. Average precision depends
only on the total weight between one positive tie group and the next, so weights are drawn for these
cells rather than for rows: cell counts under a multinomial over rows are multinomial over cells.
"""

import math
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor

from rarelab.metrics.tie_groups import as_array, as_mask

FEWEST_POSITIVES = 7
"""With fewer positives there is no interval: simulated, 95 % percentile intervals then cover the
true value in 24 to 43 % (one positive) to 87 to 91 % (five); docs/statistics.md has the table."""

Weigh = Callable[[NDArray], NDArray[np.float64]]
"""Maps row weights [N, B] to a metric under each column, [B], or to a curve, [P, B]."""

# With fewer rows per cell, drawing an integer per row is faster than a binomial per cell.
_ROWS_PER_CELL = 12
# Small enough to stay in cache.
_CHUNK_ENTRIES = 100_000


def bootstrap_interval(
    scores: Tensor,
    positives: Tensor,
    *,
    seed: int,
    n: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of the average precision over resampled rows (Efron 1979).

    scores [N] or [N, C] raw, positives bool of the same shape; with columns, the macro average over
    the columns that have a positive in the resample, all under the same row weights. Returns the
    ``(1 ± level)/2`` quantiles of ``n`` multinomial resamples; ties are handled as in weighted
    average precision (scikit-learn with ``sample_weight``). Resamples without positives are
    dropped; (NaN, NaN) if a column has positives, but fewer than ``FEWEST_POSITIVES``, if none has
    any, or if a score is NaN. Deterministic given ``seed``, with its own generator.

    Raises ValueError unless n >= 1 and 0 < level < 1, and for positives other than 0 and 1.
    """
    if n < 1 or not 0 < level < 1:
        raise ValueError(f"expected n >= 1 and 0 < level < 1, got n={n} and level={level}")
    values = as_array(scores)
    mask = as_mask(positives)
    if values.ndim == 1:
        values, mask = values[:, None], mask[:, None]
    if values.shape != mask.shape:
        raise ValueError(f"scores {values.shape} and positives {mask.shape} differ in shape")
    if fewest_positives(mask) < FEWEST_POSITIVES or np.isnan(values).any():
        return float("nan"), float("nan")
    found = resampled_precision(values, mask, np.random.default_rng(seed), n)
    found = found[~np.isnan(found)]
    if not len(found):
        return float("nan"), float("nan")
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def fewest_positives(positives: NDArray[np.bool_]) -> int:
    """Of the columns [N, C] that have positives, the fewest in one; 0 if none has any."""
    counts = positives.sum(axis=0)
    return int(counts[counts > 0].min(initial=len(positives))) if counts.any() else 0


def resampled_precision(
    scores: NDArray, positives: NDArray, rng: np.random.Generator, n: int
) -> NDArray[np.float64]:
    """Macro average precision of ``n`` resamples, [n]; NaN where no column has a positive."""
    columns = [
        Cells(scores[:, c], positives[:, c])
        for c in range(scores.shape[1])
        if positives[:, c].any()
    ]
    rows = len(scores)
    if len(columns) == 1:
        cells = columns[0]
        if len(cells.sizes) * _ROWS_PER_CELL < rows:
            return np.concatenate([_precision(c) for c in _cell_counts(rng, cells.sizes, n)])
        cells.renumber()
    return np.concatenate([_macro(columns, weights) for weights in _row_weights(rng, rows, n)])


def weighted_precision(positives: NDArray, negatives: NDArray) -> NDArray[np.float64]:
    """Average precision [B] from the weights [B, G], best group first, of each tie group's
    positives and of the negatives between the previous group and the end of this one."""
    hits = np.cumsum(positives, axis=1)
    rows = np.cumsum(negatives, axis=1) + hits
    precision = hits / np.maximum(rows, 1)
    total = hits[:, -1].astype(np.float64)
    area = np.einsum("bg,bg->b", positives.astype(np.float64), precision)
    return np.divide(area, total, out=np.full(len(total), np.nan), where=total > 0)


def reach_of(size: int) -> int:
    """Far more rows than any resample has to pass to fill its top ``size``."""
    return size + math.ceil(10 * math.sqrt(size)) + 50


def gain_in_top(
    scores: NDArray,
    gain: NDArray,
    size: int,
    *,
    of_size: bool = False,
    share: Fraction | None = None,
) -> Weigh:
    """The share of all ``gain`` [N] in the top ``size`` weighted rows, or, ``of_size``, their gain
    per row; ties count in expectation.

    Recall and precision if a positive's gain is 1, value-weighted recall if it is its amount.
    With ``share``, the weights need not sum to N, and the top is that share of their sum.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=np.nan))
    if share is None:
        ends = ends[: np.searchsorted(ends, reach_of(size)) + 1]
    upper = order[: ends[-1] + 1]
    own = gain[upper][:, None]
    some = np.flatnonzero(gain)

    def weigh(weights: NDArray) -> NDArray[np.float64]:
        top: int | NDArray = size
        if share is not None:
            totals = weights.sum(axis=0, dtype=np.float64).tolist()
            top = np.array([math.ceil(share * int(total)) for total in totals])
        taken = weights[upper].astype(np.float64)
        reached = np.cumsum(taken, axis=0)[ends]
        gains = np.cumsum(taken * own, axis=0)[ends]
        last = np.argmax(reached >= top, axis=0)
        column = np.arange(weights.shape[1])
        before = np.where(last > 0, reached[last - 1, column], 0.0)
        found = np.where(last > 0, gains[last - 1, column], 0.0)
        part = (top - before) / np.maximum(reached[last, column] - before, 1e-300)
        found = found + part * (gains[last, column] - found)
        if of_size:
            return found / top
        total = gain[some] @ weights[some].astype(np.float64)
        return np.divide(found, total, out=np.full(len(total), np.nan), where=total > 0)

    return weigh


class Cells:
    """Rows sorted into cells: positives of group 1, negatives down to its end, ..., the rest."""

    def __init__(self, scores: NDArray, positives: NDArray) -> None:
        unique = np.unique(scores[positives])
        # The best group whose score the row reaches: from there on it counts towards the rank.
        group = len(unique) - np.searchsorted(unique, scores, side="right")
        cell = np.minimum(2 * group + ~positives, 2 * len(unique))
        self.sizes = np.bincount(cell, minlength=2 * len(unique) + 1)
        self._order: NDArray | None = np.argsort(cell, kind="stable")
        self._edges = np.concatenate([[0], np.cumsum(self.sizes)])

    def renumber(self) -> None:
        """Treat rows as numbered by cell: row identity only matters with several columns."""
        self._order = None

    def members(self) -> csr_matrix:
        """Indicator [cells, N] of the rows in each cell; times weights [N, B] it gives counts."""
        assert self._order is not None, "renumbered"
        ones = np.ones(len(self._order), dtype=np.float32)
        shape = (len(self.sizes), len(self._order))
        return csr_matrix((ones, self._order.astype(np.int32), self._edges), shape=shape)

    def counts(self, weights: NDArray) -> NDArray:
        """Weight of every cell, [B, cells], from the weights of the rows [B, N]."""
        if self._order is not None:
            weights = np.take(weights, self._order, axis=1)
        cumulative = np.zeros((len(weights), weights.shape[1] + 1), dtype=np.int64)
        np.cumsum(weights, axis=1, out=cumulative[:, 1:])
        return np.diff(np.take(cumulative, self._edges, axis=1), axis=1)


def _cell_counts(rng: np.random.Generator, sizes: NDArray, n: int) -> Iterator[NDArray]:
    rows = int(sizes.sum())
    for resamples in chunks(n, len(sizes)):
        yield rng.multinomial(rows, sizes / rows, size=resamples)


def _row_weights(rng: np.random.Generator, rows: int, n: int) -> Iterator[NDArray]:
    for resamples in chunks(n, rows):
        draws = (rng.integers(0, rows, size=rows) for _ in range(resamples))
        yield np.stack([np.bincount(draw, minlength=rows) for draw in draws])


def chunks(n: int, width: int) -> Iterator[int]:
    """How many of ``n`` resamples of ``width`` weights to draw at a time."""
    step = max(1, _CHUNK_ENTRIES // width)
    for start in range(0, n, step):
        yield min(step, n - start)


def _precision(counts: NDArray) -> NDArray[np.float64]:
    return weighted_precision(counts[:, 0:-1:2], counts[:, 1:-1:2])


def _macro(columns: list[Cells], weights: NDArray) -> NDArray[np.float64]:
    total, present = np.zeros(len(weights)), np.zeros(len(weights))
    for cells in columns:
        value = _precision(cells.counts(weights))
        total += np.nan_to_num(value)
        present += ~np.isnan(value)
    return np.divide(total, present, out=np.full(len(total), np.nan), where=present > 0)

"""Ranking metrics of N scores, from the groups of tied rows that hold a positive.

Every metric of a ranked list with P positives follows from at most P tie groups, so one sort of the
values (no argsort) serves all metrics, however rare the positives are.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Counts = NDArray[Any]  # int64, or float64 when rows are weighted


@dataclass(frozen=True)
class TieGroups:
    """Tie groups that hold at least one positive, highest score first; arrays are [G], G <= P.

    Rows are counted or, with weights, summed by weight (all float64).
    """

    score: NDArray
    positives: Counts  # positives in the group
    above: Counts  # rows with a strictly higher score
    reached: Counts  # rows with this score or a higher one
    rows: int | float
    has_nan: bool

    @property
    def hits(self) -> Counts:
        """Positives with this score or a higher one, [G]."""
        return np.cumsum(self.positives)

    @property
    def n_positives(self) -> int | float:
        """P."""
        return self.positives.sum().item()

    @property
    def false_positives(self) -> Counts:
        """Negatives with this score or a higher one, [G]."""
        return np.maximum(self.reached - self.hits, 0)

    def top(self, quantile: float) -> int | float:
        """The size of the top ``quantile``: ⌈qN⌉ rows, or the share q of the weight."""
        return top_size(quantile, self.rows) if isinstance(self.rows, int) else quantile * self.rows


def tie_groups(scores: Tensor, positives: Tensor, weights: Tensor | None = None) -> TieGroups:
    """Groups of ``scores`` [N] (any float dtype) under the mask ``positives`` [N].

    NaN scores cannot be ranked: they leave no groups and set ``has_nan``. Rows of weight 0 are
    dropped. Raises ValueError if the shapes differ or are not one-dimensional, a mark is neither 0
    nor 1, or a weight is negative or not finite.
    """
    if scores.ndim != 1 or scores.shape != positives.shape:
        raise ValueError(
            f"scores and positives must both be [N], got {list(scores.shape)} "
            f"and {list(positives.shape)}"
        )
    values, mask = as_array(scores), as_mask(positives)
    if weights is not None:
        return _weighted_groups(values, mask, _as_weights(weights, len(values)))
    ordered = np.sort(values)
    n = len(values)
    has_nan = n > 0 and bool(np.isnan(ordered[-1]))
    unique, counts = np.unique(values[mask & (not has_nan)], return_counts=True)
    above = n - np.searchsorted(ordered, unique, side="right")
    reached = n - np.searchsorted(ordered, unique, side="left")
    return TieGroups(unique[::-1], counts[::-1], above[::-1], reached[::-1], n, has_nan)


def _weighted_groups(values: NDArray, mask: NDArray, weights: NDArray[np.float64]) -> TieGroups:
    values, mask, weights = values[weights > 0], mask[weights > 0], weights[weights > 0]
    order = np.argsort(values)
    ordered, below = values[order], np.concatenate([[0.0], np.cumsum(weights[order])])
    has_nan = len(values) > 0 and bool(np.isnan(ordered[-1]))
    mask = mask & (not has_nan)
    unique, group = np.unique(values[mask], return_inverse=True)
    above = below[-1] - below[np.searchsorted(ordered, unique, side="right")]
    reached = below[-1] - below[np.searchsorted(ordered, unique, side="left")]
    inside = np.bincount(group, weights=weights[mask], minlength=len(unique))
    total = float(below[-1])
    return TieGroups(unique[::-1], inside[::-1], above[::-1], reached[::-1], total, has_nan)


def _as_weights(weights: Tensor, rows: int) -> NDArray[np.float64]:
    found = weights.detach().cpu().double().numpy()
    if found.shape != (rows,) or not (np.isfinite(found).all() and (found >= 0).all()):
        raise ValueError(f"weights must be [{rows}], finite and at least 0")
    return found


def as_array(scores: Tensor) -> NDArray:
    """Scores as numpy in their own precision; half precision becomes float32."""
    scores = scores.detach().cpu()
    return (scores.float() if scores.dtype.itemsize < 4 else scores).numpy()


def as_mask(positives: Tensor) -> NDArray[np.bool_]:
    """The positives as a numpy mask, from booleans or from the numbers 0 and 1.

    Raises ValueError for other labels (-1 and 1, an ignored -100), since all of them except 0 would
    count as positive.
    """
    marks = positives.detach().cpu()
    if marks.dtype != torch.bool:
        foreign = marks[(marks != 0) & (marks != 1)]
        if len(foreign):
            raise ValueError(
                f"positives must be bool, or 0 and 1, found {foreign[0].item():g}: pass "
                "targets == the positive class, without ignored rows"
            )
    return marks.numpy().astype(bool)


def top_size(quantile: float, rows: int) -> int:
    """⌈qN⌉ with q as the decimal written: 0.07 · 100 is 7, though in binary it is slightly more."""
    return math.ceil(Fraction(repr(float(quantile))) * rows)


def average_precision(groups: TieGroups) -> float:
    """Σ_g (positives_g / P) · precision at the end of group g, as in scikit-learn. NaN if P = 0."""
    if groups.n_positives == 0:
        return math.nan
    precision = groups.hits / groups.reached
    return float(groups.positives @ precision / groups.n_positives)


def auroc(groups: TieGroups) -> float:
    """P(s⁺ > s⁻) + ½ P(s⁺ = s⁻) (Mann-Whitney). NaN without a positive or a negative."""
    n_positives = groups.n_positives
    n_negatives = groups.rows - n_positives
    if n_positives == 0 or n_negatives == 0:
        return math.nan
    higher = groups.false_positives
    tied = groups.reached - groups.above - groups.positives
    lost = groups.positives @ (higher - tied / 2)
    return float(1 - lost / (n_positives * n_negatives))


def hits_in_top(groups: TieGroups, sizes: Counts) -> NDArray[np.float64]:
    """Expected positives among the top k rows with ties in random order, for each k [K].

    NaN if a score is NaN.
    """
    if groups.has_nan:
        return np.full(len(sizes), math.nan)
    whole = np.searchsorted(groups.reached, sizes, side="right")
    found = np.concatenate([[0], groups.hits])[whole].astype(np.float64)
    cut = whole < len(groups.reached)
    g = whole[cut]
    inside = np.clip(sizes[cut] - groups.above[g], 0, None)
    found[cut] += groups.positives[g] * inside / (groups.reached[g] - groups.above[g])
    return found


def recall_in_top(groups: TieGroups, quantile: float) -> float:
    """Share of the positives in the top ⌈qN⌉ rows, expected over random order among ties.

    NaN without a positive. Raises ValueError unless 0 < quantile <= 1.
    """
    found = _hits(groups, quantile)
    return found / groups.n_positives if groups.n_positives else math.nan


def recall_in_first(groups: TieGroups, size: int) -> float:
    """Share of the positives in the top ``size`` rows: `recall_in_top` by a number of rows."""
    found = float(hits_in_top(groups, np.array([size]))[0])
    return found / groups.n_positives if groups.n_positives else math.nan


def precision_in_first(groups: TieGroups, size: int) -> float:
    """Share of positives in the top ``size`` rows: `precision_in_top` by a number of rows."""
    return float(hits_in_top(groups, np.array([size]))[0]) / size if size else math.nan


def alerts_in_first(groups: TieGroups, size: int) -> float:
    """``size`` itself, for the record."""
    return float(size)


def precision_in_top(groups: TieGroups, quantile: float) -> float:
    """Share of positives in the top ⌈qN⌉ rows, expected over random order among ties.

    NaN without rows. Raises ValueError unless 0 < quantile <= 1.
    """
    found = _hits(groups, quantile)
    return found / groups.top(quantile) if groups.rows else math.nan


def _hits(groups: TieGroups, quantile: float) -> float:
    if not 0 < quantile <= 1:
        raise ValueError(f"quantile must lie in (0, 1], got {quantile}")
    return float(hits_in_top(groups, np.array([groups.top(quantile)]))[0])


def prevalence(groups: TieGroups) -> float:
    """P / N: the average precision of a random scorer. NaN without rows."""
    return groups.n_positives / groups.rows if groups.rows else math.nan


def recall_at_fpr(groups: TieGroups, fpr: float) -> float:
    """Largest TPR over the thresholds "score >= t" whose FPR is at most ``fpr``.

    No interpolation between thresholds: a tie group is included entirely or not at all, so this is
    what a deterministic rule can reach. NaN without a positive or a negative.
    """
    n_positives = groups.n_positives
    n_negatives = groups.rows - n_positives
    if n_positives == 0 or n_negatives == 0:
        return math.nan
    if isinstance(groups.rows, int):
        allowed = math.floor(Fraction(repr(float(fpr))) * n_negatives)
    else:
        allowed = fpr * n_negatives * (1 + 1e-12)  # sums of weights are rounded
    within = np.searchsorted(groups.false_positives, allowed, side="right")
    return float(groups.hits[within - 1] / n_positives) if within else 0.0


def precision_at_recall(groups: TieGroups, recall: float) -> float:
    """Precision at the highest threshold "score >= t" whose recall is at least ``recall``.

    NaN without a positive.
    """
    n_positives = groups.n_positives
    if n_positives == 0:
        return math.nan
    if isinstance(groups.rows, int):
        needed = math.ceil(Fraction(repr(float(recall))) * n_positives)
    else:
        needed = recall * n_positives * (1 - 1e-12)  # sums of weights are rounded
    g = min(int(np.searchsorted(groups.hits, needed, side="left")), len(groups.hits) - 1)
    return float(groups.hits[g] / groups.reached[g])


def partial_auroc(groups: TieGroups, fpr: float) -> float:
    """Mean true-positive rate over false-positive rates from 0 to ``fpr``; 1 is perfect.

    The ROC curve is linear across a tie group and cut at the edge of the band; at ``fpr=1`` this
    equals `auroc`. NaN without a positive or a negative.
    """
    n_positives = groups.n_positives
    n_negatives = groups.rows - n_positives
    if n_positives == 0 or n_negatives <= 0:
        return math.nan
    end = groups.false_positives / n_negatives
    tied = np.maximum(groups.reached - groups.above - groups.positives, 0) / n_negatives
    reach = np.maximum(fpr - (end - tied), 0)  # of the band, from the start of the group
    cut = reach < tied
    rising = np.divide(reach**2, 2 * tied, out=np.zeros_like(reach), where=cut)
    area = np.where(cut, rising, reach - tied / 2)
    return float(groups.positives @ area / (n_positives * fpr))

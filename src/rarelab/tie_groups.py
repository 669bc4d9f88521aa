"""What a ranking metric needs to know of N scores: the groups of tied rows that hold a positive.

Every metric of a ranked list of which only P rows are positive follows from at most P numbers per
column, so one sort of the values (no argsort) serves them all, however rare the positives are.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class TieGroups:
    """Tie groups that hold at least one positive, highest score first; arrays are [G], G <= P."""

    score: NDArray
    positives: Counts  # positives in the group
    above: Counts  # rows with a strictly higher score
    reached: Counts  # rows with this score or a higher one
    rows: int
    has_nan: bool

    @property
    def hits(self) -> Counts:
        """Positives with this score or a higher one, [G]."""
        return np.cumsum(self.positives)

    @property
    def n_positives(self) -> int:
        """P."""
        return int(self.positives.sum())

    @property
    def false_positives(self) -> Counts:
        """Negatives with this score or a higher one, [G]."""
        return self.reached - self.hits


def tie_groups(scores: Tensor, positives: Tensor) -> TieGroups:
    """Groups of ``scores`` [N] (any float dtype) under the mask ``positives`` [N].

    A NaN among the scores leaves no groups and sets ``has_nan``: it has no place in a ranking.
    Raises ValueError when the shapes differ or are not one-dimensional.
    """
    if scores.ndim != 1 or scores.shape != positives.shape:
        raise ValueError(
            f"scores and positives must both be [N], got {list(scores.shape)} "
            f"and {list(positives.shape)}"
        )
    values, mask = as_array(scores), positives.detach().cpu().numpy().astype(bool)
    ordered = np.sort(values)
    n = len(values)
    has_nan = n > 0 and bool(np.isnan(ordered[-1]))
    unique, counts = np.unique(values[mask & (not has_nan)], return_counts=True)
    above = n - np.searchsorted(ordered, unique, side="right")
    reached = n - np.searchsorted(ordered, unique, side="left")
    return TieGroups(unique[::-1], counts[::-1], above[::-1], reached[::-1], n, has_nan)


def as_array(scores: Tensor) -> NDArray:
    """Scores as numpy in their own precision; half precision becomes float32."""
    scores = scores.detach().cpu()
    return (scores.float() if scores.dtype.itemsize < 4 else scores).numpy()


def top_size(quantile: float, rows: int) -> int:
    """⌈qN⌉ of the decimal that was written: 0.07 · 100 is 7, though in binary it is just above."""
    return math.ceil(Fraction(repr(float(quantile))) * rows)


def average_precision(groups: TieGroups) -> float:
    """Σ_g (positives_g / P) · precision at the end of group g, as scikit-learn's. NaN if P = 0."""
    if groups.n_positives == 0:
        return math.nan
    precision = groups.hits / groups.reached
    return float(groups.positives @ precision / groups.n_positives)


def auroc(groups: TieGroups) -> float:
    """P(s⁺ > s⁻) + ½ P(s⁺ = s⁻) (Mann-Whitney). NaN without a positive or without a negative."""
    n_positives = groups.n_positives
    n_negatives = groups.rows - n_positives
    if n_positives == 0 or n_negatives == 0:
        return math.nan
    higher = groups.false_positives
    tied = groups.reached - groups.above - groups.positives
    lost = groups.positives @ (higher - tied / 2)
    return float(1 - lost / (n_positives * n_negatives))


def hits_in_top(groups: TieGroups, sizes: Counts) -> NDArray[np.float64]:
    """Expected positives among the top k rows under random order within ties, for each k [K].

    NaN if the scores hold one.
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


def recall_at_fpr(groups: TieGroups, fpr: float) -> float:
    """Largest TPR over the thresholds "score >= t" whose FPR is at most ``fpr``.

    No interpolation between thresholds: a tie group is taken whole or left out, so this is what a
    deterministic rule can reach. NaN without a positive or without a negative.
    """
    n_positives = groups.n_positives
    n_negatives = groups.rows - n_positives
    if n_positives == 0 or n_negatives == 0:
        return math.nan
    allowed = math.floor(Fraction(repr(float(fpr))) * n_negatives)
    within = np.searchsorted(groups.false_positives, allowed, side="right")
    return float(groups.hits[within - 1] / n_positives) if within else 0.0

"""Recall weighted by value: the share of the positives' amount in the top of the ranking.

A missed fraud of 5 000 costs more than ten of 100, which counted recall cannot tell apart.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rarelab.metrics.bootstrap import FEWEST_POSITIVES, chunks, gain_in_top, reach_of
from rarelab.metrics.tie_groups import TieGroups, as_array, as_mask, tie_groups


def valued_groups(scores: Tensor, positives: Tensor, amounts: ArrayLike) -> TieGroups:
    """Tie groups of scores [N] whose ``positives`` are sums of the positives' amounts, [G].

    Of these groups, :func:`~rarelab.metrics.tie_groups.recall_in_top` is value-weighted recall,
    Σ_{i positive, in the top ⌈qN⌉} a_i / Σ_{i positive} a_i, expected over random order among ties;
    NaN if the positives are worth nothing. Raises ValueError unless ``amounts`` is [N].
    """
    groups = tie_groups(scores, positives)
    values, mask, worth = as_array(scores), as_mask(positives), _checked(amounts, len(scores))
    place = np.searchsorted(groups.score[::-1], values[mask & (not groups.has_nan)])
    sums = np.bincount(
        place, weights=worth[mask & (not groups.has_nan)], minlength=len(groups.score)
    )
    return replace(groups, positives=sums[::-1])


def amount_per_row(positives: Tensor, amounts: ArrayLike) -> float:
    """The positives' amount, Σ_{i positive} a_i, divided by the number of rows."""
    worth = _checked(amounts, len(positives))
    return float(worth[as_mask(positives)].sum() / len(worth)) if len(worth) else float("nan")


def value_recall_interval(
    scores: Tensor,
    positives: Tensor,
    amounts: ArrayLike,
    size: int,
    *,
    seed: int,
    n: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of value-weighted recall in the top ``size`` over resampled rows.

    As :func:`~rarelab.metrics.bootstrap.bootstrap_interval`: ``n`` multinomial resamples of the
    rows [N] (Efron 1979), deterministic given ``seed``; (NaN, NaN) with fewer than
    ``FEWEST_POSITIVES`` positives or a NaN score. Resamples whose positives are worth nothing
    are dropped.
    """
    values, mask = as_array(scores).astype(np.float64), as_mask(positives)
    worth = np.where(mask, _checked(amounts, len(values)), 0.0)
    if mask.sum() < FEWEST_POSITIVES or np.isnan(values).any():
        return float("nan"), float("nan")
    found = _resampled(values, worth, size, seed, n)
    found = found[~np.isnan(found)]
    if not len(found):
        return float("nan"), float("nan")
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resampled(
    scores: NDArray, worth: NDArray, size: int, seed: int, n: int
) -> NDArray[np.float64]:
    """The metric of ``n`` resamples. Rows that no resample has in its top and that are worth
    nothing are one cell: counts under a multinomial over rows are multinomial over cells."""
    order = np.argsort(-scores, kind="stable")
    upper = np.zeros(len(scores), dtype=bool)
    upper[order[: reach_of(size)]] = True
    upper |= scores >= scores[upper].min()  # whole tie groups
    own = np.flatnonzero(upper | (worth > 0))
    rest = len(scores) - len(own)
    shares = np.append(np.full(len(own), 1.0), rest) / len(scores)
    weigh = gain_in_top(np.append(scores[own], -np.inf), np.append(worth[own], 0.0), size)
    rng = np.random.default_rng(seed)
    parts = [weigh(rng.multinomial(len(scores), shares, size=b).T) for b in chunks(n, len(shares))]
    return np.concatenate(parts)


def _checked(amounts: ArrayLike, rows: int) -> NDArray[np.float64]:
    found = np.asarray(amounts, dtype=np.float64)
    if found.shape != (rows,):
        raise ValueError(f"amounts must be [{rows}], got {list(found.shape)}")
    return found

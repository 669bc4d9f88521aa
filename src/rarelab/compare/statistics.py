"""Paired tests and the intervals that belong to them, on plain arrays of differences.

Every interval here is the set of shifts that its own test does not reject, so the interval leaves
zero out exactly when the test rejects at ``1 - level``. A test on few pairs has few p-values to
give, so it cannot be inverted at 95 % on the dot: an interval carries the ``level`` that it has.

=====  =========================  =============================================================
pairs  test                       interval
=====  =========================  =============================================================
2-4    sign-flip, p >= 0.125      the whole line: no shift can be rejected near 5 %
5      sign-flip, p >= 0.0625     from the lowest to the highest difference, level 93.75 %: what
                                  this test can say at n = 5, stated as what it is
6-16   sign-flip                  inverted at the largest attainable level of at most 5 %
17-    Wilcoxon signed rank       Walsh averages (Hodges and Lehmann 1963), likewise
any    corrected resampled t      t, where the splits differ and so overlap in training rows
=====  =========================  =============================================================

The sign-flip test asks for differences that are symmetric about their mean and nothing else: it
holds for metrics that are bounded, discrete or skewed between runs, where five values cannot show
that they are normal. A percentile bootstrap over seeds would cover 84 % at n = 5.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

MAX_EXACT = 16
"""Pairs up to which all sign patterns are counted: 65 536 of them."""

MIN_SPLITS = 5
"""Fewer splits than this leave the spread of the differences, and with it the corrected t,
unknown within a factor of three."""

_TOLERANCE = 1e-12
_NEAR = 0.02  # a level this far from the one asked for still serves, if it is said


@dataclass(frozen=True)
class PairedTest:
    """A test of paired differences against zero, with its interval.

    ``least_p`` is the smallest p-value that the test can give with so many pairs. ``low`` and
    ``high`` are infinite where no shift can be rejected. An endpoint that is exactly zero (only
    ties give one) is to be read by ``p``.
    """

    name: str
    n: int
    difference: float
    p: float
    low: float
    high: float
    level: float
    least_p: float


def paired_test(
    differences: Sequence[float] | NDArray, *, level: float = 0.95, ratio: float | None = None
) -> PairedTest:
    """The test that fits n differences: sign-flip to 16 pairs, Wilcoxon beyond.

    ``ratio`` (test rows / training rows) says that each difference comes from another random split
    of the same rows: then it is :func:`corrected_t`.

    Raises ValueError without a difference, or if one is not finite.
    """
    d = np.asarray(differences, dtype=float)
    if not len(d) or not np.isfinite(d).all():
        raise ValueError(f"expected finite differences, at least one, got {d!r}")
    if ratio is not None:
        return corrected_t(d, ratio, level=level)
    return sign_flip(d, level=level) if len(d) <= MAX_EXACT else wilcoxon(d, level=level)


def sign_flip(d: NDArray, *, level: float = 0.95) -> PairedTest:
    """Exact permutation test of paired differences [n], n <= 16: all 2^n changes of their signs.

    p = share of the sign patterns s with |Σ s_i d_i| >= |Σ d_i| (Fisher 1935, § 21). The shifts
    that it does not reject at α lie between the k-th smallest and the k-th largest mean of the
    2^n − 1 subsets of the differences, k = ⌊α 2^(n−1)⌋ (Hartigan 1969): exact coverage
    1 − k / 2^(n−1) under symmetry.
    """
    n = len(d)
    sums = _subsets(n) @ d
    total = d.sum()
    slack = _TOLERANCE * np.abs(d).sum()
    p = float(np.mean(np.abs(total - 2 * sums) >= abs(total) - slack))
    k = _rejected(n, level)
    if not k:
        return PairedTest("sign-flip", n, d.mean(), p, -math.inf, math.inf, level, 2.0 ** (1 - n))
    means = np.sort(sums[1:] / _subsets(n)[1:].sum(axis=1))
    attained = 1 - k / 2 ** (n - 1)
    return PairedTest(
        "sign-flip", n, d.mean(), p, means[k - 1], means[-k], attained, 2.0 ** (1 - n)
    )


def wilcoxon(d: NDArray, *, level: float = 0.95) -> PairedTest:
    """Wilcoxon's signed-rank test of differences [n] (scipy's), and the interval of Walsh averages.

    The interval is for the pseudomedian, which is the mean where differences are symmetric. With
    ties or zeros scipy's p is the normal approximation, and the interval keeps the exact ranks.
    """
    n = len(d)
    p = float(stats.wilcoxon(d).pvalue) if np.any(d) else 1.0  # type: ignore[attr-defined]
    below = np.cumsum(_signed_rank_counts(n)) / 2.0**n
    k = int(np.searchsorted(2 * below, 1 - level + _TOLERANCE, side="right"))
    walsh = np.sort(((d[:, None] + d) / 2)[np.triu_indices(n)])
    attained = 1 - 2 * float(below[k - 1])
    return PairedTest(
        "Wilcoxon signed rank", n, d.mean(), p, walsh[k - 1], walsh[-k], attained, 2.0 ** (1 - n)
    )


def corrected_t(d: NDArray, ratio: float, *, level: float = 0.95) -> PairedTest:
    """Corrected resampled t test of differences [n] from n random splits (Nadeau & Bengio 2003).

    t = mean(d) / sqrt((1/n + n_test/n_train) · s²) with n − 1 degrees of freedom: splits overlap
    in training rows, so their differences are correlated and s²/n is too small a variance.
    """
    n = len(d)
    if n < 2:
        return PairedTest(
            "corrected resampled t", n, d.mean(), 1.0, -math.inf, math.inf, level, 1.0
        )
    error = math.sqrt((1 / n + ratio) * d.var(ddof=1))
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * error
    mean = float(d.mean())
    p = 2 * float(stats.t.sf(abs(mean) / error, n - 1)) if error else float(mean == 0)
    least = 0.0 if n >= MIN_SPLITS else 1.0
    return PairedTest("corrected resampled t", n, mean, p, mean - half, mean + half, level, least)


def mean_interval(
    values: Sequence[float] | NDArray, *, level: float = 0.95, ratio: float | None = None
) -> tuple[float, float]:
    """Student's t interval of a mean over runs; with ``ratio`` its variance is corrected as in
    :func:`corrected_t`. (NaN, NaN) for fewer than two values."""
    x = np.asarray(values, dtype=float)
    if len(x) < 2:
        return math.nan, math.nan
    error = math.sqrt((1 / len(x) + (ratio or 0.0)) * x.var(ddof=1))
    half = float(stats.t.ppf((1 + level) / 2, len(x) - 1)) * error
    return float(x.mean() - half), float(x.mean() + half)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p-values: the family-wise error stays at α whatever depends on what.

    In order of size, p̃_(i) = max over j <= i of min(1, (m − j + 1) p_(j)).
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = np.minimum(1.0, p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(stepped)
    return adjusted.tolist()


def standardised(differences: Sequence[float] | NDArray) -> float:
    """Cohen's d_z: the mean of the differences in units of their own standard deviation.

    Infinite for equal differences that are not zero; NaN for fewer than two.
    """
    d = np.asarray(differences, dtype=float)
    if len(d) < 2:
        return math.nan
    mean, spread = float(d.mean()), float(d.std(ddof=1))
    if spread <= _TOLERANCE * abs(mean):
        return math.copysign(math.inf, mean) if mean else 0.0
    return mean / spread


def superiority(differences: Sequence[float] | NDArray) -> float:
    """Share of the pairs whose difference is above zero, ties counted half."""
    d = np.asarray(differences, dtype=float)
    return float(np.mean(d > 0) + np.mean(d == 0) / 2)


def _rejected(n: int, level: float) -> int:
    """k = ⌊α 2^(n−1)⌋, or 1 where the level that one pattern gives is near enough."""
    patterns = 2 ** (n - 1)
    k = math.floor((1 - level) * patterns + _TOLERANCE)
    return k or int(abs(1 - 1 / patterns - level) <= _NEAR)


@cache
def _subsets(n: int) -> NDArray[np.float64]:
    """Which of n differences are in each of the 2^n subsets, [2^n, n]; the empty one first."""
    return ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(float)


@cache
def _signed_rank_counts(n: int) -> NDArray[np.float64]:
    """The number of subsets of 1..n with each sum, [n(n+1)/2 + 1]: the signed-rank null law."""
    counts = np.ones(1)
    for rank in range(1, n + 1):
        longer = np.zeros(len(counts) + rank)
        longer[: len(counts)] += counts
        longer[rank:] += counts
        counts = longer
    return counts

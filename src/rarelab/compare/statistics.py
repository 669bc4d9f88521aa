"""Paired tests and their intervals, on plain arrays of differences.

Every interval is the set of shifts that its own test does not reject, so it excludes zero exactly
when the test rejects at ``1 - level``, even with ties and zeros. With few pairs a test has few
possible p-values and cannot be inverted at exactly 95 %, so an interval carries the ``level`` it
attains.

=====  =========================  =============================================================
pairs  test                       interval
=====  =========================  =============================================================
2-4    sign-flip, p >= 0.125      the whole line: no shift can be rejected near 5 %
5      sign-flip, p >= 0.0625     from the lowest to the highest difference, level 93.75 %: the
                                  closest to 95 % that n = 5 allows
6-18   sign-flip, all patterns    inverted at the largest attainable level of at most 5 %
19-    sign-flip, 2^18 random     likewise
any    corrected resampled t      t, for different splits, which overlap in training rows
=====  =========================  =============================================================

The sign-flip test only assumes that differences are symmetric about their mean. It is valid for
bounded, discrete or skewed metrics, for samples too small to show normality, and for ties, which
are frequent in the recall of few positives. A percentile bootstrap over seeds would cover 84 % at
n = 5.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

MAX_EXACT = 18
"""Up to this many pairs all sign patterns are enumerated; beyond it, 2^18 random ones."""

MIN_SPLITS = 5
"""With fewer splits, the spread of the differences, and so the corrected t, is uncertain by a
factor of three; and few splits can tie by chance, which would leave no spread at all."""

_TOLERANCE = 1e-12
_NEAR = 0.02  # a level this close to the requested one is accepted, and stated
_AT_ONCE = 16  # differences per table of subsets


@dataclass(frozen=True)
class PairedTest:
    """A test of paired differences against zero, with its interval.

    ``least_p`` is the smallest p-value that the test can give with this many pairs. ``low`` and
    ``high`` are infinite where no shift can be rejected; the interval is closed.
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
    """:func:`sign_flip`, or :func:`corrected_t` if ``ratio`` (test rows / training rows) is given,
    which means that each difference comes from a different random split of the same rows.

    Raises ValueError if there is no difference, or one is not finite.
    """
    d = np.asarray(differences, dtype=float)
    if not len(d) or not np.isfinite(d).all():
        raise ValueError(f"expected finite differences, at least one, got {d!r}")
    if ratio is not None:
        return corrected_t(d, ratio, level=level)
    return sign_flip(d, level=level)


def sign_flip(d: NDArray, *, level: float = 0.95) -> PairedTest:
    """Permutation test of paired differences [n] over changes of their signs (Fisher 1935, § 21).

    p = share of the N sign patterns s with |Σ s_i d_i| >= |Σ d_i|. N = 2^n up to 18 differences;
    beyond, 2^18 random patterns (the same for every sample of n), including the observed one.
    Flipping the signs of a subset makes the sum at least as extreme exactly if the subset's mean
    is zero or on the other side of zero. So the shifts that the test does not reject at α lie
    between the k-th smallest and the k-th largest mean of N − 1 subsets, k = ⌊α N / 2⌋ (Hartigan
    1969): coverage 1 − 2k / N under symmetry.
    """
    n = len(d)
    half = _half(n)
    sums, sizes = _flipped(d), _subset_sums(np.ones(n))[1:]
    p = min(1.0, float(1 + min(np.sum(sums <= 0), np.sum(sums >= 0))) / half)
    k = _rejected(half, level)
    low, high, attained = -math.inf, math.inf, level
    if k:
        means = np.divide(sums, sizes, out=np.zeros_like(sums), where=sizes > 0)
        means.partition((k - 1, len(means) - k))
        low, high, attained = float(means[k - 1]), float(means[-k]), 1 - k / half
    return PairedTest("sign-flip", n, d.mean(), p, low, high, attained, 1 / half)


def corrected_t(d: NDArray, ratio: float, *, level: float = 0.95) -> PairedTest:
    """Corrected resampled t test of differences [n] from n random splits (Nadeau & Bengio 2003).

    t = mean(d) / sqrt((1/n + n_test/n_train) · s²) with n − 1 degrees of freedom: splits overlap
    in training rows, so their differences are correlated and s²/n is too small a variance. Fewer
    than five splits reject no shift: p = 1, and the interval is infinite.
    """
    n = len(d)
    if n < MIN_SPLITS:
        return PairedTest(
            "corrected resampled t", n, d.mean(), 1.0, -math.inf, math.inf, level, 1.0
        )
    error = math.sqrt((1 / n + ratio) * d.var(ddof=1))
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * error
    mean = float(d.mean())
    p = 2 * float(stats.t.sf(abs(mean) / error, n - 1)) if error else float(mean == 0)
    return PairedTest("corrected resampled t", n, mean, p, mean - half, mean + half, level, 0.0)


def equivalence_p(
    differences: Sequence[float] | NDArray, margin: float, *, ratio: float | None = None
) -> float:
    """p-value against "the mean is ``margin`` or more away from zero" (in the metric's units).

    Two one-sided tests (Schuirmann 1987), each at full level: that the mean is above -margin, and
    that it is below margin; the larger p-value counts. They are one-sided forms of the tests of
    :func:`paired_test`: p = share of sign patterns with Σ s_i (margin ± d_i) >= Σ (margin ± d_i),
    or Student's t of (margin − |mean|) with the corrected variance if ``ratio`` is given; 1 with
    fewer than five splits.
    """
    d = np.asarray(differences, dtype=float)
    if ratio is None:
        below, above = (1 + int(np.sum(_flipped(part) <= 0)) for part in (margin - d, margin + d))
        return max(below, above) / (2 * _half(len(d)))
    if len(d) < MIN_SPLITS:
        return 1.0
    room = margin - abs(float(d.mean()))
    error = math.sqrt((1 / len(d) + ratio) * d.var(ddof=1))
    return float(stats.t.sf(room / error, len(d) - 1)) if error else float(room <= 0)


class Posterior(NamedTuple):
    """Probabilities that the mean difference is below −margin, within the margin, above it."""

    below: float
    within: float
    above: float

    @property
    def known(self) -> bool:
        return not math.isnan(self.within)


def posterior(
    differences: Sequence[float] | NDArray,
    margin: float,
    *,
    ratio: float | None = None,
    rows_error: float = 0.0,
) -> Posterior:
    """The Bayesian correlated t test with a region of practical equivalence (Corani & Benavoli
    2015): under a flat prior the mean difference of n pairs is Student's t with n − 1 degrees,
    location mean(d) and scale² = (1/n + n_test/n_train) s² + ``rows_error``².

    ``ratio`` is n_test/n_train where each pair has its own split, else none; ``rows_error`` the
    standard error over the test rows where all pairs share them. NaN for fewer than two pairs.
    """
    d = np.asarray(differences, dtype=float)
    if len(d) < 2:
        return Posterior(math.nan, math.nan, math.nan)
    mean = float(d.mean())
    scale = math.sqrt((1 / len(d) + (ratio or 0.0)) * d.var(ddof=1) + rows_error**2)
    if not scale:
        return Posterior(float(mean < -margin), float(abs(mean) <= margin), float(mean > margin))
    below = float(stats.t.cdf((-margin - mean) / scale, len(d) - 1))
    above = float(stats.t.sf((margin - mean) / scale, len(d) - 1))
    return Posterior(below, 1 - below - above, above)


def mean_interval(
    values: Sequence[float] | NDArray, *, level: float = 0.95, ratio: float | None = None
) -> tuple[float, float]:
    """Student's t interval of a mean over runs; ``ratio`` corrects its variance as in
    :func:`corrected_t`. (NaN, NaN) for fewer than two values."""
    x = np.asarray(values, dtype=float)
    if len(x) < 2:
        return math.nan, math.nan
    error = math.sqrt((1 / len(x) + (ratio or 0.0)) * x.var(ddof=1))
    half = float(stats.t.ppf((1 + level) / 2, len(x) - 1)) * error
    return float(x.mean() - half), float(x.mean() + half)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p-values: controls the family-wise error under any dependence.

    In ascending order, p̃_(i) = max over j <= i of min(1, (m − j + 1) p_(j)). The tests hold it
    to statsmodels, whose own function runs the garbage collector on every call: two thirds of the
    time of a report.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = np.minimum(1.0, p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(stepped)
    return adjusted.tolist()


def standardised(differences: Sequence[float] | NDArray) -> float:
    """Cohen's d_z: the mean of the differences divided by their standard deviation.

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
    """Share of pairs with a difference above zero; ties count half."""
    d = np.asarray(differences, dtype=float)
    return float(np.mean(d > 0) + np.mean(d == 0) / 2)


def _half(n: int) -> int:
    """Half the number of sign patterns that are looked at."""
    return 2 ** (min(n, MAX_EXACT) - 1)


def _flipped(d: NDArray) -> NDArray[np.float64]:
    """Sums over the subsets whose signs are flipped, without the empty one; rounded to zero."""
    sums = _subset_sums(d)[1:]
    sums[np.abs(sums) <= _TOLERANCE * np.abs(d).sum()] = 0.0
    return sums


def _rejected(half: int, level: float) -> int:
    """k = ⌊α N / 2⌋, or 1 if the level that one pattern gives is close enough."""
    k = math.floor((1 - level) * half + _TOLERANCE)
    return k or int(abs(1 - 1 / half - level) <= _NEAR)


def _subset_sums(d: NDArray) -> NDArray[np.float64]:
    """Sums over subsets of d [n]: all 2^n, or 2^18 random ones; the empty subset first."""
    if len(d) <= MAX_EXACT:
        first, *more = (_members(len(part)) @ part for part in _parts(d))
        return (first + more[0][:, None]).ravel() if more else first
    rng = np.random.default_rng(0)
    sums = np.zeros(2**MAX_EXACT)
    for part in _parts(d):
        sums += (_members(len(part)) @ part)[rng.integers(2 ** len(part), size=len(sums))]
    sums[0] = 0.0
    return sums


def _parts(d: NDArray) -> list[NDArray]:
    """Split the differences into parts small enough for a table of all subsets."""
    return np.array_split(d, math.ceil(len(d) / _AT_ONCE))


@cache
def _members(n: int) -> NDArray[np.float64]:
    """Membership of n differences in each of the 2^n subsets, [2^n, n]; the empty subset first."""
    return ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(float)

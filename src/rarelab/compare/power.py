"""How many pairs a verdict would take, and what a given number of pairs can detect."""

import math
from functools import cache

from scipy import optimize, stats

POWER = 0.8
"""Power at which pairs are counted, assuming the effect is as large as observed."""

MAX_PAIRS = 1000
"""Beyond this the answer is "more than 1 000"."""

# In standard errors.
_CERTAIN, _ONE_SIDED = 8.0, 4.0


def least_pairs(comparisons: int, alpha: float = 0.05) -> int:
    """The fewest pairs with which an exact paired test can reach α at Holm's first step.

    The smallest p-value of the sign-flip test is 2 / 2^n (up to n = 18); the first step requires
    α / comparisons.
    """
    return math.ceil(math.log2(2 * comparisons / alpha) - 1e-9)


def power(effect: float, n: int, alpha: float, ratio: float = 0.0) -> float:
    """The power of a two-sided paired t test with n pairs to detect d_z = ``effect`` at α.

    ``ratio`` is the correction for overlapping splits, 0 for none. On normal differences the
    sign-flip test has nearly the same power.
    """
    critical = stats.t.isf(alpha / 2, n - 1)
    shift = abs(effect) / math.sqrt(1 / n + ratio)
    if shift > critical + _CERTAIN:
        return 1.0
    # scipy's series fails where the other tail is negligible.
    other_side = stats.nct.cdf(-critical, n - 1, shift) if shift < _ONE_SIDED else 0.0
    return float(stats.nct.sf(critical, n - 1, shift) + other_side)


def pairs_needed(effect: float, alpha: float, ratio: float = 0.0) -> int | None:
    """The fewest pairs that detect d_z = ``effect`` at α with 80 % power; None above 1 000.

    With overlapping splits (``ratio``) no number may suffice.
    """
    if math.isinf(effect):
        return 2
    if math.isnan(effect) or power(effect, MAX_PAIRS, alpha, ratio) < POWER:
        return None
    low, high = 2, MAX_PAIRS
    while low < high:
        middle = (low + high) // 2
        if power(effect, middle, alpha, ratio) >= POWER:
            high = middle
        else:
            low = middle + 1
    return low


@cache
def detectable(n: int, alpha: float, ratio: float = 0.0) -> float:
    """The d_z that n pairs detect at α with 80 % power; infinite for fewer than two pairs."""
    if n < 2:
        return math.inf

    def missing(effect: float) -> float:
        return power(effect, n, alpha, ratio) - POWER

    high = 1.0
    while missing(high) < 0:
        high *= 2
        if high > 1e4:
            return math.inf
    return float(optimize.root_scalar(missing, bracket=(0.0, high), xtol=1e-4).root)

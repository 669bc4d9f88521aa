"""Rescale columns too small, too large or too far from zero for scikit-learn's scaling.

``QuantileTransformer`` treats values within an absolute 1e-7 of the minimum or maximum as equal to
it, and ``StandardScaler`` does not scale a column whose variance underflows, overflows or is lost
to rounding beside its mean. Such columns first become (x − origin) · 2^exponent. This is lossless:
the power of two is exact, and the origin is subtracted only if adding it back restores x.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

BOUND = 1e-7
"""``BOUNDS_THRESHOLD`` of ``sklearn.preprocessing._data``."""

_TOP = 1000
"""Magnitudes stay below 2^1000: headroom for new values before float64 overflows at 2^1024."""


@dataclass(frozen=True)
class Magnitudes:
    """``origin`` float64 [K] and ``exponent`` int64 [K]; a column with 0 and 0 is unchanged."""

    origin: NDArray[np.float64]
    exponent: NDArray[np.int64]

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(x − origin) · 2^exponent of values [N, K], clipped to the float64 range."""
        largest = np.finfo(np.float64).max
        with np.errstate(over="ignore"):
            moderate = np.ldexp(values - self.origin, self.exponent)
        return np.clip(moderate, -largest, largest)

    @classmethod
    def for_quantiles(
        cls, values: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
    ) -> Self | None:
        """For a quantile map whose outermost quantiles are ``low`` and ``high`` [K].

        Their nearest values end up more than ``BOUND`` away; None if they all are already.
        """
        inside = (values > low) & (values < high)
        taken = inside & ((values - BOUND < low) | (values + BOUND > high))
        columns = np.flatnonzero(taken.any(axis=0)).tolist()
        if not columns:
            return None
        made = cls.none(values.shape[1])
        for k in columns:
            x = values[:, k][inside[:, k]]
            gap = min(x.min() - low[k], high[k] - x.max())
            made._set(k, values[:, k], _exponent(BOUND) + 2 - _exponent(gap), low[k])
        return made

    @classmethod
    def for_variance(
        cls, values: NDArray[np.float64], variance: NDArray[np.float64], scale: NDArray[np.float64]
    ) -> Self | None:
        """For a standardisation that learnt ``variance`` and ``scale`` [K]: columns that vary, but
        whose scale is not the square root of a finite variance, get a range of about 1."""
        low, high = values.min(axis=0), values.max(axis=0)
        with np.errstate(over="ignore"):
            learnt = np.isfinite(variance) & np.isclose(scale**2, variance, atol=0)
        columns = np.flatnonzero((low < high) & ~learnt).tolist()
        if not columns:
            return None
        made = cls.none(values.shape[1])
        for k in columns:
            made._set(k, values[:, k], None, low[k])
        return made

    @classmethod
    def none(cls, columns: int) -> Self:
        """Columns that are all unchanged."""
        return cls(np.zeros(columns), np.zeros(columns, dtype=np.int64))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Those of columns side by side."""
        origins = np.concatenate([part.origin for part in parts])
        return cls(origins, np.concatenate([part.exponent for part in parts]))

    def _set(self, k: int, x: NDArray[np.float64], exponent: int | None, low: float) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            kept = bool(((x - low) + low == x).all())
        self.origin[k] = low if kept else 0.0
        size = _exponent(np.abs(x - self.origin[k]).max())
        self.exponent[k] = -size if exponent is None else min(exponent, _TOP - size)


def _exponent(value: Any) -> int:
    """e of value = m · 2^e with m in [0.5, 1)."""
    return int(np.frexp(value)[1])

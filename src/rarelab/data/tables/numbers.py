"""Numeric columns to features: impute and scale, with the fit kept as plain arrays."""

from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from rarelab.data.magnitudes import Magnitudes
from rarelab.data.tables.quantile_map import mapped
from rarelab.data.tables.recipe import Numeric
from rarelab.errors import RequestError

QUANTILES = 1000
QUANTILE_ROWS = 100_000

CELLS = 2**23
"""Values that are fitted at once: 64 MB, of which a fit makes a few copies."""

# The fitted attributes of scikit-learn's transformers, by their documented names.
_LEARNT = {
    QuantileTransformer: ("quantiles_", "references_", "n_quantiles_", "n_features_in_"),
    StandardScaler: ("mean_", "var_", "scale_", "n_features_in_"),
}
_BY_COLUMN = ("quantiles_", "mean_", "var_", "scale_")
"""Those that hold something for each column, in their last dimension."""


class NumberColumns:
    """Median imputation and scaling, plus a 0/1 flag for columns with gaps in training.

    ``numeric``: "quantile" maps each column to normal quantiles (1,000 knots from at most 100,000
    rows) and standardises it, "standard" standardises, "none" does not scale. Columns that
    scikit-learn would flatten are first rescaled by :class:`~rarelab.data.magnitudes.Magnitudes`.
    """

    def __init__(self, numeric: Numeric) -> None:
        self._numeric: Numeric = numeric
        self.medians: NDArray[np.float64] = np.zeros(0)
        self.flagged: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._magnitudes: Magnitudes | None = None
        self._steps: list[Any] = []
        if numeric == "quantile":
            self._steps.append(
                QuantileTransformer(
                    n_quantiles=QUANTILES,
                    output_distribution="normal",
                    subsample=QUANTILE_ROWS,
                    random_state=0,
                    copy=False,
                )
            )
        if numeric != "none":
            # Also after the quantile map: it sends a two-valued column to ±5.2, whatever its rates.
            self._steps.append(StandardScaler(copy=False))

    def fit_transform(
        self, values: NDArray[np.float64], unflagged: Sequence[int] = ()
    ) -> list[NDArray]:
        """Fit on training values [N, K], NaN = missing; return the scaled block and the flags.

        The columns at ``unflagged`` get no flag."""
        missing = np.isnan(values)
        some = ~missing.all(axis=0)
        self.medians = np.zeros(values.shape[1])
        self.medians[some] = np.nanmedian(values[:, some], axis=0)
        gaps = np.flatnonzero(missing.any(axis=0))
        self.flagged = gaps[~np.isin(gaps, list(unflagged))]
        scaled = np.where(missing, self.medians, values)
        if self._steps:
            scaled = self._fit_first(scaled)
        for step in self._steps[1:]:
            scaled = _transformed(step.fit(scaled), scaled)
        return [scaled, self._flags(missing)]

    def fit_transform_blocks(
        self, blocks: Iterable[NDArray[np.float64]], unflagged: Sequence[int] = ()
    ) -> list[NDArray[np.float32]]:
        """The same for values that come as blocks of columns [N, K] (:func:`column_blocks`), each
        let go before the next one is made: the scaled blocks, then their flags, as float32."""
        parts: list[Self] = []
        scaled: list[NDArray[np.float32]] = []
        flags: list[NDArray[np.float32]] = []
        place = 0
        for values in blocks:
            part = type(self)(self._numeric)
            made = part.fit_transform(values, [column - place for column in unflagged])
            with np.errstate(over="ignore"):  # refused later, as the infinite value that it becomes
                scaled.append(made[0].astype(np.float32))
            flags.append(made[1])
            part.flagged = part.flagged + place
            parts.append(part)
            place += values.shape[1]
            del values, made  # before the next block is made
        self._join(parts)
        return [*scaled, *flags]

    def _join(self, parts: Sequence[Self]) -> None:
        """Take over what was learnt from each block; no column was learnt from another."""
        self.medians = np.concatenate([part.medians for part in parts])
        self.flagged = np.concatenate([part.flagged for part in parts])
        moved = [part._magnitudes or Magnitudes.none(len(part.medians)) for part in parts]
        if any(part._magnitudes is not None for part in parts):
            self._magnitudes = Magnitudes.joined(moved)
        for i, step in enumerate(self._steps):
            learnt = [part._steps[i] for part in parts]
            for name in _LEARNT[type(step)]:
                values = [getattr(one, name) for one in learnt]
                if name in _BY_COLUMN:
                    setattr(step, name, np.concatenate(values, axis=-1))
                else:
                    setattr(step, name, sum(values) if name == "n_features_in_" else values[0])

    def transform(self, values: NDArray[np.float64]) -> list[NDArray]:
        """The scaled block and the flags of new values [N, K]."""
        missing = np.isnan(values)
        scaled = np.where(missing, self.medians, values)
        if self._magnitudes is not None:
            scaled = self._magnitudes(scaled)
        for step in self._steps:
            scaled = _transformed(step, scaled)
        return [scaled, self._flags(missing)]

    def _fit_first(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The output of the first step, refitted on rescaled values if it flattens a column."""
        step = self._steps[0]
        with np.errstate(over="ignore", invalid="ignore"):
            if isinstance(step, QuantileTransformer):
                step.set_params(n_quantiles=min(QUANTILES, len(values))).fit(values)
                learnt = step.quantiles_
                self._magnitudes = Magnitudes.for_quantiles(values, learnt[0], learnt[-1])
            else:
                step.fit(values)
                self._magnitudes = Magnitudes.for_variance(values, step.var_, step.scale_)
        if self._magnitudes is not None:
            values = self._magnitudes(values)
            step.fit(values)
        return _transformed(step, values)

    def arrays(self) -> dict[str, NDArray]:
        """The fitted state as arrays by name."""
        learnt = {"medians": self.medians, "flagged": self.flagged}
        if self._magnitudes is not None:
            learnt |= {
                "origin": self._magnitudes.origin,
                "exponent": self._magnitudes.exponent,
            }
        for step in self._steps:
            for name in _LEARNT[type(step)]:
                learnt[f"{type(step).__name__}.{name}"] = np.asarray(getattr(step, name))
        return learnt

    @classmethod
    def restored(cls, numeric: Numeric, arrays: dict[str, NDArray]) -> Self:
        """The columns that :meth:`arrays` describes."""
        block = cls(numeric)
        block.medians, block.flagged = arrays["medians"], arrays["flagged"]
        if "origin" in arrays:
            block._magnitudes = Magnitudes(arrays["origin"], arrays["exponent"])
        for step in block._steps:
            for name in _LEARNT[type(step)]:
                value = arrays[f"{type(step).__name__}.{name}"]
                setattr(step, name, value if value.ndim else int(value))
        return block

    def _flags(self, missing: NDArray[np.bool_]) -> NDArray[np.float32]:
        return missing[:, self.flagged].astype(np.float32)


def _transformed(step: Any, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """``step.transform(values)``, in place and faster, with the same bits."""
    if isinstance(step, QuantileTransformer):
        return mapped(values, step)
    values -= step.mean_
    values /= step.scale_
    return values


def column_blocks(rows: int, columns: int) -> list[slice]:
    """The columns in blocks of about ``CELLS`` values.

    A block has at least two columns if there are as many: numpy sums a single one in another order,
    so that its variance would differ in the last bits from that beside other columns.
    """
    size = max(2, CELLS // max(1, rows))
    starts = [*range(0, columns, size)]
    if len(starts) > 1 and columns - starts[-1] == 1:
        starts.pop()
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], columns], strict=True)]


def number_values(frame: pd.DataFrame, names: Sequence[str]) -> NDArray[np.float64]:
    """The columns as float64 [N, K], NaN = missing; infinite values and text are refused."""
    values = np.empty((len(frame), len(names)))
    for i, name in enumerate(names):
        values[:, i] = _numbers(frame[name], name)
    _refuse_infinite(names, np.isinf(values).sum(axis=0))
    return values


def ranges(frame: pd.DataFrame, names: Sequence[str]) -> dict[str, list[float]]:
    """The lowest and highest value of the columns that have any, read one after the other; refuses
    what :func:`number_values` does."""
    found: dict[str, list[float]] = {}
    infinite = np.zeros(len(names), dtype=np.int64)
    for i, name in enumerate(names):
        values = _numbers(frame[name], name)
        infinite[i] = np.isinf(values).sum()
        if not np.isnan(values).all():
            found[name] = [float(np.nanmin(values)), float(np.nanmax(values))]
    _refuse_infinite(names, infinite)
    return found


def _numbers(column: Any, name: str) -> NDArray[np.float64]:
    try:
        if column.dtype.kind in "mM":
            raise TypeError("dates and durations are not numbers")
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        parsed: Any = pd.to_numeric(column, errors="coerce")
        bad = column[parsed.isna() & column.notna()]
        shown = repr(bad.iloc[0]) if len(bad) else str(column.dtype)
        raise RequestError(
            f"column {name!r} holds {shown}: expected numbers, as in training"
        ) from None


def _refuse_infinite(names: Sequence[str], infinite: NDArray[np.int64]) -> None:
    if infinite.any():
        worst = int(infinite.argmax())
        raise RequestError(
            f"column {names[worst]!r} has {infinite[worst]} infinite values: replace them with"
            " finite numbers or leave them empty (missing)"
        )

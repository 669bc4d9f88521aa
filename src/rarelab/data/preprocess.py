"""Raw columns to float32 features: impute, scale, one-hot, fitted on the training rows alone."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, StandardScaler

from rarelab.data.recipe import Numeric
from rarelab.errors import RequestError, nearest

# A level that fewer training rows than this have tells a model nothing it can rely on.
MIN_LEVEL_ROWS = 5
QUANTILES = 1000
QUANTILE_ROWS = 100_000
MISSING = "(missing)"


class Preprocessor:
    """Features of a frame of raw columns, by scikit-learn's transformers.

    Numbers: missing ones become the training median, with a 0/1 column that says so where training
    rows lack some; then ``numeric``: "quantile" maps each column to normal quantiles (1,000 knots
    from at most 100,000 rows) and standardises it, "standard" standardises, "none" leaves it. Text
    and the columns named ``categorical``: one-hot over at most ``max_categories`` levels; rarer
    levels and those first seen after training share one column; missing is a level of its own.
    """

    def __init__(
        self,
        numeric: Numeric = "quantile",
        max_categories: int = 32,
        categorical: Sequence[str] = (),
    ) -> None:
        self.numeric: Numeric = numeric
        self.max_categories = max_categories
        self.categorical = tuple(categorical)
        self.columns: tuple[str, ...] = ()
        self.feature_names: tuple[str, ...] = ()

    def fit_transform(self, frame: pd.DataFrame) -> NDArray[np.float32]:
        """Learn medians, scales and levels from the training rows; their features [N, F]."""
        self.columns = tuple(map(str, frame.columns))
        self.texts = [name for name in self.columns if self._is_text(name, frame)]
        self.numbers = [name for name in self.columns if name not in self.texts]
        names: list[str] = []
        blocks: list[NDArray] = []
        if self.numbers:
            values = _numbers(frame, self.numbers)
            self.missing = MissingIndicator(error_on_new=False).fit(values)
            self.imputer = _imputer(values)
            self.scaling = _scaling(self.numeric, len(values))
            blocks += [self.scaling.fit_transform(self.imputer.transform(values))]
            blocks += [self._flags(values)]
            names += self.numbers
            names += [f"missing({self.numbers[i]})" for i in self.missing.features_]
        if self.texts:
            self.levels = {name: _levels(frame, name) for name in self.texts}
            self.onehot = _onehot(self.max_categories)
            blocks.append(np.asarray(self.onehot.fit_transform(self._codes(frame))))
            names += self._level_names()
        self.feature_names = tuple(names)
        return np.concatenate(blocks, axis=1, dtype=np.float32, casting="same_kind")

    def transform(self, frame: pd.DataFrame) -> NDArray[np.float32]:
        """Features of new rows, float32 [N, F]. RequestError names a column that is not there."""
        for name in self.columns:
            if name not in frame.columns:
                raise RequestError(
                    f"column {name!r} is missing: {nearest(name, map(str, frame.columns))}"
                )
        blocks: list[NDArray] = []
        if self.numbers:
            values = _numbers(frame, self.numbers)
            blocks += [self.scaling.transform(self.imputer.transform(values)), self._flags(values)]
        if self.texts:
            blocks.append(np.asarray(self.onehot.transform(self._codes(frame))))
        return np.concatenate(blocks, axis=1, dtype=np.float32, casting="same_kind")

    def _flags(self, values: NDArray) -> NDArray[np.float32]:
        """1 where a value is missing, for the columns that lacked some in training."""
        return np.isnan(values[:, self.missing.features_]).astype(np.float32)

    def _codes(self, frame: pd.DataFrame) -> NDArray[np.int64]:
        """Text columns as positions in ``levels``, -1 for a level never seen in training."""
        codes = np.empty((len(frame), len(self.texts)), dtype=np.int64)
        for i, name in enumerate(self.texts):
            known = {level: code for code, level in enumerate(self.levels[name])}
            found, values = pd.factorize(frame[name])
            texts = [*map(level_text, values), MISSING]
            codes[:, i] = np.array([known.get(text, -1) for text in texts])[found]
        return codes

    def _level_names(self) -> Iterator[str]:
        """One name for each one-hot column: ``column=level``, the shared one last."""
        rare_codes = self.onehot.infrequent_categories_
        for i, name in enumerate(self.texts):
            rare = set() if rare_codes[i] is None else set(rare_codes[i].tolist())
            for code, level in enumerate(self.levels[name]):
                if code not in rare:
                    yield f"{name}={level}"
            if rare:
                yield f"{name}=(other)"

    def _is_text(self, name: str, frame: pd.DataFrame) -> bool:
        column: Any = frame[name]
        if name in self.categorical:
            return True
        if pd.api.types.is_datetime64_any_dtype(column):
            raise RequestError(
                f"column {name!r} holds dates, which are no features: drop it (dataset.drop), split"
                " by it (dataset.time), or turn it into a number"
            )
        return not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column))


def _onehot(max_categories: int) -> Any:
    return OneHotEncoder(
        max_categories=max_categories,
        min_frequency=MIN_LEVEL_ROWS,
        handle_unknown="infrequent_if_exist",
        sparse_output=False,
        dtype=np.float32,  # pyright: ignore[reportArgumentType]
    )


def _levels(frame: pd.DataFrame, name: str) -> list[str]:
    """The texts of a column, sorted, "(missing)" last where some are."""
    column: Any = frame[name]
    levels = sorted({level_text(value) for value in column.dropna().unique()})
    return [*levels, MISSING] if column.isna().any() else levels


def _imputer(values: NDArray) -> SimpleImputer:
    """The median of each column, 0 for an empty one.

    Fitted on the row of medians: the imputer's own, over a masked array, takes ten times as long.
    """
    medians = np.zeros((1, values.shape[1]))
    some = ~np.isnan(values).all(axis=0)
    medians[0, some] = np.nanmedian(values[:, some], axis=0)
    return SimpleImputer(strategy="median").fit(medians)


def _scaling(numeric: Numeric, rows: int) -> Pipeline:
    steps: list[Any] = []
    if numeric == "quantile":
        steps.append(
            QuantileTransformer(
                n_quantiles=min(QUANTILES, rows),
                output_distribution="normal",
                subsample=QUANTILE_ROWS,
                random_state=0,
                copy=False,
            )
        )
    if numeric != "none":
        # After the quantile map too: it sends a two-valued column to ±5.2, whatever its rates.
        steps.append(StandardScaler(copy=False))
    return make_pipeline(*steps, "passthrough")


def _numbers(frame: pd.DataFrame, names: Sequence[str]) -> NDArray[np.float64]:
    """The columns as float64 [N, K], missing values NaN; infinite and text values refused."""
    values = np.empty((len(frame), len(names)))
    for i, name in enumerate(names):
        column: Any = frame[name]
        try:
            values[:, i] = column.to_numpy(dtype=np.float64, na_value=np.nan)
        except (TypeError, ValueError):
            parsed: Any = pd.to_numeric(column, errors="coerce")
            bad = column[parsed.isna() & column.notna()]
            shown = repr(bad.iloc[0]) if len(bad) else str(column.dtype)
            raise RequestError(
                f"column {name!r} holds {shown}: numbers were expected, as in training"
            ) from None
    infinite = np.isinf(values).sum(axis=0)
    if infinite.any():
        worst = int(infinite.argmax())
        raise RequestError(
            f"column {names[worst]!r} has {infinite[worst]} infinite values: replace them with"
            " numbers or leave them empty (missing)"
        )
    return values


def level_text(value: Any) -> str:
    """A value as the name of its level; whole numbers without a decimal point."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    return str(value)

"""Raw columns to float32 features: impute, scale, one-hot; fitted on the training rows only."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rarelab.data.columns import Reading
from rarelab.data.tables.dates import DateColumns, flagged_once
from rarelab.data.tables.levels import MISSING, TextColumns
from rarelab.data.tables.numbers import NumberColumns, column_blocks, number_values, ranges
from rarelab.data.tables.recipe import HighCardinality, Numeric
from rarelab.data.tables.seen import Seen
from rarelab.errors import RequestError, nearest

CELLS = 2**21
"""Features of new rows that are made at once, with all their copies."""

Kind = Literal["number", "text", "code", "date"]
"""The type of a column in training: numbers, text, numeric codes, or dates taken apart."""


class Preprocessor:
    """Features from a frame of raw columns, with scikit-learn's transformers.

    Numbers (:class:`~rarelab.data.tables.numbers.NumberColumns`): missing values become the
    training median, with a 0/1 indicator column if some were missing in training; then they are
    scaled, as are the parts of the columns in ``dates``
    (:class:`~rarelab.data.tables.dates.DateColumns`). Text and the columns in ``categorical``
    (:class:`~rarelab.data.tables.levels.TextColumns`): one-hot encoding of at most
    ``max_categories`` levels; with ``high_cardinality`` "target", target encoding of a column that
    has more.

    ``columns`` are the raw columns with their kinds, ``feature_names`` the columns of the output,
    ``others`` the non-feature columns of the training data, ``reading`` how its file was read,
    ``seen`` what the training rows held (None in runs recorded before it was).
    """

    def __init__(
        self,
        numeric: Numeric = "quantile",
        max_categories: int = 32,
        categorical: Sequence[str] = (),
        high_cardinality: HighCardinality = "onehot",
        dates: Sequence[str] = (),
    ) -> None:
        self.numeric: Numeric = numeric
        self.max_categories = max_categories
        self.categorical = tuple(categorical)
        self.high_cardinality: HighCardinality = high_cardinality
        self.dates = DateColumns(list(dates))
        self.columns: dict[str, Kind] = {}
        self.others: tuple[str, ...] = ()
        self.feature_names: tuple[str, ...] = ()
        self.reading: dict[str, Any] | None = None
        self.seen: Seen | None = None

    def remember(self, reading: Reading) -> None:
        """Keep how the file was read, to read new rows in the same way."""
        columns = {name: reading.columns[name] for name in self.columns}
        self.reading = replace(reading, columns=columns).facts()

    def fit_transform(
        self,
        frame: pd.DataFrame,
        labels: NDArray[np.int64] | None = None,
        classes: Sequence[str] = (),
        *,
        consume: bool = False,
    ) -> NDArray[np.float32]:
        """Fit medians, scales and levels on the training rows; return their features [N, F].

        Target encoding needs ``labels``, the class of each row [N], and names features by
        ``classes``. ``consume`` deletes columns of numbers from the frame once they are features.
        """
        if self.high_cardinality == "target" and labels is None:
            raise ValueError("target encoding needs the labels of the rows")
        self.columns = {str(name): self._kind(name, frame) for name in frame.columns}
        self.numbers = [name for name, kind in self.columns.items() if kind == "number"]
        texts = [name for name, kind in self.columns.items() if kind in ("text", "code")]
        self.scaled, self.texts = NumberColumns(self.numeric), TextColumns(texts)
        names: list[str] = []
        blocks: list[NDArray] = []
        self.seen = Seen.of(frame, self.numbers)
        self.dates.fit(frame)
        if self._has_numbers:
            owners = [*self.numbers, *self.dates.owners()]
            values = self._number_blocks(frame, len(owners), consume)
            blocks += self.scaled.fit_transform_blocks(values, flagged_once(owners))
            names += [*self.numbers, *self.dates.feature_names()]
            names += [f"missing({owners[i]})" for i in self.scaled.flagged]
        if texts:
            encoded_by = labels if self.high_cardinality == "target" else None
            blocks.append(
                self.texts.fit_transform(frame, self.max_categories, encoded_by, self.numeric)
            )
            names += self.texts.feature_names(classes)
        self.feature_names = tuple(names)
        return _joined(blocks)

    def transform(self, frame: pd.DataFrame) -> NDArray[np.float32]:
        """Features of new rows, float32 [N, F]. RequestError names a missing column."""
        for name in self.columns:
            if name not in frame.columns:
                raise RequestError(
                    f"column {name!r} is missing: {nearest(name, map(str, frame.columns))}"
                )
        rows = max(1, CELLS // max(1, len(self.feature_names)))
        if len(frame) <= rows:
            return self._features(frame)
        ranges(frame, self.numbers)  # refuses a value as it would in a single piece
        made = np.empty((len(frame), len(self.feature_names)), dtype=np.float32)
        for start in range(0, len(frame), rows):
            made[start : start + rows] = self._features(frame.iloc[start : start + rows])
        return made

    def _features(self, frame: pd.DataFrame) -> NDArray[np.float32]:
        blocks: list[NDArray] = []
        if self._has_numbers:
            values = self._with_dates(number_values(frame, self.numbers), frame)
            blocks += self.scaled.transform(values)
        if self.texts.names:
            blocks.append(self.texts.transform(frame))
        return _joined(blocks)

    def _number_blocks(
        self, frame: pd.DataFrame, columns: int, consume: bool
    ) -> Iterator[NDArray[np.float64]]:
        """The numbers and the parts of dates, ``columns`` in all, a few columns at a time."""
        dates = self.dates.values(frame) if self.dates.names else None
        count = len(self.numbers)
        for some in column_blocks(len(frame), columns):
            names = self.numbers[some]
            values = number_values(frame, names)
            if dates is not None and some.stop > count:
                parts = dates[:, max(0, some.start - count) : some.stop - count]
                values = np.concatenate([values, parts], axis=1)
            if consume:
                for name in names:
                    del frame[name]
            yield values
            del values

    @property
    def sources(self) -> tuple[str, ...]:
        """The raw column that each feature is made from, in the order of ``feature_names``."""
        owners = [*self.numbers, *self.dates.owners()]
        flagged = [owners[i] for i in self.scaled.flagged] if self._has_numbers else []
        return (*owners, *flagged, *self.texts.sources())

    def example(self) -> dict[str, Any]:
        """A made-up row that shows the columns: medians, and each column's first level."""
        row: dict[str, Any] = {}
        for name, kind in self.columns.items():
            if kind == "number":
                row[name] = float(self.scaled.medians[self.numbers.index(name)])
            elif kind == "date":
                row[name] = self.dates.first[name]
            else:
                level = self.texts.levels[name][0]
                row[name] = None if level == MISSING else float(level) if kind == "code" else level
        return row

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray]]:
        """The fitted state as plain data: a JSON-serialisable part, and arrays by name."""
        facts = {
            "numeric": self.numeric,
            "max_categories": self.max_categories,
            "categorical": list(self.categorical),
            "high_cardinality": self.high_cardinality,
            "columns": self.columns,
            "others": list(self.others),
            "feature_names": list(self.feature_names),
            "texts": self.texts.facts(),
            "dates": self.dates.facts(),
            "reading": self.reading,
            "seen": None if self.seen is None else self.seen.facts(),
        }
        return facts, (self.scaled.arrays() if self._has_numbers else {}) | self.texts.arrays()

    @classmethod
    def restored(cls, facts: dict[str, Any], arrays: dict[str, NDArray]) -> Self:
        """The preprocessor that :meth:`state` describes; its features are bit-identical."""
        chosen = facts.get("high_cardinality", "onehot")
        made = cls(facts["numeric"], facts["max_categories"], facts["categorical"], chosen)
        made.columns = facts["columns"]
        made.others = tuple(facts["others"])
        made.reading = facts.get("reading")
        made.feature_names = tuple(facts["feature_names"])
        made.numbers = [name for name, kind in made.columns.items() if kind == "number"]
        if facts.get("dates"):
            made.dates = DateColumns(**facts["dates"])
        if made._has_numbers:
            made.scaled = NumberColumns.restored(made.numeric, arrays)
        made.texts = TextColumns.restored(facts["texts"], arrays)
        made.seen = Seen(**facts["seen"]) if facts.get("seen") else None
        return made

    @property
    def _has_numbers(self) -> bool:
        return bool(self.numbers or self.dates.names)

    def _with_dates(self, values: NDArray[np.float64], frame: pd.DataFrame) -> NDArray[np.float64]:
        if not self.dates.names:
            return values
        return np.concatenate([values, self.dates.values(frame)], axis=1)

    def _kind(self, name: str, frame: pd.DataFrame) -> Kind:
        column: Any = frame[name]
        if name in self.dates.names:
            return "date"
        if pd.api.types.is_datetime64_any_dtype(column) and name not in self.categorical:
            raise RequestError(
                f"column {name!r} holds dates, which cannot be features: drop it (dataset.drop),"
                " split by it (dataset.time), or take it apart (dataset.dates=parts)"
            )
        if not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)):
            return "text"
        return "code" if name in self.categorical else "number"


def _joined(blocks: list[NDArray]) -> NDArray[np.float32]:
    """The blocks side by side; values beyond float32 become infinite and are refused later."""
    with np.errstate(over="ignore"):
        return np.concatenate(blocks, axis=1, dtype=np.float32, casting="same_kind")

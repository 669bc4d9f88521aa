"""Raw columns to float32 features: impute, scale, one-hot; fitted on the training rows only."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rarelab.data.columns import Reading
from rarelab.data.tables.dates import DateColumns, flagged_once
from rarelab.data.tables.free_text import FreeTextColumns
from rarelab.data.tables.hashing import HashedColumns, has_many_levels
from rarelab.data.tables.levels import MISSING, TextColumns
from rarelab.data.tables.numbers import NumberColumns, column_blocks, number_values, ranges
from rarelab.data.tables.recipe import (
    HASH_BUCKETS,
    TEXT_COMPONENTS,
    HighCardinality,
    Numeric,
)
from rarelab.data.tables.seen import Seen
from rarelab.errors import RequestError, nearest

CELLS = 2**21
"""Features of new rows that are made at once, with all their copies."""
SHORT = 2**16
"""Bytes of a column below which it stays in memory until the whole frame goes."""

Kind = Literal["number", "text", "code", "date", "hashed", "free"]
"""The type of a column in training: numbers, text, numeric codes, dates taken apart, levels in
buckets, or free text."""

_ANY_TEXT = "some text"


class Preprocessor:
    """Features from a frame of raw columns, with scikit-learn's transformers.

    Numbers (:class:`~rarelab.data.tables.numbers.NumberColumns`): missing values become the
    training median, with a 0/1 indicator column if some were missing in training; then they are
    scaled, as are the parts of the columns in ``dates``
    (:class:`~rarelab.data.tables.dates.DateColumns`; ``cyclic``: some as sine and cosine) and the
    ``text_components`` of those in ``free_text``
    (:class:`~rarelab.data.tables.free_text.FreeTextColumns`). Other text and the columns in
    ``categorical`` (:class:`~rarelab.data.tables.levels.TextColumns`): one-hot encoding of at most
    ``max_categories`` levels; with ``high_cardinality`` "target", target encoding of a column that
    has more, with "hash", one-hot encoding of ``hash_buckets``
    (:class:`~rarelab.data.tables.hashing.HashedColumns`), with "codes" one feature, the number of
    the level, for models that take it for a category.

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
        cyclic: bool = False,
        hash_buckets: int = HASH_BUCKETS,
        free_text: Sequence[str] = (),
        text_components: int = TEXT_COMPONENTS,
    ) -> None:
        self.numeric: Numeric = numeric
        self.max_categories = max_categories
        self.categorical = tuple(categorical)
        self.high_cardinality: HighCardinality = high_cardinality
        self.dates = DateColumns(list(dates))
        self.cyclic = cyclic
        self.hashed = HashedColumns([], hash_buckets)
        self.free = FreeTextColumns(list(free_text), text_components)
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
        groups: NDArray[np.int64] | None = None,
        consume: bool = False,
    ) -> NDArray[np.float32]:
        """Fit medians, scales and levels on the training rows; return their features [N, F].

        Target encoding needs ``labels``, the class of each row [N], names features by ``classes``,
        and is cross-fitted by ``groups``, the group of each row [N], if there are any. ``consume``
        deletes columns of numbers from the frame once they are features.
        """
        if self.high_cardinality == "target" and labels is None:
            raise ValueError("target encoding needs the labels of the rows")
        self.columns = {str(name): self._kind(name, frame) for name in frame.columns}
        self.numbers = [name for name, kind in self.columns.items() if kind == "number"]
        texts = [name for name, kind in self.columns.items() if kind in ("text", "code")]
        self.scaled, self.texts = NumberColumns(self.numeric), TextColumns(texts)
        hashed = [name for name, kind in self.columns.items() if kind == "hashed"]
        self.hashed = HashedColumns(hashed, self.hashed.buckets)
        names: list[str] = []
        blocks: list[NDArray] = []
        self.seen = Seen.of(frame, self.numbers)
        self.dates.fit(frame, cyclic=self.cyclic)
        self.free.fit(frame)
        if owners := self._scaled_owners:
            values = self._number_blocks(frame, len(owners), consume)
            blocks += self.scaled.fit_transform_blocks(values, flagged_once(owners))
            names += [*self.numbers, *self.dates.feature_names(), *self.free.feature_names()]
            names += [f"missing({owners[i]})" for i in self.scaled.flagged]
            blocks.append(self.dates.circles(frame))
            names += self.dates.circle_names()
        if texts:
            encoded_by = labels if self.high_cardinality == "target" else None
            blocks.append(
                self.texts.fit_transform(
                    frame,
                    self.max_categories,
                    encoded_by,
                    self.numeric,
                    groups,
                    as_codes=self.high_cardinality == "codes",
                )
            )
            names += self.texts.feature_names(classes)
        blocks.append(self.hashed.fit_transform(frame))
        names += self.hashed.feature_names()
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
        if self._scaled_owners:
            values = self._with_parts(number_values(frame, self.numbers), frame)
            blocks += [*self.scaled.transform(values), self.dates.circles(frame)]
        if self.texts.names:
            blocks.append(self.texts.transform(frame))
        blocks.append(self.hashed.transform(frame))
        return _joined(blocks)

    def _number_blocks(
        self, frame: pd.DataFrame, columns: int, consume: bool
    ) -> Iterator[NDArray[np.float64]]:
        """The numbers and what dates and free text become, ``columns`` in all, a few columns at a
        time."""
        made = self._parts(frame)
        count = len(self.numbers)
        for some in column_blocks(len(frame), columns):
            names = self.numbers[some]
            values = number_values(frame, names)
            if made is not None and some.stop > count:
                parts = made[:, max(0, some.start - count) : some.stop - count]
                values = np.concatenate([values, parts], axis=1)
            if consume:
                for name in names:
                    let_go(frame, name)
            yield values
            del values

    @property
    def sources(self) -> tuple[str, ...]:
        """The raw column that each feature is made from, in the order of ``feature_names``."""
        owners = self._scaled_owners
        flagged = [owners[i] for i in self.scaled.flagged] if owners else []
        numbers = (*owners, *flagged, *self.dates.circle_owners())
        return (*numbers, *self.texts.sources(), *self.hashed.sources())

    @property
    def one_hot(self) -> list[list[int]]:
        """The features that are the levels or buckets of one raw column, of each that has
        several."""
        places: dict[str, list[int]] = {}
        for feature, name in enumerate(self.sources):
            levels = name in self.texts.places and name not in self.texts.coded
            if levels or name in self.hashed.places:
                places.setdefault(name, []).append(feature)
        return [features for features in places.values() if len(features) > 1]

    @property
    def codes(self) -> list[list[int]]:
        """The features that are codes of levels, each with the number of codes; a higher one is of
        a level that training had not."""
        coded = {name: self.texts.size(name) for name in self.texts.coded}
        found = [(feature, name) for feature, name in enumerate(self.sources) if name in coded]
        return [[feature, coded[name]] for feature, name in found]

    def example(self) -> dict[str, Any]:
        """A made-up row that shows the columns: medians, and each column's first level."""
        row: dict[str, Any] = {}
        for name, kind in self.columns.items():
            if kind == "number":
                row[name] = float(self.scaled.medians[self.numbers.index(name)])
            elif kind == "date":
                row[name] = self.dates.first[name]
            elif kind == "free":
                row[name] = _ANY_TEXT
            elif kind == "hashed":
                level = self.hashed.examples[name]
                row[name] = float(level) if name in self.hashed.codes else level
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
            "hashed": self.hashed.facts(),
            "free": self.free.facts(),
            "reading": self.reading,
            "seen": None if self.seen is None else self.seen.facts(),
        }
        scaled = self.scaled.arrays() if self._scaled_owners else {}
        return facts, scaled | self.texts.arrays() | self.free.arrays()

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
        if facts.get("hashed"):
            made.hashed = HashedColumns.restored(facts["hashed"])
        if facts.get("free"):
            made.free = FreeTextColumns.restored(facts["free"], arrays)
        if made._scaled_owners:
            made.scaled = NumberColumns.restored(made.numeric, arrays)
        made.texts = TextColumns.restored(facts["texts"], arrays)
        made.seen = Seen(**facts["seen"]) if facts.get("seen") else None
        return made

    @property
    def _scaled_owners(self) -> list[str]:
        """The column of each scaled feature."""
        return [*self.numbers, *self.dates.owners(), *self.free.owners()]

    def _parts(self, frame: pd.DataFrame) -> NDArray[np.float64] | None:
        """What dates and free text become, if there are any."""
        parts = [block.values(frame) for block in (self.dates, self.free) if block.names]
        return np.concatenate(parts, axis=1) if parts else None

    def _with_parts(self, values: NDArray[np.float64], frame: pd.DataFrame) -> NDArray[np.float64]:
        """The values of the numbers, with those that dates and free text become."""
        made = self._parts(frame)
        return values if made is None else np.concatenate([values, made], axis=1)

    def _kind(self, name: str, frame: pd.DataFrame) -> Kind:
        column: Any = frame[name]
        if name in self.dates.names:
            return "date"
        if name in self.free.names:
            return "free"
        if pd.api.types.is_datetime64_any_dtype(column) and name not in self.categorical:
            raise RequestError(
                f"column {name!r} holds dates, which cannot be features: drop it (dataset.drop),"
                " split by it (dataset.time), or take it apart (dataset.dates=parts)"
            )
        numeric = pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)
        if numeric and name not in self.categorical:
            return "number"
        if self.high_cardinality == "hash" and has_many_levels(column, self.max_categories):
            return "hashed"
        return "code" if numeric else "text"


def _joined(blocks: list[NDArray]) -> NDArray[np.float32]:
    """The blocks side by side; values beyond float32 become infinite and are refused later."""
    with np.errstate(over="ignore"):
        return np.concatenate(blocks, axis=1, dtype=np.float32, casting="same_kind")


def let_go(frame: pd.DataFrame, name: Any) -> None:
    """Delete a column from a frame, unless it is short: pandas looks through all columns to delete
    one, which takes minutes for thousands of them."""
    column: Any = frame[name]
    long = column.nbytes >= SHORT
    del column
    if long:
        del frame[name]

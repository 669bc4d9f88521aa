"""Encoding of text columns: a feature per common level, one for rare and unseen ones; or, for many
levels, target encoding or codes."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.preprocessing import OneHotEncoder

from rarelab.data.tables.encoding import target_encoded
from rarelab.data.tables.recipe import Numeric

# A level in fewer training rows than this is too rare to learn from.
MIN_LEVEL_ROWS = 5
MISSING = "(missing)"
_NOWHERE = -1
_TABLE = "target."
# How pandas writes booleans as text; a boolean column with gaps has the levels "0" and "1".
_TRUTH = {t: str(int(v)) for v in (False, True) for t in (str(v), str(v).lower(), str(v).upper())}


class TextColumns:
    """One-hot encoding of at most ``max_categories`` levels per column, or target encoding
    (:func:`~rarelab.data.tables.encoding.target_encoded`) or codes of a column that has more.

    If training has rare levels, they share one column, which unseen levels use as well; otherwise
    an unseen level is all zeros. Missing is a level of its own.

    ``levels`` are the texts of each column, sorted, with "(missing)" last if there are missing
    values. A one-hot column has ``places``: the feature of each level, then of unseen ones (-1: no
    feature). One with target encoding has a ``table`` instead: the features of each level, then of
    unseen ones. A column in ``coded`` has one feature, the place itself; an unseen level without a
    place has the first number that is none.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.levels: dict[str, list[str]] = {}
        self.places: dict[str, list[int]] = {}
        self.tables: dict[str, NDArray[np.float32]] = {}
        self.coded: list[str] = []

    def fit_transform(
        self,
        frame: pd.DataFrame,
        max_categories: int,
        labels: NDArray[np.int64] | None = None,
        numeric: Numeric = "quantile",
        groups: NDArray[np.int64] | None = None,
        as_codes: bool = False,
    ) -> NDArray[np.float32]:
        """Learn the levels in the training rows; return their features [N, K].

        With ``labels``, the class of each row, columns with more than ``max_categories`` levels get
        target encoding, scaled as ``numeric`` says, cross-fitted by ``groups``; ``as_codes``, they
        get codes.
        """
        self.levels = {name: _levels(frame, name) for name in self.names}
        codes = {name: self._codes(frame, name) for name in self.names}
        many = [name for name in self.names if len(self.levels[name]) > max_categories]
        self.coded = many if as_codes else []
        many = many if labels is not None else []
        few = [name for name in self.names if name not in {*many, *self.coded}]
        self._choose({name: codes[name] for name in few}, max_categories)
        self._choose({name: codes[name] for name in self.coded}, None)
        features: dict[str, NDArray[np.float32]] = {}
        for name in many:
            assert labels is not None
            features[name], self.tables[name] = target_encoded(
                codes[name], labels, len(self.levels[name]), numeric, groups
            )
        # Training rows must not see their own label, so theirs are not those of their levels.
        blocks = [
            features[name] if name in features else self._features(name, codes[name])
            for name in self.names
        ]
        return np.concatenate(blocks, axis=1)

    def transform(self, frame: pd.DataFrame) -> NDArray[np.float32]:
        """The features of new rows, float32 [N, K]."""
        blocks = [self._features(name, self._codes(frame, name)) for name in self.names]
        return np.concatenate(blocks, axis=1)

    def _choose(self, codes: Mapping[str, NDArray[np.int64]], max_categories: int | None) -> None:
        """Which levels are common enough for a feature, or a code, of their own."""
        if not codes:
            return
        chooser = OneHotEncoder(
            max_categories=max_categories,
            min_frequency=MIN_LEVEL_ROWS,
            handle_unknown="infrequent_if_exist",
        )
        chooser.fit(np.stack([*codes.values()], axis=1))
        for name, rare in zip(codes, chooser.infrequent_categories_, strict=True):
            self.places[name] = _places(len(self.levels[name]), rare)

    def _features(self, name: str, codes: NDArray[np.int64]) -> NDArray[np.float32]:
        if name in self.tables:
            return self.tables[name][codes]
        places = np.array(self.places[name])
        place = places[codes]
        if name in self.coded:
            place = np.where(place == _NOWHERE, places.max() + 1, place)
            return place[:, None].astype(np.float32)
        block = np.zeros((len(codes), places.max() + 1), dtype=np.float32)
        rows = np.flatnonzero(place != _NOWHERE)
        block[rows, place[rows]] = 1.0
        return block

    def unseen(self, frame: pd.DataFrame, name: str) -> pd.Series:
        """The values of a column that are no level of training, without missing ones."""
        column: Any = frame[name]
        return column[(self._codes(frame, name) == -1) & column.notna().to_numpy()]

    def feature_names(self, classes: Sequence[str] = ()) -> Iterator[str]:
        """The name of each feature: ``column=level``, the shared one last; ``target(column)`` of an
        encoded one, or, with more than two ``classes``, ``target(column, class)`` of each."""
        for name in self.names:
            if name in self.tables:
                several = self.tables[name].shape[1] > 1
                labels = [f"{name}, {c}" for c in classes] if several else [name]
                yield from (f"target({label})" for label in labels)
                continue
            if name in self.coded:
                yield f"code({name})"
                continue
            places = self.places[name]
            for level, place in zip(self.levels[name], places, strict=False):
                if place != places[-1]:
                    yield f"{name}={level}"
            if places[-1] != _NOWHERE:
                yield f"{name}=(other)"

    def sources(self) -> Iterator[str]:
        """The column of each feature."""
        for name in self.names:
            encoded = self.tables.get(name)
            features = self.size(name) if encoded is None else encoded.shape[1]
            yield from repeat(name, 1 if name in self.coded else features)

    def size(self, name: str) -> int:
        """How many places the levels of a column without target encoding have."""
        return max(self.places[name]) + 1

    def facts(self) -> dict[str, Any]:
        """The fitted state, serialisable as JSON."""
        facts = {"names": self.names, "levels": self.levels, "places": self.places}
        return facts | ({"coded": self.coded} if self.coded else {})

    def arrays(self) -> dict[str, NDArray]:
        """The tables of target encoding, by the number of their column."""
        return {f"{_TABLE}{self.names.index(name)}": table for name, table in self.tables.items()}

    @classmethod
    def restored(cls, facts: dict[str, Any], arrays: Mapping[str, NDArray]) -> Self:
        """The columns that :meth:`facts` and :meth:`arrays` describe.

        Raises:
            KeyError, ValueError: they do not fit together.
        """
        block = cls(facts["names"])
        block.levels, block.places = facts["levels"], facts["places"]
        block.coded = facts.get("coded", [])
        for i, name in enumerate(block.names):
            if name not in block.places:
                table = arrays[f"{_TABLE}{i}"]
                if table.ndim != 2 or len(table) != len(block.levels[name]) + 1:
                    raise ValueError(f"the encoding of column {name!r} does not match its levels")
                block.tables[name] = table
        return block

    def _codes(self, frame: pd.DataFrame, name: str) -> NDArray[np.int64]:
        """A column as indices into ``levels``, -1 (the last place) for an unseen level.

        If the levels are numbers, other spellings of a number (1.0 for 1) match its level.
        """
        known = {level: code for code, level in enumerate(self.levels[name])}
        found, values = pd.factorize(frame[name])
        texts = [*map(level_text, values), MISSING]
        if are_numbers(self.levels[name]):
            truth = _TRUTH if {*known} <= {"0", "1", MISSING} else {}
            texts = [t if t in known else truth.get(t, level_text(number(t))) for t in texts]
        return np.array([known.get(text, -1) for text in texts])[found]


def _places(n_levels: int, rare: NDArray | None) -> list[int]:
    is_rare = np.isin(np.arange(n_levels), [] if rare is None else rare)
    n_common = int((~is_rare).sum())
    shared = n_common if is_rare.any() else _NOWHERE
    return [*np.where(is_rare, shared, np.cumsum(~is_rare) - 1).tolist(), shared]


def _levels(frame: pd.DataFrame, name: str) -> list[str]:
    column: Any = frame[name]
    levels = sorted({level_text(value) for value in column.dropna().unique()})
    return [*levels, MISSING] if column.isna().any() else levels


def level_text(value: Any) -> str:
    """The level name of a value; integers have no decimal point."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    return str(value)


def number(text: str) -> Any:
    """A text as a number if it is one, else the text; 1_000 does not count as a number."""
    try:
        return text if "_" in text else float(text)
    except ValueError:
        return text


def truth(value: Any) -> float:
    """1.0 or 0.0 for a boolean as pandas reads or writes it, NaN for anything else."""
    return float(_TRUTH.get(str(value), "nan"))


def are_numbers(levels: Sequence[str]) -> bool:
    """Whether every level is a number as :func:`level_text` writes it."""
    named = [level for level in levels if level != MISSING]
    return all(not isinstance(number(n), str) and level_text(number(n)) == n for n in named)

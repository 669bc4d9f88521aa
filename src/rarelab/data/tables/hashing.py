"""Columns with too many levels to keep: each level is sent to one of a fixed number of buckets."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import repeat
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.feature_extraction import FeatureHasher

from rarelab.data.tables.levels import are_numbers, level_text, number
from rarelab.data.tables.recipe import HASH_BUCKETS

_NOWHERE = -1


@dataclass
class HashedColumns:
    """One-hot encoding of the bucket that a level's text is hashed into.

    The bucket is scikit-learn's ``FeatureHasher``'s (MurmurHash3, the remainder by ``buckets``;
    Weinberger et al. 2009, ICML), so no level is kept, and a new one is served as an old one is:
    with the features of those that share its bucket. Buckets that no training row is in have no
    feature. Missing values have a bucket of their own.

    ``places`` are the feature of each bucket of a column, then of missing values (-1: none);
    ``levels`` is how many levels training had, ``examples`` one of them, ``codes`` the columns that
    were numbers in training, ``numbers`` those whose levels all are, of which other spellings (1.0
    for 1) count as the same.
    """

    names: list[str]
    buckets: int = HASH_BUCKETS
    places: dict[str, list[int]] = field(default_factory=dict)
    levels: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)
    numbers: list[str] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)

    def fit_transform(self, frame: pd.DataFrame) -> NDArray[np.float32]:
        """Find the buckets that the training rows fall into; return their features [N, K]."""
        for name in self.names:
            column: Any = frame[name]
            levels = sorted({level_text(value) for value in column.dropna().unique()})
            self.levels[name], self.examples[name] = len(levels), levels[0]
            if are_numbers(levels):
                self.numbers.append(name)
            if pd.api.types.is_numeric_dtype(column):
                self.codes.append(name)
            hit = np.zeros(self.buckets + 1, dtype=bool)
            hit[self._buckets(frame, name)] = True
            self.places[name] = np.where(hit, np.cumsum(hit) - 1, _NOWHERE).tolist()
        return self.transform(frame)

    def transform(self, frame: pd.DataFrame) -> NDArray[np.float32]:
        """The features of rows, float32 [N, K]."""
        blocks = [np.empty((len(frame), 0), dtype=np.float32)]
        for name in self.names:
            place = np.array(self.places[name])[self._buckets(frame, name)]
            block = np.zeros((len(frame), self._width(name)), dtype=np.float32)
            rows = np.flatnonzero(place != _NOWHERE)
            block[rows, place[rows]] = 1.0
            blocks.append(block)
        return np.concatenate(blocks, axis=1)

    def feature_names(self) -> Iterator[str]:
        """``hash(column, 17)``, the bucket; ``missing(column)``, if training had missing values."""
        for name in self.names:
            for bucket, place in enumerate(self.places[name]):
                if place != _NOWHERE:
                    last = bucket == self.buckets
                    yield f"missing({name})" if last else f"hash({name}, {bucket})"

    def sources(self) -> Iterator[str]:
        """The column of each feature."""
        for name in self.names:
            yield from repeat(name, self._width(name))

    def used(self, name: str) -> int:
        """How many buckets of a column have a feature."""
        return sum(place != _NOWHERE for place in self.places[name][:-1])

    def facts(self) -> dict[str, Any]:
        """Plain data, serialisable as JSON."""
        return asdict(self)

    @classmethod
    def restored(cls, facts: Mapping[str, Any]) -> Self:
        """The columns that :meth:`facts` describes.

        Raises:
            KeyError, ValueError: they do not fit together.
        """
        made = cls(**facts)
        for name in made.names:
            if len(made.places[name]) != made.buckets + 1:
                raise ValueError(f"the buckets of column {name!r} are not {made.buckets}")
        return made

    def _width(self, name: str) -> int:
        return max(self.places[name]) + 1

    def _buckets(self, frame: pd.DataFrame, name: str) -> NDArray[np.int64]:
        """The bucket of each row [N], ``buckets`` for a missing value."""
        found, values = pd.factorize(frame[name])
        texts = [level_text(value) for value in values]
        if name in self.numbers:
            texts = [level_text(number(text)) for text in texts]
        return np.append(hashed(texts, self.buckets), self.buckets)[found]


def hashed(texts: Sequence[str], buckets: int) -> NDArray[np.int64]:
    """The bucket of each text [N], from 0 to ``buckets`` - 1: the same on every machine."""
    hasher = FeatureHasher(buckets, input_type="string", alternate_sign=False)
    if not texts:
        return np.empty(0, dtype=np.int64)
    return hasher.transform([[text] for text in texts]).indices.astype(np.int64)


def has_many_levels(column: Any, most: int) -> bool:
    """Whether a column has more than ``most`` levels, of which missing is one."""
    return int(column.nunique()) + bool(column.isna().any()) > most

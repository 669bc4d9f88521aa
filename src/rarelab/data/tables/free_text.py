"""Columns of free text as a few numbers: TF-IDF of character n-grams, and its singular vectors."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from rarelab.data.tables.levels import level_text
from rarelab.data.tables.recipe import TEXT_COMPONENTS

N_GRAMS = (3, 4)
BUCKETS = 2**15
FIT_ROWS = 100_000
FIT_CHARACTERS = 10_000_000
"""The fit takes no more rows, and no more text, than this."""

WORDS = 3
"""So many words in most of its texts tell free text from identifiers and names."""

_RECURS = 2
_PIECE = 1000
_NOISE = 1e-6
_ARRAY = "free_text."


@dataclass(frozen=True)
class Topics:
    """What one column has learnt: ``idf``, the weight of each n-gram [B], and ``directions``, the
    leading right singular vectors of the weighted counts [C, B]."""

    idf: NDArray[np.float32]
    directions: NDArray[np.float32]

    @classmethod
    def fitted(cls, texts: Sequence[str], components: int) -> Self:
        """The weights and directions of training texts, at most ``components``; fewer, if the texts
        span fewer."""
        counts = _counts(texts)
        if not counts.nnz:
            return cls(np.ones(BUCKETS, np.float32), np.zeros((0, BUCKETS), np.float32))
        idf = TfidfTransformer().fit(counts).idf_.astype(np.float32)
        weighted = _weighted(counts, idf)
        svd = TruncatedSVD(min(components, len(texts)), random_state=0)
        # The last bits depend on the number of threads. A single text has no variance to explain.
        with threadpool_limits(1), np.errstate(invalid="ignore"):
            svd.fit(weighted)
        size: Any = svd.singular_values_
        directions: Any = svd.components_
        kept = directions[size > _NOISE * size.max()]
        return cls(idf, kept.astype(np.float32))

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """The components of texts [N, C]; none of a text that has no n-gram: zeros."""
        parts = [np.empty((0, len(self.directions)))]
        directions = np.asarray(self.directions.T, dtype=np.float64)
        for start in range(0, len(texts), _PIECE):
            weighted = _weighted(_counts(texts[start : start + _PIECE]), self.idf)
            parts.append(np.asarray(weighted @ directions))
        return np.concatenate(parts)


@dataclass
class FreeTextColumns:
    """The components of each text: TF-IDF of its character n-grams (3 and 4 characters within a
    word and its edges, lower case; Salton and Buckley 1988), projected onto the leading singular
    vectors of the training texts (latent semantic analysis, Deerwester et al. 1990).

    n-grams are hashed into 32,768 places, so no text of training is kept. The fit takes at most
    100,000 training texts or 10 million characters, drawn the same way each time. A missing text
    has missing components; one without n-grams has zeros.
    """

    names: list[str]
    components: int = TEXT_COMPONENTS
    topics: dict[str, Topics] = field(default_factory=dict)

    def fit(self, frame: pd.DataFrame) -> None:
        """Learn each column's n-grams in the training rows."""
        for name in self.names:
            column: Any = frame[name]
            texts = [level_text(value) for value in _drawn(column.dropna())]
            self.topics[name] = Topics.fitted(texts, self.components)

    def values(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """The components of rows [N, C], NaN = missing."""
        columns = [np.empty((len(frame), 0))]
        for name in self.names:
            found, values = pd.factorize(frame[name])
            known = self.topics[name]([level_text(value) for value in values])
            missing = np.full((1, known.shape[1]), np.nan)
            columns.append(np.concatenate([known, missing])[found])
        return np.concatenate(columns, axis=1)

    def feature_names(self) -> list[str]:
        """``text(column, 0)``: the component, the largest first."""
        return [f"text({name}, {i})" for name in self.names for i in range(self._width(name))]

    def owners(self) -> list[str]:
        """The column of each component."""
        return [name for name in self.names for _ in range(self._width(name))]

    def facts(self) -> dict[str, Any]:
        """What is no array, serialisable as JSON."""
        return {"names": self.names, "components": self.components}

    def arrays(self) -> dict[str, NDArray]:
        """Weights and directions, by the number of their column."""
        return dict(self._arrays())

    @classmethod
    def restored(cls, facts: Mapping[str, Any], arrays: Mapping[str, NDArray]) -> Self:
        """The columns that :meth:`facts` and :meth:`arrays` describe.

        Raises:
            KeyError, ValueError: they do not fit together.
        """
        made = cls(**facts)
        for i, name in enumerate(made.names):
            idf, directions = arrays[f"{_ARRAY}{i}.idf"], arrays[f"{_ARRAY}{i}.directions"]
            if idf.shape != (BUCKETS,) or directions.shape[1:] != (BUCKETS,):
                raise ValueError(f"the n-grams of column {name!r} are not {BUCKETS:,}")
            made.topics[name] = Topics(idf, directions)
        return made

    def _arrays(self) -> Iterator[tuple[str, NDArray]]:
        for i, name in enumerate(self.names):
            yield f"{_ARRAY}{i}.idf", self.topics[name].idf
            yield f"{_ARRAY}{i}.directions", self.topics[name].directions

    def _width(self, name: str) -> int:
        return len(self.topics[name].directions)


def is_free_text(column: Any) -> bool:
    """Whether a column holds texts that hardly recur, most of them of several words."""
    known = column.dropna()
    if not len(known) or pd.api.types.is_numeric_dtype(known) or known.dtype.kind in "mM":
        return False
    texts = known.unique()
    if len(texts) * _RECURS <= len(known):
        return False
    several = sum(len(str(text).split()) >= WORDS for text in texts)
    return several * 2 > len(texts)


def _drawn(column: Any) -> Any:
    """The texts to fit on: all of a column, or some drawn from it."""
    characters = float(column.astype(str).str.len().mean()) if len(column) else 0.0
    most = min(FIT_ROWS, int(FIT_CHARACTERS / max(characters, 1.0)) + 1)
    if len(column) <= most:
        return column
    rows = np.random.default_rng(0).choice(len(column), most, replace=False)
    return column.iloc[np.sort(rows)]


def _counts(texts: Sequence[str]) -> csr_matrix:
    """How often each n-gram is in each text [N, B]."""
    how: dict[str, Any] = {"norm": None, "alternate_sign": False}
    vectorizer = HashingVectorizer(
        analyzer="char_wb", ngram_range=N_GRAMS, n_features=BUCKETS, **how
    )
    counts: Any = vectorizer.transform(texts) if len(texts) else csr_matrix((0, BUCKETS))
    return counts


def _weighted(counts: csr_matrix, idf: NDArray[np.float32]) -> csr_matrix:
    """Counts times the weights of their n-grams, of length 1 in each text that has any."""
    weighted: Any = normalize(counts.multiply(idf.astype(np.float64)[None, :]).tocsr())
    return weighted

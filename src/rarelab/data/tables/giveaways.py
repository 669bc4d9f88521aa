"""What makes a table look easier than the task is: columns that alone tell the label, and rows that
only an identifier tells apart."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rarelab.data.tables.divide import Indices
from rarelab.quoting import override

SEPARATES = 0.9
"""Of the way from the chance level to an AUCPR of 1: beyond it, a column alone separates."""

_FEWEST_ROWS = 50
"""In fewer rows, integers may well all differ by chance."""
_FEWEST_REPEATS = 0.001
_FILLED_SHARE = 0.1
_BY_CHANCE = 1e-6
_SAMPLED = 10_000
_ASIDE = 2
_HASHED = 2**18
"""Rows that are hashed at once."""
_SHOWN = 6

Mask = NDArray[np.bool_]


def separating_columns(
    features: pd.DataFrame, train: NDArray[np.int64], y: Mask, rare: str, dropped: Sequence[str]
) -> Iterator[str]:
    """A note on the columns that alone separate a class from the others among the rows ``train``.

    ``y`` marks its rows, ``rare`` is its name, and ``dropped`` are the columns left out already.

    A column is scored by the average precision of the best of a few rankings: its values in either
    direction, missing ones last; the share of positives among its nearest values, which finds an
    identifier given class by class; for text, that among the other rows of the same text, so that
    one text a row tells nothing. Besides, a column may be filled for positives only.

    Columns are scored on a sample first, and only those that separate it on all rows.
    """
    if _separable_by_chance(y, len(features.columns)):
        return
    sample, chance = _sample(y), float(y.mean())
    enough = chance + SEPARATES * (1 - chance)
    found: dict[str, str] = {}
    for name in features.columns:
        drawn = features[name].iloc[train[sample]]
        if _precision(drawn, y[sample]) < enough and not _filled(drawn, y[sample], chance):
            continue
        order = _shuffled(len(y))
        column = features[name].iloc[train[order]]
        aucpr, filled = _precision(column, y[order]), _filled(column, y[order], chance)
        if aucpr >= enough or filled:
            told = f", filled in {filled:,} rows, all of this class" if filled else ""
            found[str(name)] = f"{str(name)!r} (AUCPR {aucpr:.4f}{told})"
    if not found:
        return
    shown = ", ".join([*found.values()][:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    alone = "alone separates" if len(found) == 1 else "each alone separate"
    yield (
        f"{shown}{more} {alone} class {rare!r} from the other training rows (chance"
        f" {chance:.2g}): a copy of the target, an identifier or a time that follows it, or known"
        f" only afterwards? Leave out what a new row would not have: {_drop(dropped, found)}"
    )


def hidden_repeats(
    features: pd.DataFrame, y: NDArray[np.int64], rows: Indices, dropped: Sequence[str]
) -> Iterator[str]:
    """A note on rows that are equal but for columns with a different value in every row."""
    unique = [name for name in features.columns if _is_identifier(features[name])]
    rest = features.drop(columns=unique)
    if not unique or not len(rest.columns):
        return
    kinds, distinct = pd.factorize(row_hashes(rest))
    repeated = len(kinds) - len(distinct)
    if repeated < _FEWEST_REPEATS * len(kinds):
        return
    train, val, test = rows
    seen = np.zeros(len(distinct), dtype=bool)
    seen[kinds[np.concatenate([train, val])]] = True
    across = seen[kinds[test]]
    note = (
        f"apart from {', '.join(repr(str(name)) for name in unique[:_SHOWN])}, {repeated:,} of"
        f" {len(kinds):,} rows repeat another row; {across.sum():,} of {len(test):,} test rows also"
        " appear in train or val"
    )
    if y.max() == 1:
        positive = y[test] == 1
        note += f", including {(across & positive).sum():,} of {positive.sum():,} positives"
    yield f"{note} ({_drop(dropped, unique)} dataset.deduplicate=true leaves repeats out)"


def row_hashes(features: pd.DataFrame) -> NDArray[np.uint64]:
    """A hash of each row [N]."""
    made = np.empty(len(features), dtype=np.uint64)
    for start in range(0, len(features), _HASHED):
        piece = features.iloc[start : start + _HASHED]
        hashes: Any = pd.util.hash_pandas_object(piece, index=False)  # pyright: ignore
        made[start : start + _HASHED] = hashes.to_numpy()
    return made


def _drop(dropped: Sequence[str], more: Iterable[Any]) -> str:
    return override("dataset.drop", [*dropped, *map(str, more)])


def _separable_by_chance(y: Mask, columns: int) -> bool:
    """Whether one of so many random columns could well rank so few positives first."""
    rows, positives = len(y), int(y.sum())
    orders = (math.lgamma(n + 1) for n in (rows, positives, rows - positives))
    log_ways = next(orders) - sum(orders)
    return log_ways < math.log(2 * columns / _BY_CHANCE)


def _shuffled(rows: int) -> NDArray[np.int64]:
    """All rows in random order, so that sorting leaves ties in random order."""
    return np.random.default_rng(0).permutation(rows)


def _sample(y: Mask) -> NDArray[np.int64]:
    """Rows in random order: all, or as many as fit, with at least a quarter of positives."""
    order = _shuffled(len(y))
    if len(y) <= _SAMPLED:
        return order
    hit, miss = order[y[order]], order[~y[order]]
    taken = min(len(hit), max(_SAMPLED // 4, round(_SAMPLED * len(hit) / len(y))))
    return np.sort(np.concatenate([hit[:taken], miss[: _SAMPLED - taken]]))[_shuffled(_SAMPLED)]


def _precision(column: Any, y: Mask) -> float:
    """The average precision of the best ranking of ``y`` by a column; rows in random order."""
    numbers = _numbers(column)
    if numbers is None:
        return _precision_of_texts(column, y)
    order = np.argsort(numbers, kind="stable")
    ranked, hits = numbers[order], y[order]
    known = len(ranked) - int(np.isnan(ranked).sum())
    bounds = np.flatnonzero(ranked[1:known] != ranked[: max(known - 1, 0)]) + 1
    downwards = np.concatenate([hits[:known][::-1], hits[known:]])
    return max(
        _average_precision(hits, np.concatenate([bounds, [known, len(hits)]])),
        _average_precision(downwards, np.concatenate([known - bounds[::-1], [known, len(hits)]])),
        _by_level(*np.unique(_neighbours(hits), return_inverse=True), hits),
    )


def _numbers(column: Any) -> NDArray[np.float64] | None:
    """The values as numbers, NaN = missing; None for text."""
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    if column.dtype.kind in "mM":
        values = column.to_numpy().astype(np.float64)
        return np.where(column.isna(), np.nan, values)
    return None


def _neighbours(hits: Mask) -> NDArray[np.int64]:
    """For each place in a ranking, how many of the places nearest to it are positive."""
    padded = np.pad(hits.astype(np.int64), _ASIDE)
    total = np.cumsum(np.concatenate([[0], padded]))
    width = 2 * _ASIDE + 1
    return total[width:] - total[:-width] - hits


def _precision_of_texts(column: Any, y: Mask) -> float:
    """Each row scored by the rate of positives among the other rows of its text, missing being one.

    One row of the average rate is added, so that a text of one row scores that.
    """
    codes = pd.factorize(column, use_na_sentinel=False)[0]
    rows, hits = np.bincount(codes), np.bincount(codes, weights=y)
    score = (hits[codes] - y + y.mean()) / rows[codes]
    return _by_level(*np.unique(score, return_inverse=True), y)


def _by_level(levels: NDArray, place: NDArray[np.int64], y: Mask) -> float:
    """The average precision of rows ranked by ``place``, highest first."""
    rows = np.bincount(place, minlength=len(levels))[::-1]
    hits = np.cumsum(np.bincount(place, weights=y, minlength=len(levels))[::-1])
    return float((np.diff(hits, prepend=0) * hits / np.cumsum(rows)).sum() / hits[-1])


def _average_precision(ranked: Mask, ends: NDArray[np.int64]) -> float:
    """The average precision of rows ranked best first, tied up to each of ``ends``."""
    ends = ends[ends > 0]
    hits = np.cumsum(ranked)[ends - 1]
    return float((np.diff(hits, prepend=0) * hits / ends).sum() / hits[-1])


def _filled(column: Any, y: Mask, chance: float) -> int:
    """How many values a column has, if only positives have one and not by chance; else 0."""
    filled = column.notna().to_numpy()
    count = int(filled.sum())
    if count == len(y) or (filled & ~y).any() or count < _FILLED_SHARE * y.sum():
        return 0
    return count if count * math.log(chance) < math.log(_BY_CHANCE) else 0


def _is_identifier(column: Any) -> bool:
    """Whether a column of integers, texts or moments has a different value in every row."""
    if len(column) < _FEWEST_ROWS or pd.api.types.is_float_dtype(column):
        return False
    return column.iloc[: 1 << 10].is_unique and column.is_unique

"""Encode a label column as class indices, or explain why it cannot be one."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rarelab.data.tables.levels import level_text, number
from rarelab.errors import RequestError, nearest

MAX_CLASSES = 200


def encode(column: pd.Series, positive: str | None) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Class indices [N] and the names of the classes.

    With ``positive`` the task is that label vs the rest. Without it, two values must be 0/1 or
    boolean (1 is positive); more than two are classes, in numeric order if all are numbers, else
    alphabetical. RequestError otherwise, naming the values found.
    """
    name = str(column.name)
    missing = int(column.isna().sum())
    if missing:
        raise RequestError(
            f"target {name!r} is missing in {missing} of {len(column)} rows: remove those rows"
        )
    codes, values = pd.factorize(column, sort=False)
    levels = [level_text(value) for value in values]
    if len(levels) < 2:
        raise RequestError(
            f"target {name!r} has only one value ({_shown(levels)}): a classifier needs two classes"
        )
    if positive is not None:
        return _against_rest(name, codes, levels, _asked(positive, levels))
    if len(levels) == 2 and set(levels) != {"0", "1"}:
        raise RequestError(
            f"target {name!r} has the values {_shown(levels)}: say which is positive, for"
            f" example dataset.positive_label={_rarest(codes, levels)}"
        )
    _refuse_measurements(name, values, levels)
    return _in_order(codes, levels)


def _asked(positive: str, levels: list[str]) -> str:
    """The level meant by ``positive``: the same text, else the same number, else the same boolean.

    YAML reads ``true`` as True, and a boolean column has the levels 0 and 1.
    """
    spelled = [positive, level_text(number(positive))]
    if positive in ("True", "False"):
        spelled += [str(int(positive == "True")), positive.lower(), positive.upper()]
    return next((text for text in spelled if text in levels), positive)


def _against_rest(
    name: str, codes: NDArray, levels: list[str], positive: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    if positive not in levels:
        raise RequestError(
            f"dataset.positive_label={positive} is not a value of {name!r} ({_shown(levels)}):"
            f" {nearest(positive, levels)}"
        )
    others = [level for level in levels if level != positive]
    negative = others[0] if len(others) == 1 else f"not {positive}"
    return (codes == levels.index(positive)).astype(np.int64), (negative, positive)


def _in_order(codes: NDArray, levels: list[str]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    numbers = [number(level) for level in levels]
    numeric = not any(isinstance(value, str) for value in numbers)
    order = sorted(range(len(levels)), key=numbers.__getitem__ if numeric else levels.__getitem__)
    rank = np.empty(len(levels), dtype=np.int64)
    rank[order] = np.arange(len(levels))
    return rank[codes], tuple(levels[i] for i in order)


def _refuse_measurements(name: str, values: Iterable[Any], levels: list[str]) -> None:
    fraction = next((v for v in values if isinstance(v, float) and not v.is_integer()), None)
    if fraction is not None:
        raise RequestError(
            f"target {name!r} has values that are not integers ({fraction}): expected class labels"
        )
    if len(levels) > MAX_CLASSES:
        raise RequestError(
            f"target {name!r} has {len(levels)} different values, expected at most {MAX_CLASSES}"
            " classes: name one with dataset.positive_label, or choose another dataset.target"
        )


def _rarest(codes: NDArray, levels: list[str]) -> str:
    return levels[int(np.bincount(codes).argmin())]


def _shown(levels: list[str]) -> str:
    shown = ", ".join(repr(level) for level in sorted(levels)[:8])
    return shown + (", …" if len(levels) > 8 else "")

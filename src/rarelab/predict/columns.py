"""Check that a file has the columns the model was trained on."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from rarelab.data.tables.levels import level_text, number
from rarelab.data.tables.preprocess import Preprocessor
from rarelab.errors import RequestError, nearest
from rarelab.quoting import override


def check_columns(frame: pd.DataFrame, fitted: Preprocessor, drop: Sequence[str] = ()) -> None:
    """Refuse a frame with a missing, unknown or repeated column, or one of another type.

    The target and the other non-feature columns of training are allowed; ``drop`` names new columns
    to ignore.

    Raises:
        RequestError: names the column and the nearest valid name.
    """
    names = [str(name) for name in frame.columns]
    if not len(frame):
        raise RequestError("the file has a header but no rows")
    for name in drop:
        if name not in names:
            raise RequestError(f"drop={name}: there is no such column; {nearest(name, names)}")
    unknown = [n for n in names if n not in (*fitted.columns, *fitted.others, *drop)]
    for name in fitted.columns:
        if name not in names:
            # A renamed column is missing under its old name and unknown under its new one.
            raise RequestError(f"column {name!r} is missing: {nearest(name, unknown or names)}")
        if names.count(name) > 1:
            raise RequestError(f"the column name {name!r} occurs more than once: rename one")
    if unknown:
        raise RequestError(
            f"column {unknown[0]!r} was not in the training data:"
            f" {nearest(unknown[0], fitted.columns)}"
            f" ({override('drop', unknown[:1])} leaves it out)"
        )
    for name, kind in fitted.columns.items():
        if kind in ("text", "code"):
            _check_text(name, frame[name], fitted.texts.levels[name])


def _check_text(name: str, column: Any, levels: Sequence[str]) -> None:
    """Numbers in a column that was text in training are refused; an unseen level is not."""
    values = [level_text(value) for value in column.dropna().unique()]
    if values and all(map(_is_number, values)) and not any(map(_is_number, levels)):
        known = ", ".join(repr(level) for level in levels[:4])
        raise RequestError(
            f"column {name!r} holds the number {values[0]}: expected text, as in training"
            f" ({known}, …)"
        )


def _is_number(text: str) -> bool:
    return not isinstance(number(text), str)

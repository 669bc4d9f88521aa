"""Check that a file has the columns the model was trained on, and find values it cannot read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rarelab.data.tables import dates
from rarelab.data.tables.levels import level_text, number, truth
from rarelab.data.tables.preprocess import Preprocessor
from rarelab.errors import RequestError, closest, few, nearest


def check_columns(frame: pd.DataFrame, fitted: Preprocessor, drop: Sequence[str] = ()) -> list[str]:
    """Refuse a frame with a missing or repeated column, or one of another type; return the names of
    columns that training did not have.

    Raises:
        RequestError: names the column and the nearest valid name.
    """
    ignored = check_names([str(name) for name in frame.columns], fitted, drop)
    if not len(frame):
        raise RequestError("the file has a header but no rows")
    texts = TextColumnsCheck(fitted)
    texts.add(frame)
    texts.finish()
    return ignored


def check_names(names: Sequence[str], fitted: Preprocessor, drop: Sequence[str] = ()) -> list[str]:
    """The columns of a file that training did not have, but for those in ``drop``.

    The target and the other non-feature columns of training need not be there.

    Raises:
        RequestError: a column of training is missing or repeated, or one in ``drop`` is not there.
    """
    for name in drop:
        if name not in names:
            raise RequestError(f"drop={name}: there is no such column; {nearest(name, names)}")
    unknown = [n for n in names if n not in (*fitted.columns, *fitted.others, *drop)]
    for name in fitted.columns:
        if name not in names:
            # A renamed column is missing under its old name and unknown under its new one.
            other = closest(name, unknown)
            told = f"did you mean {other!r}?" if other else f"the file has {few(names)}"
            raise RequestError(f"column {name!r} is missing: {told}")
        if names.count(name) > 1:
            raise RequestError(f"the column name {name!r} occurs more than once: rename one")
    return unknown


class TextColumnsCheck:
    """Refuse a column of numbers that was text in training; an unseen level is none of its concern.

    A file is read in pieces, and one text anywhere in the column clears it.
    """

    def __init__(self, fitted: Preprocessor) -> None:
        levels = fitted.texts.levels if fitted.texts.names else {}
        self._levels = {n: known for n, known in levels.items() if not any(map(_is_number, known))}
        self._first: dict[str, str] = {}

    def add(self, frame: pd.DataFrame) -> None:
        """Look at a piece of the file."""
        for name in [*self._levels]:
            texts: Any = map(level_text, frame[name].dropna().unique())
            for text in texts:
                if not _is_number(text):
                    del self._levels[name]
                    break
                self._first.setdefault(name, text)

    def finish(self) -> None:
        """Raises RequestError if a column of text held numbers only."""
        for name, levels in self._levels.items():
            if name in self._first:
                known = ", ".join(repr(level) for level in levels[:4])
                raise RequestError(
                    f"column {name!r} holds the number {self._first[name]}: expected text, as in"
                    f" training ({known}, …)"
                )


def _is_number(text: str) -> bool:
    return not isinstance(number(text), str)


@dataclass(frozen=True)
class Unreadable:
    """A row of the file that has no score, and why."""

    row: int
    why: str

    def __str__(self) -> str:
        return f"row {self.row}: {self.why}"


def readable(
    frame: pd.DataFrame, fitted: Preprocessor, first_row: int = 0
) -> tuple[pd.DataFrame, list[Unreadable]]:
    """The frame with unreadable numbers and dates replaced by missing ones, and the rows that hold
    them, in order. ``first_row`` is the number of the frame's first row in its file."""
    found: dict[int, Unreadable] = {}
    read: dict[str, Any] = {}
    for name, kind in fitted.columns.items():
        if kind == "number":
            column: Any = frame[name]
            values = _numbers(column, maybe_truth=_holds_truth(fitted, name))
            bad = np.isinf(values) | (np.isnan(values) & column.notna().to_numpy())
            for place in np.flatnonzero(bad).tolist():
                if place not in found:
                    why = _why(name, column.iloc[place], infinite=bool(np.isinf(values[place])))
                    found[place] = Unreadable(first_row + place, why)
            read[name] = np.where(bad, np.nan, values)
        elif kind == "date":
            bad = dates.unreadable(frame[name], dates.moments(frame[name]))
            for place in np.flatnonzero(bad).tolist():
                why = _why(name, frame[name].iloc[place], expected="dates")
                found.setdefault(place, Unreadable(first_row + place, why))
            read[name] = frame[name].mask(bad)
    others = {n: frame[n] for n in fitted.columns if n not in read}
    clean = pd.DataFrame(others | read, index=frame.index, columns=[*fitted.columns])
    return clean, [found[place] for place in sorted(found)]


def _why(name: str, value: Any, *, infinite: bool = False, expected: str = "numbers") -> str:
    if infinite:
        return f"column {name!r} holds an infinite value: expected finite numbers"
    shown = repr(value) if isinstance(value, str) else str(value)
    shown = shown if len(shown) <= 60 else f"{shown[:56]}…{shown[-1]}"
    return f"column {name!r} holds {shown}: expected {expected}, as in training"


def _numbers(column: Any, *, maybe_truth: bool) -> NDArray[np.float64]:
    """The column as float64, NaN where a value is missing or no number."""
    if column.dtype.kind in "mM":
        return np.full(len(column), np.nan)
    try:
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        pass
    parsed: Any = pd.to_numeric(column, errors="coerce")
    values = parsed.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
    if maybe_truth:
        # Another value in a column of True and False makes pandas read all of it as text.
        unread = np.flatnonzero(np.isnan(values) & column.notna().to_numpy())
        values[unread] = [truth(column.iloc[place]) for place in unread.tolist()]
    return values


def _holds_truth(fitted: Preprocessor, name: str) -> bool:
    """Whether training may have read the column as boolean."""
    return fitted.seen is None or {*fitted.seen.ranges.get(name, [0, 1])} <= {0, 1}

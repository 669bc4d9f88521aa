"""Columns of a user's table that are probably not features: row numbers, dates as text, names."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from rarelab.data.source import Roles
from rarelab.data.tables.dates import are_dates
from rarelab.data.tables.free_text import is_free_text
from rarelab.data.tables.levels import number
from rarelab.data.tables.recipe import Recipe
from rarelab.quoting import override

_FEWEST_ROWS = 50
"""In fewer rows, integers may well all differ by chance."""

_RECURS = 2
"""Rows per level from which a column of text is more than an identifier: levels that recur can be
learnt from, though not by one-hot encoding."""

_DATES = "dates, most of them rare"
_FREE = "texts of several words, most of them rare"
_SHOWN = 6

_FORMATTED = re.compile(r"[-+]?[$€£]? ?(\d{1,3}([., ']\d{3})+([.,]\d+)?|\d+([.,]\d+)?) ?[%$€£]?")
"""A number with a currency sign, a percent sign, or separators between its digits."""


def stray_texts(frame: pd.DataFrame, roles: Roles) -> dict[str, str]:
    """Columns that would be numeric but for a few texts, with a description of each.

    A single text makes pandas read the whole column as text, with mostly rare levels.
    """
    named = {roles.target, roles.group, roles.time, roles.sample_weight, *roles.drop}
    named |= {*roles.keep, *roles.scores}
    found = {}
    for name in frame.columns:
        if name not in named and pd.api.types.is_string_dtype(frame[name]):
            why = _stray(frame[name])
            if why:
                found[str(name)] = why
    return found


def _stray(column: Any) -> str:
    counts = column.dropna().astype(str).value_counts()
    if len(counts) < 2:
        return ""
    is_number = np.array([not isinstance(number(text), str) for text in counts.index])
    stray, rows = counts.index[~is_number], int(counts[~is_number].sum())
    few = 10 * rows <= len(column) or (len(stray) == 1 and 2 * rows < counts.sum())
    if rows and few:
        where = int((column == stray[0]).to_numpy(dtype=bool, na_value=False).argmax()) + 1
        share = f"{rows} of {len(column)} rows hold" if rows > 1 else "one row holds"
        return f"is all numbers, but {share} text ({stray[0]!r} in row {where})"
    written = [text for text in counts.index if _FORMATTED.fullmatch(text.strip())]
    if not is_number.any() and len(written) == len(counts):
        return f"holds numbers with extra characters ({written[0]!r})"
    return ""


def suspect_columns(frame: pd.DataFrame, roles: Roles, recipe: Recipe) -> Iterator[str]:
    """Notes that name such columns, with the override that drops them, and columns of which one-hot
    encoding keeps few levels; none if all are fine."""
    stray = stray_texts(frame, roles)
    for name, why in stray.items():
        yield (
            f"column {name!r} {why}, so it is read as text: if it should be numeric, write plain"
            " numbers and leave the other cells empty"
        )
    if len(frame) < _FEWEST_ROWS:
        return
    kept = recipe.max_categories - 1
    named = {roles.target, roles.group, roles.time, roles.sample_weight, *roles.drop}
    named |= {*roles.keep, *roles.scores, *stray}
    found: dict[str, str] = {}
    cut: dict[str, str] = {}
    for name in frame.columns:
        if name in named:
            continue
        column: Any = frame[name]
        levels = _rare_levels(column, kept)
        if pd.api.types.is_integer_dtype(column) and column.is_unique:
            found[str(name)] = "has a different value in every row"
        elif _is_named_id(str(name)) and pd.api.types.is_integer_dtype(column):
            if column.nunique() > kept:
                found[str(name)] = "is named like an identifier"
        elif levels and are_dates(column):
            if recipe.dates == "levels":
                found[str(name)] = f"holds {levels:,} {_DATES}"
        elif _is_encoded_text(str(name), column, recipe):
            continue
        elif levels and is_free_text(column):
            found[str(name)] = f"holds {levels:,} {_FREE}"
        elif levels * _RECURS > column.notna().sum():
            found[str(name)] = f"holds {levels:,} texts, most of them rare"
        elif levels:
            cut[str(name)] = f"has {levels:,} levels, of which at most {kept} are kept"
    if found:
        apart = any(_DATES in why for why in found.values())
        free = any(_FREE in why for why in found.values())
        yield (
            f"probably not features: {_shown(found)}; leave them out with"
            f" {override('dataset.drop', list(found))}, or split by one (dataset.group,"
            " dataset.time)"
            + (", or take dates apart (dataset.dates=parts)" if apart else "")
            + (", or make numbers of free text (dataset.text=tfidf)" if free else "")
        )
    if cut and recipe.high_cardinality == "onehot":
        yield f"{_shown(cut)}: dataset.high_cardinality=target encodes all"


def _is_encoded_text(name: str, column: Any, recipe: Recipe) -> bool:
    """Whether a column becomes numbers as free text."""
    if recipe.text == "levels" or recipe.text_columns is not None:
        return name in (recipe.text_columns or ())
    return is_free_text(column)


def _shown(found: dict[str, str]) -> str:
    shown = ", ".join(f"{name!r} {why}" for name, why in list(found.items())[:_SHOWN])
    return shown + (f" (and {len(found) - _SHOWN} more)" if len(found) > _SHOWN else "")


def _is_named_id(name: str) -> bool:
    """``id``, ``customer_id``, ``customer id``, ``customerId``."""
    return bool(re.search(r"(^|[\W_])[iI][dD]$|[a-z]I[dD]$", name))


def _rare_levels(column: Any, kept: int) -> int:
    """How many levels a column of text has, if the ``kept`` most frequent are in less than half of
    its rows; else 0."""
    if pd.api.types.is_numeric_dtype(column):
        return 0
    counts = column.value_counts()
    return len(counts) if counts.iloc[:kept].sum() * 2 < counts.sum() else 0

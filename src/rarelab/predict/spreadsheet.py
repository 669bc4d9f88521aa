"""Escape text that a spreadsheet would run as a formula."""

from collections.abc import Iterable

import pandas as pd

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def inert(table: pd.DataFrame) -> pd.DataFrame:
    """The table with an apostrophe before every header or cell text that a spreadsheet would read
    as a formula: a class may be called ``=cmd|...``. Signed numbers are unchanged, even as text.

    Source: OWASP, CSV Injection.
    """
    shown = table.rename(columns=_inert)
    for name in shown.columns:
        kind = shown[name].dtype
        if pd.api.types.is_object_dtype(kind) or isinstance(kind, pd.StringDtype):
            if pd.api.types.is_string_dtype(kind) and not _any(shown[name].unique()):
                continue
            # Series.map would turn integers with gaps into floats.
            shown[name] = pd.Series([*map(_inert, shown[name])], shown.index, dtype=kind)
    return shown


def _any(values: Iterable[object]) -> bool:
    """Whether one of the values would be changed."""
    return any(_inert(value) is not value for value in values)


def _inert(value: object) -> object:
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value

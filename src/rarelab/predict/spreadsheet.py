"""Text that a spreadsheet shows instead of running it."""

import pandas as pd

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def inert(table: pd.DataFrame) -> pd.DataFrame:
    """The table with an apostrophe before each text, header or cell, that a spreadsheet would take
    for a formula: a class may be called ``=cmd|...``. Numbers keep their sign, in text too.

    Source: OWASP, CSV Injection.
    """
    shown = table.rename(columns=_inert)
    for name in shown.columns:
        if shown[name].dtype == object or isinstance(shown[name].dtype, pd.StringDtype):
            shown[name] = shown[name].map(_inert)
    return shown


def _inert(value: object) -> object:
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value

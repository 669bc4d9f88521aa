"""Columns of a user's table that are probably no features: row numbers, dates as text, names."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from rarelab.data.source import Roles

_FEWEST_ROWS = 50
"""In fewer rows whole numbers may well all differ by chance."""

_SHOWN = 6


def suspect_columns(frame: pd.DataFrame, roles: Roles, max_categories: int) -> Iterator[str]:
    """A note that names them, with the override that leaves them out; nothing if there are none."""
    named = {roles.target, roles.group, roles.time, roles.sample_weight, *roles.drop}
    found = {
        str(name): why
        for name in frame.columns
        if name not in named and (why := _suspicion(frame[name], max_categories))
    }
    if not found or len(frame) < _FEWEST_ROWS:
        return
    shown = ", ".join(f"{name!r} {why}" for name, why in list(found.items())[:_SHOWN])
    more = f" (and {len(found) - _SHOWN} more)" if len(found) > _SHOWN else ""
    yield (
        f"no use as features? {shown}{more}: leave them out with"
        f" 'dataset.drop=[{','.join(found)}]', or split by one (dataset.group, dataset.time)"
    )


def _suspicion(column: Any, max_categories: int) -> str:
    if pd.api.types.is_integer_dtype(column):
        return "differs in every row" if column.is_unique else ""
    if pd.api.types.is_numeric_dtype(column):
        return ""
    counts = column.value_counts()
    if counts.iloc[: max_categories - 1].sum() * 2 >= counts.sum():
        return ""
    kind = "dates" if _are_dates(column) else "texts"
    return f"holds {len(counts):,} {kind}, most of them rare"


def _are_dates(column: Any) -> bool:
    try:
        pd.to_datetime(column.dropna().head(100), format="ISO8601", utc=True)
    except (ValueError, TypeError):
        return False
    return True

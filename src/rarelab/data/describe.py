"""``rarelab data describe FILE``: what each column of a table would become, before any training."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from rarelab.data.file import TableFile
from rarelab.data.source import Roles
from rarelab.data.splits import Splits
from rarelab.data.tables.preprocess import Preprocessor
from rarelab.errors import RequestError

if TYPE_CHECKING:
    from rarelab.data.tables.levels import TextColumns

_HEAD = ("column", "becomes", "missing", "values")
_LEVELS = 3
_WIDEST = 40


def describe(table: TableFile) -> tuple[str, RequestError | None]:
    """The columns of a table, the notes that training would give, and why it would be refused.

    For each column: the features it becomes, its share of missing values, and its range or its most
    frequent levels. What only training rows can tell (levels, flags for missing values) is that of
    the table's own split.
    """
    frame, _, note, name = table.read()
    refused, splits = None, None
    try:
        splits = table.splits(0)
    except RequestError as error:
        refused = error
    fitted = splits.preprocessor if splits else None
    rows = [_row(str(column), frame[column], table.roles, fitted) for column in frame.columns]
    notes = splits.notes if splits else [note] if note else []
    lines = [f"{name}: {len(frame):,} rows, {len(frame.columns):,} columns", *_aligned(rows)]
    lines += [f"note: {each}" for each in notes]
    lines += [_outcome(splits)] if splits else []
    return "\n".join(lines), refused


def _row(
    name: str, column: Any, roles: Roles, fitted: Preprocessor | None
) -> tuple[str, str, str, str]:
    becomes = _role(name, roles) or _features(name, column, fitted)
    return _short(name), becomes, f"{float(column.isna().mean()):.1%}", _values(column)


def _role(name: str, roles: Roles) -> str:
    """What a column is, if it is not a feature."""
    if name == roles.target:
        return "the target"
    if name in roles.drop:
        return "left out (drop)"
    for role in ("group", "time", "sample_weight"):
        if name == getattr(roles, role):
            return f"not a feature ({role})"
    if name in roles.scores:
        return "the score of a model in use (scores)"
    return "beside the scores (keep)" if name in roles.keep else ""


def _features(name: str, column: Any, fitted: Preprocessor | None) -> str:
    if fitted is None:
        if pd.api.types.is_datetime64_any_dtype(column):
            return "dates"
        return "a number" if pd.api.types.is_numeric_dtype(column) else "levels"
    if name in fitted.texts.names:
        return _levels(name, fitted.texts)
    if name in fitted.dates.names:
        return _parts(name, fitted)
    if name in fitted.hashed.names:
        levels, buckets = fitted.hashed.levels[name], fitted.hashed.used(name)
        return _with_flag(f"{levels:,} levels in {buckets:,} hash buckets", name, fitted)
    if name in fitted.free.names:
        return _with_flag(f"{fitted.free.owners().count(name)} numbers from n-grams", name, fitted)
    flag = fitted.numbers.index(name) in fitted.scaled.flagged
    return "a number and a flag for missing" if flag else "a number"


def _parts(name: str, fitted: Preprocessor) -> str:
    """The parts that a date becomes."""
    first = fitted.dates.first[name][:10]
    parts = [f"days since {first}" if part == "days" else part for part in fitted.dates.parts[name]]
    parts += [f"sin and cos of {cycle}" for cycle in fitted.dates.cycles.get(name, [])]
    return _with_flag(", ".join(parts), name, fitted)


def _with_flag(parts: str, name: str, fitted: Preprocessor) -> str:
    flag = f"missing({name})" in fitted.feature_names
    return parts + (" and a flag for missing" if flag else "")


def _levels(name: str, texts: "TextColumns") -> str:
    """One-hot columns, and how many of the levels share the last of them; or target encoding."""
    if name in texts.tables:
        return f"target encoding of {len(texts.levels[name]):,} levels"
    if name in texts.coded:
        return f"codes of {len(texts.levels[name]):,} levels, for model.categories=native"
    places = texts.places[name]
    levels, columns = len(texts.levels[name]), max(places) + 1
    shared = sum(place == places[-1] for place in places[:-1])
    sharing = f": {shared:,} of {levels:,} levels share one" if shared else ""
    return f"{columns:,} one-hot{sharing}"


def _values(column: Any) -> str:
    known = column.dropna()
    if not len(known):
        return "none"
    if pd.api.types.is_bool_dtype(known) or not (
        pd.api.types.is_numeric_dtype(known) or pd.api.types.is_datetime64_any_dtype(known)
    ):
        counts = known.astype(str).value_counts()
        if counts.iloc[0] == 1:
            return f"{len(counts):,} different ones, such as {_short(counts.index[0])}"
        shown = [
            f"{_short(level)} {n / len(known):.1%}" for level, n in counts.head(_LEVELS).items()
        ]
        rest = len(counts) - len(shown)
        return ", ".join(shown) + (f" and {rest:,} more" if rest else "")
    if pd.api.types.is_datetime64_any_dtype(known):
        return f"{known.min()} to {known.max()}"
    low, middle, high = (f"{float(value):.6g}" for value in known.quantile([0, 0.5, 1]))
    return f"{low} to {high}, median {middle}"


def _outcome(splits: Splits) -> str:
    parts = ", ".join(
        f"{name} {len(part):,} rows ({splits.prevalence[name]:.3%} positive)"
        if splits.task == "binary"
        else f"{name} {len(part):,} rows"
        for name, part in splits.tables()
    )
    return f"{len(splits.features):,} features; {parts}"


def _short(text: Any) -> str:
    shown = " ".join(str(text).split())
    return shown if len(shown) <= _WIDEST else f"{shown[: _WIDEST - 1]}…"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    table = [_HEAD, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(_HEAD) - 1)]
    return ["  " + "  ".join([*map(str.ljust, row, widths), row[-1]]).rstrip() for row in table]

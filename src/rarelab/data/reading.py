"""Reads a table as a frame, from wherever it is and however it is written."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from rarelab.data.columns import Columns, Reading, note
from rarelab.data.dialect import Csv
from rarelab.data.formats import READ_AS, Content, Later, ending_of, loaded, read_file
from rarelab.data.places import Place, find, locate
from rarelab.data.sql import is_query, query
from rarelab.data.stored import as_text, is_vector, spread, width_in
from rarelab.errors import RequestError, nearest

if TYPE_CHECKING:
    from pandas import DataFrame

    from rarelab.data.tables.preprocess import Preprocessor

__all__ = ["READ_AS", "ending_of", "find", "locate", "opened", "read", "read_like", "read_table"]


_NAMELESS = "Unnamed: 0"


def read(
    place: Place | pa.Table,
    said: Csv | None = None,
    *,
    drop: Collection[str] = (),
    keep: Collection[str] = (),
    like: Reading | None = None,
    unread: Collection[str] = (),
) -> "tuple[DataFrame, Reading, str]":
    """The frame, how it was read, and a note on what was understood (empty if all is plain).

    ``drop``: columns that nobody needs. ``keep``: columns to leave as they are written, at the end
    of the frame. ``like``: read every column as it was read before. ``unread``: columns of which
    only the name is wanted, so that numbers that a file stores as such are missing in the frame.

    Raises:
        RequestError: a file cannot be read, or a column cannot be a feature.
    """
    said = said or Csv()
    if like is not None and said == Csv():
        said = like.said
    content = _content(place, said, None if like is not None else {*keep, *_texts(said)})
    for name in said.dtypes or ():
        if name not in content.columns:
            raise RequestError(
                f"dataset.csv.dtypes.{name} is not a column: {nearest(name, content.columns)}"
            )
    unnamed = _numbering(content.columns) if like is None else unnamed_before(content.columns, like)
    if unnamed is not None:
        del content.columns[unnamed]
        content.left_out = "the first column is left out: it has no name and numbers the rows"
    if isinstance(place, Place):  # the identity of a query's rows does not tell lists apart
        content.columns = _without_lists(content.columns, like, {*drop, *keep})
    levels = [n for n, array in content.columns.items() if pa.types.is_dictionary(array.type)]
    needed = set(content.columns if like is None else like.columns) - set(drop)
    for name, array in content.columns.items():
        if not isinstance(array, Later):
            content.columns[name] = as_text(array, name, refuse=name in needed)
    kept = {name: loaded(content.columns.pop(name)) for name in keep if name in content.columns}
    order = [*content.columns]
    rows = len(next(iter(content.columns.values()), ()))
    for name in unread:
        column = content.columns.get(name)
        if isinstance(column, Later) and column.ways is None:
            del content.columns[name]
    columns = Columns(said, content.sep, like, levels)
    frame, found = columns.frame(content.columns)
    if len(found) < len(order):
        frame = _with_empty(frame, order, rows)
    for name, array in kept.items():
        frame[name] = array.to_pandas(integer_object_nulls=True)
    extra = [content.left_out] if content.left_out else []
    reading = Reading(
        found,
        content.sep,
        content.encoding,
        said.thousands,
        None if said.na_values is None else [*said.na_values],
    )
    pa.default_memory_pool().release_unused()
    return frame, reading, note(columns, content.sep, content.encoding, extra)


def _with_empty(frame: "DataFrame", names: Sequence[str], rows: int) -> "DataFrame":
    """The frame with those of the ``names`` that it lacks: missing values that take no memory."""
    import numpy as np
    import pandas as pd

    nothing = np.broadcast_to(np.nan, rows)
    columns = {name: frame[name].array if name in frame else nothing for name in names}
    return pd.DataFrame(columns, copy=False)


def _without_lists(
    columns: dict[str, Any], like: Reading | None, others: Collection[str]
) -> dict[str, Any]:
    """The columns, with lists of numbers spread over a column each, but for ``others``."""
    made: dict[str, Any] = {}
    for name, array in columns.items():
        width = None if like is None else width_in(like.columns, name)
        spreads = is_vector(array.type) and name not in others and width != 0
        made |= (spread(array, name, width) if spreads else None) or {name: array}
    return made


def read_like(place: Place | pa.Table, fitted: "Preprocessor") -> "DataFrame":
    """The frame of new rows, read as those were that the preprocessing was fitted on."""
    return read(place, like=reading_of(fitted))[0]


def reading_of(fitted: "Preprocessor") -> Reading:
    """How the file was read that the preprocessing was fitted on."""
    known = fitted.reading
    return Reading.restored(known) if known else Reading.before(fitted.columns)


def opened(name: str, uri: str | None = None, key: str = "dataset.path") -> Place | pa.Table:
    """The place of a table, or the rows of a query (``SELECT ...``) of the database at ``uri``."""
    if uri is None and not is_query(name):
        return locate(name, key)
    return query(name, uri, key)


def read_table(path: Path, text: Collection[str] = ()) -> "DataFrame":
    """The frame of one file, with its columns as they look; those in ``text`` as text."""
    like = Reading.before(dict.fromkeys(text, "text")) if text else None
    return read(locate(str(path)), like=like)[0]


def _texts(said: Csv) -> list[str]:
    """Columns of a text file that are wanted as they are written."""
    return [_NAMELESS, *(name for name, kind in (said.dtypes or {}).items() if kind == "text")]


def _content(place: Place | pa.Table, said: Csv, texts: Collection[str] | None) -> Content:
    if not isinstance(place, Place):
        return Content(dict(zip(place.column_names, place.columns, strict=True)))
    if said.na_values is not None:
        texts = None
    parts = [read_file(file, said, texts) for file in place.files]
    for part, keys in zip(parts, place.keys, strict=True):
        rows = len(next(iter(part.columns.values())))
        part.columns |= {key: pa.array([value] * rows, pa.string()) for key, value in keys}
    first = parts[0]
    if len(parts) == 1:
        return first
    for file, part in zip(place.files, parts, strict=True):
        refuse_other_columns(place.files[0].name, file.name, first.columns, part.columns)
    for name in first.columns:
        first.columns[name] = _one_after_the_other([p.columns[name] for p in parts], name, place)
    return first


def _one_after_the_other(parts: Sequence[Any], name: str, place: Place) -> Any:
    """A column of which each file has a part; it stays in the files if all parts are there."""

    plain = all(isinstance(part, Later) and part.ways is not None for part in parts)

    def joined(*, texts: bool = not plain) -> Any:
        arrays = [_as_written(part) if texts else loaded(part) for part in parts]
        tables = [pa.table({name: array}) for array in arrays]
        return pa.concat_tables(tables, promote_options="permissive").column(0)

    try:
        if not all(isinstance(part, Later) for part in parts):
            return joined()
        schemas = [pa.schema([(name, part.type)]) for part in parts]
        kind = pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException as error:
        raise RequestError(f"the parts of {place.name} do not fit together: {error}") from None
    rows = sum(map(len, parts))
    if not plain:
        return Later(kind, rows, joined)
    ways = set.intersection(*(part.ways for part in parts))
    return Later(kind, rows, joined, ways, lambda: joined(texts=True))


def _as_written(column: Any) -> Any:
    """The array of a column, as text if its file has only text."""
    texts = column.texts if isinstance(column, Later) else None
    return texts() if texts is not None else loaded(column)


def refuse_other_columns(
    first: str, name: str, expected: Collection[str], found: Collection[str]
) -> None:
    """Refuse a part that lacks a column of the first one, or has another."""
    odd = sorted({*expected} ^ {*found})
    if odd:
        where, other = (first, name) if odd[0] in expected else (name, first)
        raise RequestError(f"the parts differ: {where} has a column {odd[0]!r}, {other} has none")


def _numbering(columns: dict[str, Any]) -> str | None:
    """The first column if it has no name and another value in every row: row names or numbers, as
    pandas and R write them."""
    name = next(iter(columns), None)
    if name != _NAMELESS or len(columns) < 2:
        return None
    values = loaded(columns[name])
    return name if len(values) > 1 and len(values.unique()) == len(values) else None


def unnamed_before(names: Collection[str], like: Reading) -> str | None:
    """The first column if it has no name, unless that is a column of the file read before."""
    name = next(iter(names), None)
    return name if name == _NAMELESS and len(names) > 1 and name not in like.columns else None

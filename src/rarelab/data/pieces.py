"""Read a table a piece at a time, as another one was read, in memory that does not grow with the
rows of a text or Parquet file."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import parquet

from rarelab.data.columns import Columns, Reading
from rarelab.data.dialect import Csv
from rarelab.data.formats import (
    INDEX,
    delimited,
    kind_of,
    names_of,
    read_file,
    unreadable_in_one_line,
)
from rarelab.data.places import Place
from rarelab.data.reading import refuse_other_columns, unnamed_before
from rarelab.data.stored import as_text, element, is_vector, spread, width_in
from rarelab.errors import RequestError

if TYPE_CHECKING:
    from pandas import DataFrame


class Unsettled(Exception):
    """Rows were read as later ones show that they must not be."""


@dataclass(frozen=True)
class _Part:
    """A file, or rows in memory: the types of its columns, and tables of some of them, in order."""

    types: dict[str, pa.DataType]
    tables: Callable[[Sequence[str], int], Iterator[pa.Table]]
    sep: str | None = None


class Pieces:
    """A table with columns ``names``, whose rows are read as ``like`` tells, so that all pieces
    together are what :func:`~rarelab.data.reading.read` gives.

    Raises:
        RequestError: a file cannot be read, or the parts of the table do not fit together.
    """

    def __init__(self, place: Place | pa.Table, like: Reading) -> None:
        self._like = like
        if isinstance(place, Place):
            found = zip(place.files, place.keys, strict=True)
            self._parts = [
                _without_lists(_with_keys(_part(file, like.said), dict(keys)), like)
                for file, keys in found
            ]
            for file, part in zip(place.files, self._parts, strict=True):
                refuse_other_columns(
                    place.files[0].name, file.name, self._parts[0].types, part.types
                )
        else:
            self._parts = [_in_memory(dict(zip(place.column_names, place.columns, strict=True)))]
        self._types = self._joint_types(place)
        self.names = [*self._types]
        unnamed = unnamed_before(self.names, like)
        if unnamed is not None:
            self.names.remove(unnamed)

    def types(self, columns: Collection[str]) -> dict[str, pa.DataType]:
        """The Arrow type of columns; in a text file, that of text."""
        return {name: self._types[name] for name in columns}

    def read(self, columns: Sequence[str], rows: int) -> "Iterator[DataFrame]":
        """Frames of these columns with ``rows`` rows each, the last one with what is left."""
        decide, ways = self._columns(), self._ways
        for table in self._tables(columns, rows):
            yield decide.frame(self._texts(table), ways)[0]

    def read_once(self, columns: Sequence[str], rows: int) -> "Iterator[DataFrame]":
        """What :meth:`read` gives, without a look at the whole file before: it is enough if the
        first pieces settle how the columns are to be read, as they mostly do.

        Raises:
            Unsettled: a later piece shows that the frames so far were read in another way.
        """
        decide, ways = self._columns(), dict[str, set[str]]()
        before: dict[str, str] | None = None
        for table in self._tables(columns, rows):
            texts = self._texts(table)
            self._narrow(ways, decide, texts)
            now = decide.decimals(self._asked(columns), ways)
            if before not in (None, now):
                raise Unsettled
            before = now
            yield decide.frame(texts, ways)[0]

    def cells(self, columns: Sequence[str], rows: int) -> "Iterator[DataFrame]":
        """The same rows as they are written, whatever the columns mean."""
        for table in self._tables(columns, rows):
            yield table.to_pandas(integer_object_nulls=True)

    @cached_property
    def _ways(self) -> dict[str, set[str]]:
        """For each column of numbers that the file holds as text, the ways in which all of its rows
        can be read: one piece alone may leave open which sign is the decimal separator."""
        asked = self._asked(self._types)
        decide, found = self._columns(), dict[str, set[str]]()
        for table in self._tables(asked, 1 << 16) if asked else ():
            self._narrow(found, decide, self._texts(table))
        return found

    def _asked(self, columns: Collection[str]) -> list[str]:
        """Those of the columns that are numbers in the file read before."""
        return [n for n, c in self._like.columns.items() if c.kind != "text" and n in columns]

    def _narrow(self, found: dict[str, set[str]], decide: Columns, texts: dict[str, Any]) -> None:
        """Leave of the ways found so far those in which a piece can be read too; columns of plain
        numbers become such."""
        for name in self._asked(texts):
            array = texts[name]
            if not pa.types.is_string(array.type):
                continue
            plain = decide.plain(array)
            ways = decide.ways(array) if plain is None else plain.ways
            if plain is not None:
                texts[name] = plain  # so that its text is parsed once
            if ways is not None:
                found[name] = found.get(name, ways) & ways

    def _columns(self) -> Columns:
        return Columns(self._like.said, self._parts[0].sep, self._like)

    def _texts(self, table: pa.Table) -> dict[str, Any]:
        columns = zip(table.column_names, table.columns, strict=True)
        return {n: as_text(array, n, refuse=n in self._like.columns) for n, array in columns}

    def _tables(self, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        schema = pa.schema([(name, self._types[name]) for name in columns])
        tables = (t for part in self._parts for t in part.tables(columns, rows))
        return _of_size(rows, (t if t.schema.equals(schema) else t.cast(schema) for t in tables))

    def _joint_types(self, place: Place | pa.Table) -> dict[str, pa.DataType]:
        first = self._parts[0].types
        schemas = [pa.schema([(n, part.types[n]) for n in first]) for part in self._parts]
        try:
            whole = pa.unify_schemas(schemas, promote_options="permissive")
        except pa.ArrowException as error:
            name = place.name if isinstance(place, Place) else "the query"
            raise RequestError(f"the parts of {name} do not fit together: {error}") from None
        return {field.name: field.type for field in whole}


def _part(path: Path, said: Csv) -> _Part:
    kind = kind_of(path)
    with unreadable_in_one_line(path):
        if kind in ("csv", "tsv"):
            return _text(path, said)
        if kind == "parquet":
            return _parquet(path)
        return _in_memory(read_file(path, said).columns)


def _text(path: Path, said: Csv) -> _Part:
    found = delimited(path, said)
    names = names_of(found.names)

    def tables(columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        with unreadable_in_one_line(path):
            for batch in found.batches([names.index(name) for name in columns]):
                yield pa.Table.from_arrays(batch.columns, names=[*columns])

    return _Part(dict.fromkeys(names, pa.string()), tables, found.sep)


def _parquet(path: Path) -> _Part:
    schema = parquet.read_schema(path)
    names = names_of(schema.names)
    stored = {n: field for n, field in zip(names, schema, strict=True) if n != INDEX}

    def tables(columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        wanted = [stored[name].name for name in columns]
        # By default Arrow keeps what it has read of the file in memory until the last batch.
        with (
            unreadable_in_one_line(path),
            parquet.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as file,
        ):
            for batch in file.iter_batches(batch_size=rows, columns=wanted):
                found = [batch.column(name) for name in wanted]
                yield pa.Table.from_arrays(found, names=[*columns])

    return _Part({name: field.type for name, field in stored.items()}, tables)


def _in_memory(columns: dict[str, Any]) -> _Part:
    """Whole columns: the other kinds of file cannot be read in pieces, and are small."""

    def tables(names: Sequence[str], rows: int) -> Iterator[pa.Table]:
        yield pa.table({name: columns[name] for name in names})

    return _Part({name: array.type for name, array in columns.items()}, tables)


def _with_keys(part: _Part, keys: dict[str, str]) -> _Part:
    """The part with the columns that its folders' names add to its rows."""
    if not keys:
        return part

    def tables(columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        own = [name for name in columns if name not in keys]
        # A column that is there tells how many rows there are.
        for table in part.tables(own or [*part.types][:1], rows):
            added = {n: pa.array([v] * len(table), pa.string()) for n, v in keys.items()}
            yield pa.table({n: added[n] if n in added else table[n] for n in columns})

    return _Part(part.types | dict.fromkeys(keys, pa.string()), tables, part.sep)


def _without_lists(part: _Part, like: Reading) -> _Part:
    """The part with lists of numbers spread over columns, as in training."""
    vectors = [name for name, kind in part.types.items() if is_vector(kind)]
    widths = {name: width for name in vectors if (width := width_in(like.columns, name))}
    owner = {element(n, i): n for n, width in widths.items() for i in range(width)}
    if not owner:
        return part
    types: dict[str, pa.DataType] = {}
    for name, kind in part.types.items():
        value: Any = kind.value_type if name in widths else kind
        types |= {element(name, i): value for i in range(widths.get(name, 0))} or {name: value}

    def tables(columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        stored = [*dict.fromkeys(owner.get(name, name) for name in columns)]
        for table in part.tables(stored, rows):
            found: dict[str, Any] = {}
            for name in stored:
                lists = name in widths
                found |= spread(table[name], name, widths[name]) if lists else {name: table[name]}
            yield pa.table({name: found[name] for name in columns})

    return _Part(types, tables, part.sep)


def _of_size(rows: int, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The tables joined and cut to equal length; a file may be stored in small batches."""
    held: list[pa.Table] = []
    size = 0
    for table in tables:
        held.append(table)
        size += len(table)
        if size >= rows:
            whole = pa.concat_tables(held)
            cut = size // rows * rows
            yield from (whole.slice(start, rows) for start in range(0, cut, rows))
            held, size = [whole.slice(cut)], size - cut
    if size:
        yield pa.concat_tables(held)

"""Reads one file of any supported kind as columns: text if the file has only text, else typed."""

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from rarelab.data.delimited import Delimited
from rarelab.data.dialect import Csv
from rarelab.errors import RequestError, one_line

_PACKED = (".gz", ".zip", ".zst", ".bz2")
_TEXT = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": ","}
_TYPED = {
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".feather", ".arrow"), "feather"),
    ".xlsx": "excel",
}
READ_AS = {
    **{
        f"{end}{packed}": "tsv" if sep == "\t" else "csv"
        for end, sep in _TEXT.items()
        for packed in ("", *_PACKED)
    },
    **dict.fromkeys(_PACKED, "csv"),
    **_TYPED,
}
"""The ending of a file's name -> how it is read. A bare ``.gz`` or ``.zip`` holds CSV."""

INDEX = "__index_level_0__"
"""The column in which pandas stores an index without a name."""


@dataclass(frozen=True)
class Later:
    """A column of ``rows`` numbers that is made, or read from its file, when it is needed.

    ``ways``: of a file of text, the ways in which its numbers can be read
    (:meth:`rarelab.data.columns.Columns.ways`); ``texts`` reads the column as it is written.
    """

    type: pa.DataType
    rows: int
    load: Callable[[], Any]
    ways: set[str] | None = None
    texts: Callable[[], Any] | None = None

    def __len__(self) -> int:
        return self.rows


@dataclass
class Content:
    """The columns of a file, as arrays or as :class:`Later`, with the separator and encoding of
    text. ``left_out`` says which column was not one of the table's."""

    columns: dict[str, Any]
    sep: str | None = None
    encoding: str | None = None
    left_out: str = ""


def ending_of(name: str) -> str | None:
    """The ending that decides how a file is read (a key of ``READ_AS``, the longest), or None."""
    found = [end for end in READ_AS if name.lower().endswith(end)]
    return max(found, key=len, default=None)


def read_file(path: Path, said: Csv, texts: Collection[str] | None = None) -> Content:
    """The columns of a file; RequestError if it cannot be read.

    ``texts``: columns that a text file is to give as they are written; None: all. Others that are
    plain numbers throughout are given as such, in a third of the memory of their text.
    """
    kind = kind_of(path)
    with unreadable_in_one_line(path):
        if kind == "parquet":
            return _parquet(path)
        if kind == "feather":
            from pyarrow import feather

            return _named(distinct(feather.read_table(path)))
        if kind == "excel":
            return _named(distinct(_excel(path)))
        found = delimited(path, said)
        if texts is None:
            return Content(distinct(found.table()), found.sep, found.encoding)
        names = names_of(found.names)
        read = plain_columns(found, names, texts, said.thousands)
        return Content(read, found.sep, found.encoding)


def kind_of(path: Path) -> str:
    """How a file is read: csv, tsv, parquet, feather or excel."""
    ending = ending_of(path.name)
    if ending is None:
        raise RequestError(f"{path.name}: expected a name ending in {', '.join(READ_AS)}")
    return READ_AS[ending]


def delimited(path: Path, said: Csv) -> Delimited:
    """The text file at a path, uncompressed."""
    usual = "\t" if kind_of(path) == "tsv" else said.sep or ","
    return Delimited.of(lambda: _unpacked(path), path.name, usual, said)


@contextmanager
def unreadable_in_one_line(path: Path) -> Iterator[None]:
    """Errors of the parsers as a RequestError that names the file."""
    try:
        yield
    except RequestError:
        raise
    except (ValueError, OSError, EOFError, zlib.error, zipfile.BadZipFile, KeyError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RequestError(f"{path.name} cannot be read as {kind_of(path)}: {first}") from None


def _unpacked(path: Path) -> IO[bytes]:
    """The bytes of a file, uncompressed."""
    lower = path.name.lower()
    if lower.endswith(".zip"):
        archive = zipfile.ZipFile(path)
        tables = [n for n in archive.namelist() if not n.endswith("/") and "__MACOSX" not in n]
        if len(tables) != 1:
            raise RequestError(
                f"{path.name} holds {len(tables)} files, expected one table: unpack it and give a"
                " folder or a file"
            )
        return archive.open(tables[0])
    packed = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}.get(lower[lower.rfind(".") :])
    if packed == "gzip":
        unzipped: Any = gzip.open(path)  # noqa: SIM115
        return unzipped
    file: Any = pa.input_stream(str(path), compression=packed)
    return io.BufferedReader(file)


def distinct(table: pa.Table) -> dict[str, Any]:
    """The columns by name."""
    return dict(zip(names_of(table.column_names), table.columns, strict=True))


def names_of(header: Sequence[str]) -> list[str]:
    """The names of the columns, all different; nameless ones are called as pandas calls them."""
    names = [name.strip() or f"Unnamed: {i}" for i, name in enumerate(header)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RequestError(
            f"the column name {twice[0]!r} occurs more than once: rename one of them"
        )
    return names


def plain_columns(
    found: Delimited, names: Sequence[str], texts: Collection[str], thousands: str | None = None
) -> dict[str, Any]:
    """The columns of a text file, those of plain numbers as :class:`Later`; read a block of the
    file at a time, and columns of text in another pass."""
    from rarelab.data.plain import PlainColumn

    known = {place: PlainColumn(thousands) for place, name in enumerate(names) if name not in texts}
    rows = 0
    for batch in found.batches([*known]) if known else ():
        rows += len(batch)
        for column, place in zip(batch.columns, known, strict=True):
            known[place].add(column)
    numbers = {place: column for place, column in known.items() if column.ways is not None}

    def text(places: Sequence[int]) -> list[Any]:
        batches = [*found.batches(places)]
        schema = pa.schema([(str(i), pa.string()) for i in places])
        return pa.Table.from_batches(batches, batches[0].schema if batches else schema).columns

    others = [place for place in range(len(names)) if place not in numbers]
    read = dict(zip(others, text(others) if others else [], strict=True))
    made: dict[str, Any] = {}
    for place, name in enumerate(names):
        column = numbers.get(place)
        made[name] = read.get(place)
        if column is not None:
            again = partial(text, [place])
            made[name] = Later(
                column.type, rows, column.array, column.ways, lambda again=again: again()[0]
            )
    return made


def loaded(column: Any) -> Any:
    """The array of a column, read now if that was put off."""
    return column.load() if isinstance(column, Later) else column


def _parquet(path: Path) -> Content:
    """Numbers are left where they are: a table of them is far larger than its other columns, and
    is needed a column at a time."""
    from pyarrow import parquet

    # By default Arrow keeps what it has read of the file in memory until the last batch.
    options: Any = {"pre_buffer": False, "buffer_size": 2**20}
    with parquet.ParquetFile(path, **options) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
        names = names_of(schema.names)
        others = [field.name for field in schema if not _is_plain(field.type)]
        eager = file.read(columns=others)

    def later(name: str) -> Callable[[], Any]:
        def load() -> Any:
            with (
                unreadable_in_one_line(path),
                parquet.ParquetFile(path, **options) as file,
            ):
                return file.read(columns=[name], use_threads=False).column(0)

        return load

    return _named(
        {
            name: Later(field.type, rows, later(field.name))
            if _is_plain(field.type)
            else eager.column(field.name)
            for name, field in zip(names, schema, strict=True)
        }
    )


def _is_plain(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _named(columns: dict[str, Any]) -> Content:
    if columns.pop(INDEX, None) is not None:
        return Content(columns, left_out="the index without a name is left out")
    return Content(columns)


def _excel(path: Path) -> pa.Table:
    """The first sheet; its first row that is not empty is the header."""
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError:
        raise RequestError(f"{path.name}: pip install 'rarelab[excel]' for .xlsx files") from None
    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except (InvalidFileException, KeyError) as error:
        raise ValueError(one_line(error)) from None
    try:
        rows = (
            row
            for row in book.worksheets[0].iter_rows(values_only=True)
            if any(cell is not None for cell in row)
        )
        header = next(rows, None)
        if header is None:
            raise RequestError(f"{path.name} is empty: expected a header and rows")
        used = max(i for i, cell in enumerate(header) if cell is not None) + 1
        names = ["" if cell is None else str(cell) for cell in header[:used]]
        cells: list[list[Any]] = [[] for _ in names]
        for number, row in enumerate(rows, 2):
            if any(cell is not None for cell in row[used:]):
                raise RequestError(
                    f"{path.name}, row {number}: more cells than the header, which has {used}"
                )
            for column, cell in zip(cells, (*row, *[None] * used), strict=False):
                column.append(cell)
    finally:
        book.close()
    return pa.Table.from_arrays([typed(column) for column in cells], names=names)


def typed(values: Sequence[Any]) -> Any:
    """A column of Python values; as text if they are of several types."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) > 1 and not kinds <= {int, float}:
        return pa.array([None if v is None else _text(v) for v in values], pa.string())
    try:
        return pa.array(values, pa.float64() if float in kinds else None)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return pa.array([None if v is None else _text(v) for v in values], pa.string())


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

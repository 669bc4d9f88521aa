"""Reads a delimited text file as columns of text, and checks the number of fields in each row.

Readers of CSV take surplus leading fields as row labels and pad short rows, so a file whose first
column has no name would be read one column to the right.
"""

import csv
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from typing import IO, TYPE_CHECKING, Any, Self, TextIO

from rarelab.data.dialect import SEPARATORS, Csv, encoding_of, separator_of
from rarelab.errors import RequestError

if TYPE_CHECKING:
    import pyarrow as pa

Line = tuple[int, int, list[str]]
"""The number of a row's first line, counted from 1, that of the next row, and the row's fields."""

_SAMPLED = 100

BLOCK = 1 << 24
"""Bytes that are parsed at once; a row must fit."""

_SMALL_BLOCK = 1 << 22
"""As much where rows are known to be short: Arrow parses ahead, and holds a few blocks."""

_ONE_BYTE = ("utf-8", "utf8", "ascii", "utf-8-sig", "latin-1", "iso-8859-1", "cp1252")
"""Encodings in which a byte below 128 is always the character of that number."""


@dataclass(frozen=True)
class Delimited:
    """A delimited text file whose rows have all been found to have as many fields as the header.

    ``opened`` opens its bytes, uncompressed. ``width``: the fields of a row, which may end in empty
    ones without a name; None if there are no rows. ``header``: the lines up to the first row.
    ``block``: bytes that are parsed at once.
    """

    opened: Callable[[], IO[bytes]]
    names: list[str]
    sep: str
    encoding: str
    width: int | None
    header: int
    block: int = BLOCK

    @classmethod
    def of(cls, opened: Callable[[], IO[bytes]], name: str, usual: str, said: Csv) -> Self:
        """What the file is, by all of its rows; ``usual`` is the separator that its name tells.

        Raises:
            RequestError: the file is empty, its encoding is unknown, or a row is wider or narrower
                than the header (with its line number).
        """
        with opened() as file:
            encoding = encoding_of(file, name, said.encoding)
        with _text(opened(), encoding) as text:
            separator = said.sep or separator_of([*islice(text, _SAMPLED)], usual)
        try:
            with _text(opened(), encoding) as text, _fields_of_any_length():
                lines = _lines(text, separator)
                _, after, names = next(lines, (0, 0, []))
                if not names:
                    raise RequestError(f"{name} is empty: expected a header and rows")
                if said.sep is not None:
                    _refuse_another_separator(name, names, separator)
                regular = _usual_width(opened, len(names), separator, encoding, after - 1)
                width, block = regular or (_width(name, len(names), lines), BLOCK)
        except csv.Error as error:
            raise RequestError(f"{name} cannot be read as text: {error}") from None
        return cls(opened, names, separator, encoding, width, after - 1, block)

    def table(self) -> "pa.Table":
        """The cells as columns of text, null where empty."""
        import pyarrow as pa
        from pyarrow import csv as arrow

        if self.width is None:
            empty = pa.array([], pa.string())
            return pa.Table.from_arrays([empty] * len(self.names), names=self.names)
        with self.opened() as file:
            table = arrow.read_csv(file, *self._options(range(self.width)))
        return table.select(range(len(self.names))).rename_columns(self.names)

    def batches(self, columns: Sequence[int]) -> "Iterator[pa.RecordBatch]":
        """Some columns of :meth:`table`, by position, a block of the file at a time."""
        from pyarrow import csv as arrow

        if self.width is None:
            return
        with self.opened() as file, arrow.open_csv(file, *self._options(columns)) as reader:
            yield from reader

    def _options(self, columns: Sequence[int]) -> tuple[Any, Any, Any]:
        import pyarrow as pa
        from pyarrow import csv as arrow

        # Positions as names: the header's may be repeated or empty, or fewer than the fields.
        names = [str(i) for i in range(self.width or 0)]
        reading = arrow.ReadOptions(
            column_names=names, skip_rows=self.header, encoding=self.encoding, block_size=self.block
        )
        parsing = arrow.ParseOptions(
            delimiter=self.sep, newlines_in_values=True, invalid_row_handler=_skip_blank
        )
        converting = arrow.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            strings_can_be_null=True,
            null_values=[""],
            include_columns=[names[i] for i in columns],
        )
        return reading, parsing, converting


def _skip_blank(row: Any) -> str:
    return "error" if row.text.strip() else "skip"


def _text(file: IO[bytes], encoding: str) -> TextIO:
    codec = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
    return io.TextIOWrapper(file, encoding=codec, newline="")


def _usual_width(
    opened: Callable[[], IO[bytes]], expected: int, separator: str, encoding: str, header: int
) -> tuple[int, int] | None:
    """The fields of a row, if there is no quote in the file and all rows have the ``expected``
    ones, and the bytes to parse at once; None if it takes :func:`_width` to tell. Counts bytes, in
    a sixth of its time."""
    import numpy as np

    if expected < 2 or ord(separator) > 127 or encoding.lower() not in _ONE_BYTE:
        return None
    rows, longest, rest = 0, 0, b""
    with opened() as file:
        for _ in range(header):
            file.readline()
        while block := file.read(BLOCK) or (rest and b"\n"):
            lines, newline, rest = (rest + block).rpartition(b"\n")
            if b'"' in lines or lines.count(b"\r") != (lines + newline).count(b"\r\n"):
                return None
            cells = np.frombuffer(lines + newline, dtype=np.uint8)
            ends = np.flatnonzero(cells == ord("\n"))
            before = np.searchsorted(np.flatnonzero(cells == ord(separator)), ends)
            if (np.diff(before, prepend=0) + 1 != expected).any():
                return None
            rows += len(ends)
            longest = max(longest, int(np.diff(ends, prepend=-1).max()))
    if not rows:
        return None
    return expected, BLOCK if longest > _SMALL_BLOCK // 4 else min(BLOCK, _SMALL_BLOCK)


def _width(name: str, expected: int, lines: Iterator[Line]) -> int | None:
    width = None
    for number, _, fields in lines:
        surplus = fields[expected:]
        if len(fields) < expected or any(surplus) or len(fields) != (width or len(fields)):
            why = _mismatch(name, number, len(fields), expected, first=width is None)
            spans = any("\n" in field for field in fields)
            raise RequestError(f"{why} (is there an unclosed quote?)" if spans else why)
        width = len(fields)
    return width


def _mismatch(name: str, line: int, found: int, expected: int, *, first: bool) -> str:
    fields = "1 field" if found == 1 else f"{found} fields"
    message = f"{name}, line {line}: {fields}, but the header has {expected}"
    if first and found == expected + 1:
        return f"{message}; if the first column holds row names, give it a name in the header"
    return (
        f"{message} (put quotes around values that contain the separator)"
        if found > expected
        else message
    )


def _refuse_another_separator(name: str, names: list[str], separator: str) -> None:
    used = next((s for s in SEPARATORS if len(names) == 1 and s in names[0]), None)
    if used is not None and used != separator:
        raise RequestError(
            f"dataset.csv.sep={separator}: {name} separates its columns with"
            f" {SEPARATORS[used]} ({used!r})"
        )


def _lines(file: TextIO, separator: str) -> Iterator[Line]:
    """The non-blank rows."""
    number = 1
    for line in file:
        if '"' in line:
            # Quotes are rare, and csv.reader is four times slower than split.
            reader = csv.reader(chain([line], file), delimiter=separator)
            fields, after = next(reader), number + reader.line_num
        else:
            fields, after = line.rstrip("\r\n").split(separator), number + 1
        if len(fields) > 1 or fields[0].strip():
            yield number, after, fields
        number = after


@contextmanager
def _fields_of_any_length() -> Iterator[None]:
    """Lift the csv module's process-wide limit of 131,072 characters per field."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)

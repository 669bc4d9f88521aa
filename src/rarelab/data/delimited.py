"""Checks that every row of a CSV or TSV file has as many fields as the header.

pandas takes surplus leading fields as row labels and pads short rows, so a file whose first column
has no name would be read one column to the right.
"""

import csv
import gzip
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TextIO

from rarelab.errors import RequestError

_SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "pipes"}

Line = tuple[int, list[str]]
"""The number of a row's first line, counted from 1, and the row's fields."""


def header_and_width(path: Path, separator: str) -> tuple[list[str], int]:
    """The column names, and the number of fields in each row.

    The width exceeds the number of names only if every row ends in the same number of empty fields,
    as trailing separators leave them.

    Raises:
        RequestError: the file is empty, is not UTF-8, uses another separator, or has a row wider or
            narrower than the header (with its line number).
    """
    try:
        with _opened(path) as file, _fields_of_any_length():
            lines = _lines(file, separator)
            _, names = next(lines, (0, []))
            if not names:
                raise RequestError(f"{path.name} is empty: expected a header and rows")
            _refuse_another_separator(path.name, names, separator)
            return names, _width(path.name, len(names), lines)
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise RequestError(
            f"{path.name} is not UTF-8 text (it contains the byte {byte:#x}): save it as UTF-8"
        ) from None


def _width(name: str, expected: int, lines: Iterator[Line]) -> int:
    width = None
    for number, fields in lines:
        surplus = fields[expected:]
        if len(fields) < expected or any(surplus) or len(fields) != (width or len(fields)):
            why = _mismatch(name, number, len(fields), expected, first=width is None)
            spans = any("\n" in field for field in fields)
            raise RequestError(f"{why} (is there an unclosed quote?)" if spans else why)
        width = len(fields)
    return width or expected


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
    used = next((s for s in _SEPARATORS if len(names) == 1 and s in names[0]), None)
    if used is not None and used != separator:
        raise RequestError(
            f"{name} separates its columns with {_SEPARATORS[used]} ({used!r}): save it with"
            f" {_SEPARATORS[separator]} ({separator!r}) and decimal points"
        )


def _lines(file: TextIO, separator: str) -> Iterator[Line]:
    """The non-blank rows; pandas skips blank ones too."""
    number = 1
    for line in file:
        if '"' in line:
            # Quotes are rare, and csv.reader is four times slower than split.
            reader = csv.reader(chain([line], file), delimiter=separator)
            fields, ended = next(reader), number + reader.line_num
        else:
            fields, ended = line.rstrip("\r\n").split(separator), number + 1
        if len(fields) > 1 or fields[0].strip():
            yield number, fields
        number = ended


def _opened(path: Path) -> TextIO:
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


@contextmanager
def _fields_of_any_length() -> Iterator[None]:
    """Lift the csv module's process-wide limit of 131,072 characters per field."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)

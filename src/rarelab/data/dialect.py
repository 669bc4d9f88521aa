"""How a delimited text file is written: what the user says of it, its encoding, its separator."""

import codecs
import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import IO, Any, Literal, Self

from rarelab.errors import RequestError, nearest

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "pipes"}
Meaning = Literal["number", "text"]

_SPELLED = {"tab": "\t", r"\t": "\t"}
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_BLOCK = 1 << 20
_SAMPLED = 50


@dataclass(frozen=True)
class Csv:
    """The ``dataset.csv`` settings; None is recognised from the file.

    sep: one character, or ``tab``. encoding: a Python codec. decimal: ``.`` or ``,``. thousands:
    the character between groups of digits. na_values: the texts that mean missing in every column,
    instead of the usual ones; blank cells always do. dtypes: column -> ``number`` or ``text``.
    """

    sep: str | None = None
    encoding: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    na_values: Sequence[str] | None = None
    dtypes: Mapping[str, Meaning] | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any] | None) -> Self:
        """The settings of a mapping, checked; RequestError names the key."""
        given = dict(settings or {})
        known = [field.name for field in fields(cls)]
        for key in given:
            if key not in known:
                raise RequestError(f"dataset.csv.{key}: no such setting; {nearest(key, known)}")
        for key in ("sep", "encoding", "decimal", "thousands"):
            if given.get(key) is not None:
                given[key] = str(given[key])
        made = cls(**{**given, "sep": _SPELLED.get(given.get("sep") or "", given.get("sep"))})
        made._check()
        na_values = [str(text) for text in made.na_values] if made.na_values is not None else None
        dtypes: dict[str, Meaning] = {str(name): kind for name, kind in (made.dtypes or {}).items()}
        return cls(made.sep, made.encoding, made.decimal, made.thousands, na_values, dtypes)

    def _check(self) -> None:
        for key in ("sep", "thousands"):
            value = getattr(self, key)
            if value is not None and (len(value) != 1 or value in '"\r\n' or value.isalnum()):
                raise RequestError(f"dataset.csv.{key}={value}: expected one character")
        if self.decimal not in (None, ".", ","):
            raise RequestError(f"dataset.csv.decimal={self.decimal}: expected . or ','")
        if self.decimal is not None and self.decimal == self.thousands:
            raise RequestError(
                f"dataset.csv.thousands={self.thousands} is the decimal separator too"
            )
        if isinstance(self.na_values, str):
            raise RequestError(f"dataset.csv.na_values={self.na_values}: expected a list of texts")
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
            except LookupError:
                raise RequestError(
                    f"dataset.csv.encoding={self.encoding} is unknown: expected one such as utf-8,"
                    " utf-16, latin-1 or cp1252"
                ) from None
        if self.dtypes is not None and not isinstance(self.dtypes, Mapping):
            raise RequestError(
                f"dataset.csv.dtypes={self.dtypes}: expected columns, such as {{zip: text}}"
            )
        for name, kind in (self.dtypes or {}).items():
            if kind not in ("number", "text"):
                raise RequestError(f"dataset.csv.dtypes.{name}={kind}: expected number or text")


def encoding_of(file: IO[bytes], name: str, asked: str | None = None) -> str:
    """The encoding of a file: by its byte-order mark, else UTF-8 if it is valid, else cp1252.

    cp1252 is Latin-1 with letters in place of control characters, and all that Western programs
    have written under either name. ``asked`` replaces it.

    Raises:
        RequestError: UTF-8 with an invalid byte somewhere, or bytes that ``asked`` does not have.
    """
    start = file.read(_BLOCK)
    marked = next((found for mark, found in _MARKS.items() if start.startswith(mark)), None)
    if marked is None and asked is None and len(start) > 1 and start[:64].count(0) * 3 > 64:
        marked = "utf-16-le" if start[1] == 0 and start[0] else "utf-16-be" if start[1] else None
    encoding = marked or asked or "utf-8"
    decoder, beyond_ascii, block = codecs.getincrementaldecoder(encoding)(), False, start
    try:
        while block:
            decoder.decode(block)
            beyond_ascii = beyond_ascii or not block.isascii()
            block = file.read(_BLOCK)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        whole = beyond_ascii or not error.object[: error.start].isascii()
        if encoding == "utf-8" and asked is None and not whole:
            return "cp1252"
        byte = error.object[error.start]
        raise RequestError(
            f"{name} is not {encoding} text throughout (it contains the byte {byte:#x}):"
            " say what it is with dataset.csv.encoding, for example cp1252"
        ) from None
    return encoding


def separator_of(lines: Sequence[str], usual: str) -> str:
    """The separator that divides the first lines into the most columns, the same number in each;
    ``usual`` if none does, or if it is as good as another."""

    def width(separator: str) -> int:
        rows = [row for row in csv.reader(lines[:_SAMPLED], delimiter=separator) if row]
        # The last line may have been cut inside a quoted cell, and rows may end in separators.
        found = {len(row) for row in rows[1:-1]} or {len(rows[0])} if rows else {0}
        named = len(rows[0]) if rows else 0
        return named if named > 1 and len(found) == 1 and min(found) >= named else 0

    best = max((usual, *SEPARATORS), key=width)
    if width(best):
        return best
    header = lines[0] if lines else ""
    return usual if usual in header else max((usual, *SEPARATORS), key=header.count)

"""A column of plain numbers in a text file, read a piece at a time without keeping its text."""

from typing import Any

import pyarrow as pa

from rarelab.data import written
from rarelab.data.written import pc

_EXACT = 2**53
"""Doubles hold every integer up to here."""


class PlainColumn:
    """Numbers as a program writes them, in all pieces so far; ``ways`` are those in which they can
    be read, None as soon as the column takes a look at all of its text: it holds other text, a
    decimal point that may separate thousands, or codes with leading zeros or many digits.
    """

    def __init__(self, thousands: str | None = None) -> None:
        self._thousands = thousands
        self._pieces: list[Any] = []
        self._plain = True
        self._ways: set[str] | None = None

    def add(self, texts: Any) -> None:
        """The next piece."""
        if not self._plain:
            return
        if texts.null_count == len(texts):
            self._pieces.append(pa.nulls(len(texts), pa.int64()))
            return
        values = written.plain_values(texts)
        ways = None if values is None else written.plain_ways(texts, self._thousands)
        if values is None or ways is None or ("," in ways and not self._add_whole(texts)):
            self._plain = False
            self._pieces.clear()
            return
        if "," not in ways:
            self._pieces.append(values)
        self._ways = ways if self._ways is None else self._ways & ways

    def _add_whole(self, texts: Any) -> bool:
        """Add whole numbers, unless they may be codes."""
        values = written.whole_values(texts)
        ends = pc.min_max(values).as_py().values()
        padded = pc.any(pc.match_substring_regex(texts, r"^-?0\d")).as_py()
        if padded or max(map(abs, ends)) >= _EXACT:
            return False
        self._pieces.append(values)
        return True

    @property
    def ways(self) -> set[str] | None:
        return self._ways if self._plain else None

    @property
    def type(self) -> pa.DataType:
        """Integers only if there is one in every row."""
        whole = all(pa.types.is_integer(piece.type) for piece in self._pieces)
        return pa.int64() if whole and not self._gaps() else pa.float64()

    def array(self) -> Any:
        """The numbers, handed over: there is nothing left afterwards."""
        kind = self.type
        made = pa.chunked_array([piece.cast(kind) for piece in self._pieces], kind)
        self._pieces.clear()
        return made

    def _gaps(self) -> bool:
        return any(piece.null_count for piece in self._pieces)

"""From the columns of a file to a frame: what each column is, the same for every kind of file."""

import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

import pyarrow as pa

from rarelab.data import written
from rarelab.data.dialect import SEPARATORS, Csv
from rarelab.data.formats import Later, loaded
from rarelab.data.written import pc
from rarelab.errors import RequestError

if TYPE_CHECKING:
    from pandas import DataFrame

_EXACT = 2**53
"""Doubles hold every integer up to here."""

_BEFORE = (
    *("#N/A", "#N/A N/A", "#NA", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
)
"""What runs recorded before readings were, read as missing in a column of text."""


@dataclass
class Column:
    """What a column was read as. ``missing``: the texts that mean missing, besides blanks, if it is
    text; ``decimal``: the decimal separator, if it is numbers."""

    kind: Literal["number", "truth", "text"]
    decimal: str = "."
    missing: list[str] = field(default_factory=list)


@dataclass
class Reading:
    """How a file was read: what it takes to read another one in the same way."""

    columns: dict[str, Column] = field(default_factory=dict)
    sep: str | None = None
    encoding: str | None = None
    thousands: str | None = None
    na_values: list[str] | None = None

    def facts(self) -> dict[str, Any]:
        """The reading as plain data."""
        return asdict(self)

    @classmethod
    def restored(cls, facts: Mapping[str, Any]) -> Self:
        """The reading that :meth:`facts` describes."""
        columns = {name: Column(**column) for name, column in facts["columns"].items()}
        return cls(**{**facts, "columns": columns})

    @classmethod
    def before(cls, kinds: Mapping[str, str]) -> Self:
        """That of a run recorded before readings were, by the kinds of its columns."""
        return cls(
            {
                name: Column("text", missing=[*_BEFORE])
                if kind in ("text", "date")
                else Column("number")
                for name, kind in kinds.items()
            }
        )

    @property
    def said(self) -> Csv:
        """The settings that hold for another file too."""
        return Csv(thousands=self.thousands, na_values=self.na_values)

    @property
    def decimal(self) -> str | None:
        """The decimal separator of a column that needed it; None if there is no such column."""
        found = {column.decimal for column in self.columns.values()}
        return "," if "," in found else None


class Columns:
    """Decides what the columns of a file are.

    ``said``: the user's settings. ``like``: read as another file was. ``text``: columns that are
    text whatever they hold.
    """

    def __init__(
        self, said: Csv, sep: str | None, like: Reading | None, text: Collection[str] = ()
    ) -> None:
        self.said, self.like, self.sep, self.text = said, like, sep, text
        self.own = None if said.na_values is None else pa.array([*said.na_values], pa.string())
        self.used: dict[str, list[str]] = {}
        self.signs: dict[str, tuple[str, float]] = {}
        self.codes: list[str] = []
        self.kept: dict[str, list[str]] = {}

    def frame(
        self, arrays: dict[str, Any], ways: Mapping[str, set[str]] | None = None
    ) -> "tuple[DataFrame, dict[str, Column]]":
        """The frame of the columns; they leave ``arrays`` one by one, to save memory.

        ``ways``: what :meth:`ways` found in the whole file, if this is a piece of one to be read
        as another file was.
        """
        import pandas as pd

        texts = [name for name, array in arrays.items() if _is_text(array)]
        if ways is None:
            options = {name: self._options(name, arrays[name]) for name in texts}
        else:
            options = {name: self._like(name, ways.get(name, set())) for name in texts}
        decimals = self._decimals(options)
        found: dict[str, Column] = {}
        made: dict[str, Any] = {}
        for name in [*arrays]:
            array = arrays.pop(name)
            plain = isinstance(array, Later) and array.ways is not None
            array = loaded(array)
            if plain:
                found[name], made[name] = Column("number"), array.to_pandas()
            elif name not in options:
                found[name], made[name] = self._typed(name, array)
            elif options[name]:
                found[name], made[name] = self._numbers(name, array, decimals[name])
            else:
                found[name], made[name] = self._text(name, array)
        return pd.DataFrame(made, copy=False), found

    def decimals(self, names: Collection[str], ways: Mapping[str, set[str]]) -> dict[str, str]:
        """How :meth:`frame` reads these columns of text in a piece, by the ``ways`` of all."""
        return self._decimals({name: self._like(name, ways.get(name, set())) for name in names})

    def _asked(self, name: str) -> str | None:
        """The kind that the settings or the other file give to a column."""
        if self.like is not None:
            column = self.like.columns.get(name)
            return "text" if column is None else column.kind
        return (self.said.dtypes or {}).get(name, "text" if name in self.text else None)

    def _values(self, array: Any) -> tuple[Any, list[str]]:
        """The different texts of a column that do not mean missing among numbers, and those that
        do."""
        different = pc.unique(array).drop_null()
        missing = self._are_missing(different)
        marks = different.filter(missing).to_pylist()
        return different.filter(pc.invert(missing)), [m for m in marks if m.strip()]

    def _are_missing(self, texts: Any) -> Any:
        if self.own is None:
            return written.missing_markers(texts)
        trimmed = pc.utf8_trim_whitespace(texts)
        blank = pc.equal(trimmed, "")
        return pc.or_(blank, pc.or_(pc.is_in(texts, self.own), pc.is_in(trimmed, self.own)))

    def ways(self, array: Any) -> set[str] | None:
        """The ways in which all texts of a column can be read as numbers: with a decimal ``.`` or
        ``,``, ``p``lain, or as ``t``rue and false; None if no text is more than a missing value."""
        quick = self._quick_ways(array)
        if quick is not None:
            return quick
        values, _ = self._values(array)
        return self._ways(values) if len(values) else None

    def _quick_ways(self, array: Any) -> set[str] | None:
        """The ways of a column in which no value is missing but for empty cells, if they can be
        found without a look at each of its texts."""
        plain = self.plain(array)
        return None if plain is None else plain.ways

    def plain(self, array: Any) -> Later | None:
        """Such a column as numbers."""
        values = None if self.own is not None else written.plain_values(array)
        ways = None if values is None else written.plain_ways(array, self.said.thousands)
        if values is None or ways is None:
            return None
        found: Any = values
        if "," in ways and not array.null_count:
            found = written.whole_values(array)
        return Later(found.type, len(array), lambda: found, ways)

    def _ways(self, values: Any) -> set[str]:
        if written.truths(values) is not None:
            return {"t"}
        found = {point for point in ".," if written.fits(values, point, self.said.thousands)}
        return found | {"p"} if written.is_plain(values) else found

    def _read_as(self, asked: str | None, ways: set[str]) -> str:
        if asked != "number" and "t" in ways:
            return "t"
        found = "".join(p for p in ".," if p in ways or (p == "." and "p" in ways))
        return self.said.decimal if self.said.decimal and self.said.decimal in found else found

    def _like(self, name: str, ways: set[str]) -> str:
        """The options of a column that is read as another file's was."""
        asked = self._asked(name)
        return "" if asked == "text" else self._read_as(asked, ways) or ".,"

    def _options(self, name: str, array: Any) -> str:
        """The ways in which a column can be numbers: decimal separators, ``t`` for true and false;
        empty if it is text."""
        asked = self._asked(name)
        if asked == "text":
            return ""
        quick = array.ways if isinstance(array, Later) else self._quick_ways(array)
        if quick is not None and (isinstance(array, Later) or "," not in quick):
            found = self._read_as(asked, quick)
            self.used[name] = []
            return found
        values, marks = self._values(array)
        found = self._read_as(asked, self._ways(values))
        if found == "t":
            self.used[name] = marks
            return "t"
        if self.like is not None:
            return found or ".,"
        if asked == "number":
            if not found and len(values):
                self._refuse(name, values)
            return found or "."
        if found and len(values) and (written.is_padded(values) or _merge(values)):
            self.codes.append(name)
            return ""
        if found or not len(values):
            self.used[name] = marks
        return found if len(values) else "."

    def _refuse(self, name: str, values: Any) -> None:
        texts = values.to_pylist()
        bad = [t for t in texts if not any(written.fits(pa.array([t]), point) for point in ".,")]
        shown = (bad or texts)[0]
        raise RequestError(f"dataset.csv.dtypes.{name}=number, but the column holds {shown!r}")

    def _decimals(self, options: dict[str, str]) -> dict[str, str]:
        """The decimal separator of each column: its own where only one is possible, else that of
        the other columns, else that of the file read before, else the usual one beside ``sep``."""
        sure = {found for found in options.values() if found in (".", ",")}
        if len(sure) == 1:
            usual = sure.pop()
        else:
            learnt = self.like.decimal if self.like is not None else None
            usual = learnt or ("," if self.sep == ";" and not sure else ".")
        usual = self.said.decimal or usual
        return {
            name: found if found == "t" or (found in ".," and usual not in found) else usual
            for name, found in options.items()
        }

    def _numbers(self, name: str, array: Any, decimal: str) -> tuple[Column, Any]:
        import pandas as pd

        plain = written.plain_values(array) if decimal == "." and self.own is None else None
        if plain is not None:
            whole = None if array.null_count else written.whole_values(array)
            return Column("number"), (plain if whole is None else whole).to_pandas()
        array = pc.if_else(self._are_missing(array), pa.scalar(None, pa.string()), array)
        kept = array.drop_null()
        if decimal == "t":
            true = pc.equal(pc.utf8_lower(pc.utf8_trim_whitespace(array)), "true")
            return Column("truth"), true.to_pandas()
        if self.like is not None and not written.fits(kept, decimal, self.said.thousands):
            return Column("number", decimal), pd.Series(self._mixed(array, decimal), dtype=object)
        whole = written.are_whole(kept)
        if not len(kept) or whole or (decimal == "." and written.is_plain(kept)):
            values = written.plain_numbers(array)
            exact = whole and len(kept) == len(array)
            return Column("number"), _integers(array, values) if exact else values.to_pandas()
        values = written.numbers(array, decimal, self.said.thousands)
        texts = pc.unique(kept)
        odd = texts.filter(pc.invert(written.plain_texts(texts)))
        shown = (odd if len(odd) else texts).slice(0, 1)
        value = written.numbers(shown, decimal, self.said.thousands)[0].as_py()
        self.signs[name] = shown[0].as_py(), value
        return Column("number", decimal), values.to_pandas()

    def _mixed(self, array: Any, decimal: str) -> list[Any]:
        """Numbers, True and False where the texts are such, else the texts, for the message that
        names them."""
        different = pc.unique(array)
        meant: dict[str | None, Any] = {None: None}
        for text in different.drop_null().to_pylist():
            one, thousands = pa.array([text]), self.said.thousands
            truth = written.truths(one)
            if truth is not None:
                meant[text] = truth[0].as_py()
            elif written.fits(one, decimal, thousands):
                meant[text] = written.numbers(one, decimal, thousands)[0].as_py()
            elif written.is_plain(one):
                meant[text] = written.plain_numbers(one)[0].as_py()
            else:
                meant[text] = text
        return [meant[text] for text in array.to_pylist()]

    def _text(self, name: str, array: Any) -> tuple[Column, Any]:
        missing = self._missing_levels(name, array)
        blank = pc.equal(pc.utf8_trim_whitespace(array), "")
        gone = pc.or_(blank, pc.is_in(array, pa.array(missing, pa.string())))
        array = pc.if_else(gone, pa.scalar(None, pa.string()), array)
        return Column("text", missing=missing), array.to_pandas()

    def _missing_levels(self, name: str, array: Any) -> list[str]:
        if self.like is not None:
            column = self.like.columns.get(name)
            return [] if column is None else column.missing
        different = pc.unique(array)
        _, marks = self._values(different)
        if self.own is not None or not marks:
            return marks
        levels = [level for level in different.to_pylist() if level is not None]
        blanks = different.null_count > 0 or any(not level.strip() for level in levels)
        words = {mark for marks in self.used.values() for mark in marks}
        missing = written.markers_among_texts(levels, words, blanks)
        if left := [mark for mark in marks if mark not in missing]:
            self.kept[name] = left
        if missing:
            self.used[name] = missing
        return missing

    def _typed(self, name: str, array: Any) -> tuple[Column, Any]:
        """A column that the file itself says are numbers, or true and false."""
        if pa.types.is_boolean(array.type):
            return Column("truth"), array.to_pandas()
        if pa.types.is_null(array.type):
            return Column("number"), pc.cast(array, pa.float64()).to_pandas()
        asked = self._asked(name)
        free = pa.types.is_integer(array.type) and self.like is None and asked != "number"
        if free and (asked == "text" or _merges(array)):
            self.codes += [name] if asked is None else []
            return Column("text"), pc.cast(array, pa.string()).to_pandas()
        if pa.types.is_float16(array.type):
            array = pc.cast(array, pa.float32())
        return Column("number"), array.to_pandas()


def _is_text(column: Any) -> bool:
    """Whether the file holds a column as text."""
    if isinstance(column, Later):
        return column.ways is not None
    return pa.types.is_string(column.type)


def _integers(texts: Any, values: Any) -> Any:
    """Whole numbers without gaps as integers, as pandas has them; beyond 64 bits as doubles."""
    try:
        plain = pc.replace_substring(pc.utf8_trim_whitespace(texts), "+", "")
        return pc.cast(plain, pa.int64()).to_pandas()
    except pa.ArrowInvalid:
        return values.to_pandas()


def _merges(integers: Any) -> bool:
    """:func:`_merge` for a column of integers."""
    ends = pc.min_max(integers).as_py().values()
    if None in ends or max(map(abs, ends)) < _EXACT:
        return False
    return _merge(pc.cast(pc.unique(integers).drop_null(), pa.string()))


def _merge(texts: Any) -> bool:
    """Whether different whole numbers would be the same as doubles."""
    if not written.are_whole(texts):
        return False
    values = written.plain_numbers(texts)
    largest = pc.max(pc.abs(values)).as_py()
    return largest >= _EXACT and len(pc.unique(values)) < len(pc.unique(texts))


def note(columns: Columns, sep: str | None, encoding: str | None, extra: Collection[str]) -> str:
    """What was understood, in one line; empty if there is nothing to say."""
    said: list[str] = []
    if sep not in (None, ",", "\t"):
        said.append(f"columns separated by {SEPARATORS.get(sep, repr(sep))}")
    if encoding not in (None, "utf-8", "ascii"):
        said.append(f"text in {encoding}")
    if columns.signs:
        said.append(f"numbers written as {_named(_examples(columns.signs))}")
    marks = {name: ", ".join(map(repr, marks)) for name, marks in columns.used.items() if marks}
    if marks:
        said.append(f"missing {_named(marks)}")
    if columns.kept:
        kept = {name: ", ".join(map(repr, marks)) for name, marks in columns.kept.items()}
        said.append(f"kept as a level, not missing, {_named(kept)}")
    if columns.codes:
        names = ", ".join(map(repr, columns.codes[:_SHOWN]))
        more = f" and {len(columns.codes) - _SHOWN} more" if len(columns.codes) > _SHOWN else ""
        said.append(f"codes with leading zeros or more digits than a number holds: {names}{more}")
    said += extra
    if not said:
        return ""
    return f"read as: {'; '.join(said)} (dataset.csv.* changes it)"


_SHOWN = 4


def _examples(signs: Mapping[str, tuple[str, float]]) -> dict[str, str]:
    """For each column the first example of numbers that are written with the same signs."""
    first: dict[str, str] = {}
    return {
        name: first.setdefault(re.sub(r"\d+", "0", text), f"{text!r} ({value:.10g})")
        for name, (text, value) in signs.items()
    }


def _named(found: Mapping[str, str]) -> str:
    """``'?' in 'age', 'sex' and 2 more; '-' in 'b'``: the columns of each text."""
    columns: dict[str, list[str]] = {}
    for name, text in found.items():
        columns.setdefault(text, []).append(repr(name))
    shown = []
    for text, names in [*columns.items()][:_SHOWN]:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        shown.append(f"{text} in {', '.join(names[:_SHOWN])}{more}")
    more = f" and {len(columns) - _SHOWN} more ways" if len(columns) > _SHOWN else ""
    return ", ".join(shown) + more

"""How numbers and missing values are written as text, and what a column of text means."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import compute

pc: Any = compute  # pyarrow makes its functions at run time

Texts = Any
"""A pyarrow array of strings."""

_MISSING = (
    *("?", "-", "--", "---", ".", "..", "na", "n/a", "n.a.", "n.a", "nan", "-nan", "null", "none"),
    *("nil", "<na>", "(null)", r"\n", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan", "missing"),
    *("#n/a", "#na", "#n/a n/a", "#null!", "#div/0!", "#value!", "#ref!", "#num!", "#name?"),
)
"""What means missing among numbers, in lower case."""

_WORDS = ("na", "none", "nil", "missing")
"""Those that may be a level among texts: NA is Namibia, or sodium; a risk is none, low or high."""

_HEAD = 100

_CURRENCY = r"(?:[$€£¥₹₽₩]|US\$|EUR|USD|GBP|CHF|JPY|SEK|NOK|DKK|PLN|CZK|kr\.?|zł|Fr\.)"
_SPACES = " \u00a0\u202f\u2009"
_EXPONENT = r"(?:[eE][+-]?\d+)?"
_INFINITE = r"[+-]?(?i:inf(?:inity)?)"
_PLAIN = rf"^(?:[+-]?(?:\d+\.?\d*|\.\d+){_EXPONENT}|{_INFINITE})$"
_PADDED = r"^[+-]?0\d+$"
_WHOLE = r"^[+-]?\d+$"


def missing_markers(texts: Texts) -> Texts:
    """Which texts mean missing among numbers, blank ones included."""
    known = pa.array(["", *_MISSING], texts.type)
    return pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(texts)), value_set=known)


def markers_among_texts(levels: Sequence[str], used: Iterable[str], blanks: bool) -> list[str]:
    """The levels of a column of text that mean missing.

    A sign or an abbreviation such as ``?``, ``NULL`` or ``n/a`` does (``-`` not beside ``+``). A
    word does only if numbers in the same file are missing as that word (``used``), there are no
    ``blanks``, and it is not one of many codes of two capitals, as a country's.
    """
    codes = sum(len(level) == 2 and level.isupper() for level in levels)
    country = 2 * (codes - 1) >= len(levels) - 1

    def means_missing(level: str) -> bool:
        text = level.strip().lower()
        if text not in _MISSING or (level == "-" and "+" in levels):
            return False
        return text not in _WORDS or (level in used and not blanks and not country)

    return [level for level in levels if means_missing(level)]


def is_plain(texts: Texts) -> bool:
    """Whether all texts are numbers with a decimal point, as a program writes them."""
    return bool(len(texts)) and bool(pc.all(plain_texts(texts)).as_py())


def plain_texts(texts: Texts) -> Texts:
    """Which texts are such numbers."""
    return pc.match_substring_regex(pc.utf8_trim_whitespace(texts), _PLAIN)


def is_padded(texts: Texts) -> bool:
    """Whether the texts are all digits, some with leading zeros: codes."""
    trimmed = pc.utf8_trim_whitespace(texts)
    return all_match(trimmed, _WHOLE) and _any(pc.match_substring_regex(trimmed, _PADDED))


def are_whole(texts: Texts) -> bool:
    return all_match(pc.utf8_trim_whitespace(texts), _WHOLE)


def truths(texts: Texts) -> Texts | None:
    """True and False, however capitalised, as booleans; None if there is another text."""
    lower = pc.utf8_lower(pc.utf8_trim_whitespace(texts))
    true, false = pc.equal(lower, "true"), pc.equal(lower, "false")
    return true if len(texts) and pc.all(pc.or_(true, false)).as_py() else None


def fits(texts: Texts, decimal: str, thousands: str | None = None) -> bool:
    """Whether all texts are numbers with this decimal separator, apart from signs of currency and
    per cent, and separators between groups of three digits."""
    bare, percent = _without_signs(texts)
    whole_column = not _any(percent) or pc.all(percent).as_py()
    return whole_column and all_match(bare, _grammar(decimal, thousands))


def numbers(texts: Texts, decimal: str = ".", thousands: str | None = None) -> Texts:
    """The numbers that :func:`fits` accepts, as doubles; per cent are hundredths."""
    bare, percent = _without_signs(texts)
    for sign in _group_signs(decimal, thousands):
        bare = pc.replace_substring(bare, sign, "")
    values = pc.cast(pc.replace_substring(bare, ",", ".") if decimal == "," else bare, pa.float64())
    return pc.if_else(percent, pc.divide(values, 100.0), values) if _any(percent) else values


def plain_numbers(texts: Texts) -> Texts:
    """The numbers of :func:`is_plain` texts, as doubles."""
    return pc.cast(pc.utf8_trim_whitespace(texts), pa.float64())


def plain_values(texts: Texts) -> Texts | None:
    """The numbers of texts that are all :func:`is_plain` as doubles, null where there is no text;
    None if they are not, or only once missing values or blanks around them are left out.

    The parser of numbers is 50 times as fast as the patterns of this module, and takes no more.
    """
    try:
        values = pc.cast(texts, pa.float64())
    except pa.ArrowInvalid:
        return None
    return None if len(values) == values.null_count or _any(pc.is_nan(values)) else values


def whole_values(texts: Texts) -> Texts | None:
    """The same as integers, if all texts are whole numbers of at most 64 bits without a plus."""
    if not are_whole(head(texts)):
        return None
    try:
        return pc.cast(texts, pa.int64())
    except pa.ArrowInvalid:
        return None


def plain_ways(texts: Texts, thousands: str | None = None) -> set[str] | None:
    """For texts with :func:`plain_values`: the ways in which they can be read, as
    :meth:`~rarelab.data.columns.Columns.ways` has them; None if that takes a look at each."""
    if not fits(head(texts), ",", thousands):
        return {".", "p"}
    return {".", ",", "p"} if whole_values(texts) is not None else None


def head(texts: Texts) -> Texts:
    """The first few that are not missing, which tell most columns of text from numbers; at least
    one, if there is any."""
    first = texts.slice(0, _HEAD).drop_null()
    return first if len(first) else texts.drop_null().slice(0, _HEAD)


def all_match(texts: Texts, pattern: str) -> bool:
    matched = pc.all(pc.match_substring_regex(texts, pattern)).as_py()
    return bool(len(texts)) and bool(matched)


def _any(mask: Texts) -> bool:
    return bool(pc.any(mask).as_py())


def _without_signs(texts: Texts) -> tuple[Texts, Texts]:
    """The texts without blanks around them and without signs of currency and per cent, and which
    had one of per cent. Parentheses around an amount are a minus, as accountants write."""
    bare = pc.replace_substring(pc.utf8_trim_whitespace(texts), "−", "-")
    percent = pc.match_substring_regex(bare, r"\d\s*%$")
    for pattern, instead in (
        (r"^\(([^()]+)\)$", r"-\1"),
        (r"\s*%$", ""),
        (rf"^([+-]?)\s*{_CURRENCY}\s*([+-]?)", r"\1\2"),
        (rf"\s*{_CURRENCY}$", ""),
    ):
        bare = pc.replace_substring_regex(bare, pattern, instead)
    return bare, percent


def _group_signs(decimal: str, thousands: str | None) -> list[str]:
    return [thousands] if thousands else ["." if decimal == "," else ",", *_SPACES, "'", "’"]


def _grammar(decimal: str, thousands: str | None) -> str:
    point = rf"\{decimal}"
    grouped = []
    for sign in map(re.escape, _group_signs(decimal, thousands)):
        short = r"\d{2,3}" if sign == "," else r"\d{3}"  # 1,00,000 in India
        grouped.append(rf"[1-9]\d{{0,2}}(?:{sign}{short})*{sign}\d{{3}}")
    whole = "|".join([r"\d+", *grouped])
    return rf"^(?:[+-]?(?:(?:{whole})(?:{point}\d*)?|{point}\d+){_EXPONENT}|{_INFINITE})$"

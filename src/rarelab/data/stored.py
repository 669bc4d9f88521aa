"""Columns of the types that Parquet, Feather, Excel and databases store, as the text that a CSV
file would hold."""

from collections.abc import Collection
from typing import Any

import pyarrow as pa

from rarelab.data.written import pc
from rarelab.errors import RequestError
from rarelab.quoting import override

_NESTED = (
    *(pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_struct),
    *(pa.types.is_map, pa.types.is_union, pa.types.is_binary, pa.types.is_large_binary),
    pa.types.is_fixed_size_binary,
)


def as_text(array: Any, name: str, *, refuse: bool) -> Any:
    """A column with dates, times, durations, decimals and dictionaries as text, written as pandas
    writes them in a CSV file; nested values are refused, or emptied if nobody needs them."""
    kind = array.type
    if isinstance(kind, pa.ExtensionType):
        array, kind = pc.cast(array, kind.storage_type), kind.storage_type
    if pa.types.is_dictionary(kind):
        return _level_texts(pc.cast(array, kind.value_type))
    if any(is_kind(kind) for is_kind in _NESTED):
        if refuse:
            raise RequestError(
                f"column {name!r} holds values of type {kind}: expected one number or text in each"
                f" row; leave it out with {override('dataset.drop', [name])}"
            )
        return pa.nulls(len(array), pa.string())
    if pa.types.is_decimal(kind) or pa.types.is_date(kind) or pa.types.is_large_string(kind):
        return pc.cast(array, pa.string())
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        series = array.to_pandas()
        return pa.array(series.astype(str).where(series.notna(), None), pa.string())
    if pa.types.is_time(kind):
        return pa.array([None if v is None else str(v) for v in array.to_pylist()], pa.string())
    return array if str(kind) != "string_view" else pc.cast(array, pa.string())


def is_vector(kind: Any) -> bool:
    """Whether a column's type is a list of numbers, as an embedding is stored."""
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(is_kind(kind) for is_kind in lists):
        return False
    return pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type)


def width_in(names: Collection[str], name: str) -> int:
    """How many of the columns are numbers of the lists in column ``name``."""
    width = 0
    while element(name, width) in names:
        width += 1
    return width


def element(name: str, place: int) -> str:
    """The column of the numbers at a place of the lists in column ``name``."""
    return f"{name}[{place}]"


def spread(array: Any, name: str, width: int | None = None) -> dict[str, Any]:
    """The lists of a column as a column of numbers for each place, with missing ones for a missing
    list.

    Raises:
        RequestError: the lists differ in length, or are not of the ``width`` of training.
    """
    known = pc.unique(pc.list_value_length(array).drop_null()).to_pylist()
    lengths = sorted(int(length) for length in known)
    if len(lengths) > 1 or (width is not None and lengths not in ([], [width])):
        found = " and ".join(map(str, [lengths[0], lengths[-1]][: len(lengths)]))
        expected = f"{width}, as in training" if width is not None else "one length"
        raise RequestError(
            f"column {name!r} holds lists of {found} numbers: expected {expected}"
            + ("" if width is not None else f"; {override('dataset.drop', [name])} leaves it out")
        )
    places = range(lengths[0] if width is None and lengths else width or 0)
    return {element(name, i): pc.list_element(array, i) for i in places}


def _level_texts(array: Any) -> Any:
    """A categorical column stays one, also if its levels are numbers."""
    if pa.types.is_string(array.type):
        return array
    values = pc.unique(array).to_pylist()
    texts = [None if v is None else str(int(v) if v == v // 1 else v) for v in values]
    return pc.take(pa.array(texts, pa.string()), pc.index_in(array, value_set=pc.unique(array)))

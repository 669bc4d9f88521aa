"""Encode a label column as class indices, or explain why it cannot be one."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rarelab.data.positives import Rule, Unlabelled
from rarelab.data.tables.levels import level_text, number
from rarelab.errors import RequestError, few, nearest
from rarelab.quoting import override

MAX_CLASSES = 200

_SHOWN = 8

Encoded = tuple[NDArray[np.int64], tuple[str, ...]]
"""Class indices [N] and the names of the classes."""


def labelled(column: Any, unlabelled: Unlabelled) -> NDArray[np.bool_]:
    """Which rows have a label: it is neither missing nor blank.

    RequestError if some have none, unless ``unlabelled`` is "drop".
    """
    codes, values = pd.factorize(column, sort=False)
    blank = [isinstance(value, str) and not value.strip() for value in values]
    there = ~np.array([*blank, True])[codes]  # the last place is that of code -1, missing
    absent = int((~there).sum())
    if absent == len(column):
        raise RequestError(
            f"target {column.name!r} is missing in every row: choose another dataset.target"
        )
    if absent and unlabelled == "refuse":
        raise RequestError(
            f"target {column.name!r} is missing in {absent} of {len(column)} rows: label those rows"
            " or leave them out with dataset.unlabelled=drop"
        )
    return there


def encode(column: Any, positive: Sequence[str] | Rule = ()) -> Encoded:
    """Class indices [N] and the names of the classes, of a column without missing labels.

    With ``positive`` the task is those labels, or the rows that satisfy the rule, vs the rest.
    Without it, two values must be 0/1 or boolean (1 is positive); more than two are classes, in
    numeric order if all are numbers, else alphabetical. RequestError otherwise, naming the values
    found; so for spellings of one label, if some of them would count as another class.
    """
    if isinstance(positive, Rule):
        return _by_rule(column, positive)
    name = str(column.name)
    codes, values = pd.factorize(column, sort=False)
    levels = [level_text(value) for value in values]
    if len(levels) < 2:
        raise RequestError(
            f"target {name!r} has only one value ({_shown(levels)}): a classifier needs two classes"
        )
    if positive:
        return _against_rest(name, codes, levels, list(_asked(name, positive, levels)))
    if len(levels) == 2 and set(levels) != {"0", "1"}:
        example = override("dataset.positive_label", _rarest(codes, levels))
        raise RequestError(
            f"target {name!r} has the values {_shown(levels)}: say which is positive, for"
            f" example {example}"
        )
    _refuse_spellings(name, codes, levels, [])
    _refuse_measurements(name, values, levels)
    return _in_order(codes, levels)


def common_positives(name: str, y: NDArray[np.int64], classes: Sequence[str]) -> Iterator[str]:
    """A note if more than half of the rows are positive."""
    share = float(y.mean())
    if len(classes) == 2 and share > 0.5:
        yield (
            f"{share:.1%} of the rows are positive ({name} {classes[1]}): the positives are meant"
            f" to be the rare class, which here is {classes[0]}; choose it with"
            " dataset.positive_label, or dataset.positive_if for a number"
        )


def several_classes(name: str, y: NDArray[np.int64], classes: Sequence[str]) -> Iterator[str]:
    """A note with the rows of each class if there are more than two."""
    if len(classes) > 2:
        counts = np.bincount(y, minlength=len(classes)).tolist()
        shown = [f"{label} {n:,}" for label, n in zip(classes, counts, strict=True)]
        yield (
            f"the target {name!r} has {len(shown)} classes ({few(shown)}); for one of them against"
            " the rest: dataset.positive_label"
        )


def _by_rule(column: Any, rule: Rule) -> Encoded:
    name = str(column.name)
    values: Any = pd.to_numeric(column, errors="coerce")
    if column.dtype.kind in "mM" or values.isna().any():
        odd = column if column.dtype.kind in "mM" else column[values.isna()]
        raise RequestError(
            f"dataset.positive_if={rule}: target {name!r} is not a number in {len(odd)} of"
            f" {len(column)} rows (such as {str(odd.iloc[0])!r}): name labels with"
            " dataset.positive_label"
        )
    numbers = values.to_numpy(dtype=np.float64)
    y = rule(numbers).astype(np.int64)
    if y.min() == y.max():
        which = "every row satisfies it" if y[0] else "no row satisfies it"
        raise RequestError(
            f"dataset.positive_if={rule}: {which}; target {name!r} runs from"
            f" {numbers.min():g} to {numbers.max():g}"
        )
    return y, (rule.opposite(), str(rule))


def _asked(name: str, positive: Sequence[str], levels: list[str]) -> Iterator[str]:
    """The level meant by each text: the same text, else the same number, else the same boolean.

    YAML reads ``true`` as True, and a boolean column has the levels 0 and 1.
    """
    for text in positive:
        spelled = [text, level_text(number(text))]
        if text in ("True", "False"):
            spelled += [str(int(text == "True")), text.lower(), text.upper()]
        found = next((spelling for spelling in spelled if spelling in levels), None)
        if found is None:
            raise RequestError(
                f"dataset.positive_label={text} is not a value of {name!r} ({_shown(levels)}):"
                f" {nearest(text, levels)}"
            )
        yield found


def _against_rest(name: str, codes: NDArray, levels: list[str], positive: list[str]) -> Encoded:
    _refuse_spellings(name, codes, levels, positive)
    others = [level for level in levels if level not in positive]
    if not others:
        raise RequestError(
            f"dataset.positive_label names every value of {name!r} ({_shown(levels)}): none is left"
            " to be negative"
        )
    several = list(dict.fromkeys(positive))
    negative = f"not {several[0]}" if len(several) == 1 else f"neither {' nor '.join(several)}"
    names = (others[0] if len(others) == 1 else negative, " or ".join(several))
    return np.isin(levels, several)[codes].astype(np.int64), names


def _refuse_spellings(name: str, codes: NDArray, levels: list[str], positive: list[str]) -> None:
    """Refuse levels that look like one label and would be of different classes.

    They differ only in case, in blanks or in a final full stop. ``positive``: the levels of the
    positive class; without any, every level is a class.
    """
    alike: dict[str, list[int]] = defaultdict(list)
    for place, level in enumerate(levels):
        alike[_folded(level)].append(place)
    rows = np.bincount(codes, minlength=len(levels))
    for places in alike.values():
        named = [levels[i] for i in places]
        if len(named) < 2 or (positive and len({level in positive for level in named}) < 2):
            continue
        counted = ", ".join(
            f"{levels[i]!r} {rows[i]:,}" for i in sorted(places, key=rows.__getitem__)
        )
        merged = [*positive, *(level for level in named if level not in positive)]
        way_out = "to count them all as positive" if positive else "if they are the positives"
        raise RequestError(
            f"target {name!r} has labels that look the same ({counted} rows): are they one label?"
            f" Write them alike in the table, or, {way_out}:"
            f" {override('dataset.positive_label', merged)}"
        )


def _folded(level: str) -> str:
    text = "".join(unicodedata.normalize("NFKC", level).split()).casefold()
    return text.rstrip(".") or text


def _in_order(codes: NDArray, levels: list[str]) -> Encoded:
    numbers = [number(level) for level in levels]
    numeric = not any(isinstance(value, str) for value in numbers)
    order = sorted(range(len(levels)), key=numbers.__getitem__ if numeric else levels.__getitem__)
    rank = np.empty(len(levels), dtype=np.int64)
    rank[order] = np.arange(len(levels))
    return rank[codes], tuple(levels[i] for i in order)


def _refuse_measurements(name: str, values: Iterable[Any], levels: list[str]) -> None:
    fraction = next((v for v in values if isinstance(v, float) and not v.is_integer()), None)
    if fraction is not None:
        raise RequestError(
            f"target {name!r} has values that are not integers ({fraction}): expected class labels,"
            " or a rule such as dataset.positive_if='>0'"
        )
    if len(levels) > MAX_CLASSES:
        raise RequestError(
            f"target {name!r} has {len(levels)} different values, expected at most {MAX_CLASSES}"
            " classes: name the positive ones with dataset.positive_label or dataset.positive_if,"
            " or choose another dataset.target"
        )


def _rarest(codes: NDArray, levels: list[str]) -> str:
    return levels[int(np.bincount(codes).argmin())]


def _shown(levels: list[str]) -> str:
    shown = ", ".join(repr(level) for level in sorted(levels)[:_SHOWN])
    return shown + (", …" if len(levels) > _SHOWN else "")

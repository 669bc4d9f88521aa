"""Checks of dataset arguments that need no data, and the label that identifies generated data."""

from collections.abc import Mapping, Sequence
from typing import Any

from rarelab.errors import RequestError, nearest


def between(
    key: str,
    value: float,
    low: float,
    high: float,
    *,
    include_low: bool = False,
    include_high: bool = False,
) -> None:
    """Refuse a number outside (low, high), of which either end may be included."""
    ends = (include_low and value == low) or (include_high and value == high)
    if not (low < value < high or ends):
        left, right = "[" if include_low else "(", "]" if include_high else ")"
        raise RequestError(
            f"{key}={value} is out of range: expected a number in {left}{low}, {high}{right}"
        )


def at_least(key: str, value: float, low: float, why: str = "") -> None:
    """Refuse a number below ``low``."""
    if not value >= low:
        reason = f" ({why})" if why else ""
        raise RequestError(f"{key}={value} is too small: expected at least {low}{reason}")


def one_of(key: str, value: str | None, valid: Sequence[str]) -> None:
    """Refuse a value that is not one of ``valid``."""
    if value not in valid:
        raise RequestError(f"{key}={value} is unknown: {nearest(str(value), valid)}")


def label_of(name: str, arguments: Mapping[str, Any]) -> str:
    """The identity of generated data: ``name(a=1, b=x)``, arguments sorted by name."""
    return f"{name}({', '.join(f'{key}={arguments[key]}' for key in sorted(arguments))})"

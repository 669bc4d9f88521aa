"""Which labels count as positive: those that are named, or those that satisfy a rule on a number.
Imports only the standard library."""

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from rarelab.errors import RequestError

Label = str | int | float | bool
Unlabelled = Literal["refuse", "drop"]
UNLABELLED: tuple[str, ...] = ("refuse", "drop")

_SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_OPPOSITE = {">": "<=", "<=": ">", "<": ">=", ">=": "<", "==": "!=", "!=": "=="}
_RULE = re.compile(rf"\s*({'|'.join(_SIGNS)})\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")


@dataclass(frozen=True)
class Rule:
    """A comparison of the target with a number: ``> 0``. Rows that satisfy it are positive."""

    sign: str
    bound: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """The rule written as ``>0``; RequestError for anything else."""
        found = _RULE.fullmatch(text)
        if found is None:
            raise RequestError(
                f"dataset.positive_if={text}: expected a comparison with a number, such as '>0';"
                f" choose from {' '.join(_SIGNS)}"
            )
        return cls(*found.groups())

    def __call__(self, values: Any) -> Any:
        """Which values satisfy it: a mask of the same shape."""
        return _SIGNS[self.sign](values, float(self.bound))

    def __str__(self) -> str:
        return f"{self.sign} {self.bound}"

    def opposite(self) -> str:
        """The rule that the other rows satisfy, as text."""
        return f"{_OPPOSITE[self.sign]} {self.bound}"


def chosen(label: Label | Sequence[Label] | None, rule: str | None) -> tuple[str, ...] | Rule:
    """The positive labels as text (none: the target decides), or the rule; not both.

    ``label`` and ``rule`` are ``dataset.positive_label`` and ``dataset.positive_if``.
    """
    if rule is not None:
        if label is not None:
            raise RequestError(
                f"dataset.positive_label={label} and dataset.positive_if={rule} are both given:"
                " keep one"
            )
        return Rule.parse(rule)
    if label is None:
        return ()
    several = [label] if isinstance(label, Label) else [*label]
    if not several:
        raise RequestError("dataset.positive_label=[]: expected at least one label")
    return tuple(map(str, several))

"""An alert budget: how many rows may alert, as a share of the rows or as a capacity."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from numbers import Real
from typing import Any

from rarelab.errors import RequestError, nearest

_KEYS = ("alerts", "per")
_ROWS = re.compile(r"([0-9]+(?:[ _,][0-9]{3})*) rows?")
_EXPECTED = (
    "expected a share of the rows above 0 and below 1 (0.02), a list of such shares, or "
    "budget.alerts=37 with budget.per='10000 rows' or day"
)
_EXPECTED_PER = "expected 'N rows', such as '10000 rows', or day"


DAYS = "rarelab.days"
"""The key of the metadata of ``predictions.parquet`` that says how many days each split spans."""


@dataclass(frozen=True, eq=False)
class Budget:
    """So many alerts per so many rows, or per day if ``per`` is None; a share of the rows is so
    many alerts per row.

    Numbers are exact: 37 alerts per 10 000 rows are 0.0037 of the rows, and of 10 000 rows 37.
    Budgets that allow equally many alerts of any rows are equal.
    """

    count: Fraction
    per: int | None = 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Budget) and (self.rate, self.daily) == (other.rate, other.daily)

    def __hash__(self) -> int:
        return hash((self.rate, self.daily))

    def __str__(self) -> str:
        """``2 %``, ``37 alerts per 10,000 rows`` or ``100 alerts a day``."""
        if self.per == 1:
            return f"{_shown(100 * self.count)} %"
        count = f"{_shown(self.count)} alert{'' if self.count == 1 else 's'}"
        return f"{count} a day" if self.per is None else f"{count} per {self.per:,} rows"

    @property
    def daily(self) -> bool:
        return self.per is None

    @property
    def rate(self) -> Fraction:
        """Alerts per row, or per day."""
        return self.count / (self.per or 1)

    @property
    def share(self) -> float | None:
        """The share of the rows; None if it depends on how many rows a day has."""
        return None if self.daily else float(self.rate)

    @property
    def level(self) -> float | None:
        """The level at which a recall or precision ``at_q`` is the one at this budget, of any rows;
        None if no decimal number is exactly that (1 of 3 rows), or the budget is per day."""
        exact = self.share is not None and Fraction(repr(self.share)) == self.rate
        return self.share if exact else None

    @property
    def value(self) -> Any:
        """The value of the configuration that :func:`budgets` reads as this."""
        if self.per == 1:
            return self.share
        count = int(self.count) if self.count.denominator == 1 else float(self.count)
        return {"alerts": count, "per": "day" if self.per is None else f"{self.per} rows"}

    def alerts(self, rows: int, days: int | None = None) -> int:
        """How many of N rows, of so many days, may alert: ⌈rate · N⌉ or ⌈rate · days⌉, at most N.

        Raises:
            RequestError: the budget is per day, and the rows have no dates.
        """
        if not self.daily:
            return math.ceil(self.rate * rows)
        if days is None:
            raise RequestError(
                "budget.per=day: the rows have no dates; expected dataset.time to name a column of "
                "dates, and the rows to be split by it"
            )
        return min(rows, math.ceil(self.rate * days))


def budgets(value: Any, key: str = "budget") -> tuple[Budget, ...]:
    """The budgets in a value of the configuration, *the* budget first; none for null.

    A value is a share, a list of shares, or ``{alerts: A, per: "N rows" | day}``.

    Raises:
        RequestError: for anything else, with ``key``.
    """
    if value is None:
        return ()
    if isinstance(value, Mapping):
        return _capacity(value, key)
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        return tuple(dict.fromkeys(_of_share(item, key, value) for item in value))
    return (_of_share(value, key, value),)


def recorded_budget(parameters: Mapping[str, str], key: str = "budget") -> Budget | None:
    """The budget in the recorded parameters of a run; None if it had none."""
    capacity = {name: parameters.get(f"{key}.{name}") for name in _KEYS}
    if capacity["alerts"] is not None:
        return budgets(capacity | {"alerts": float(capacity["alerts"])}, key)[0]
    text = parameters.get(key, "None")
    return None if text == "None" else budgets(json.loads(text), key)[0]


def _of_share(share: Any, key: str, value: Any) -> Budget:
    rate = _number(share)
    if rate is None or not 0 < rate < 1:
        raise RequestError(f"{key}={_typed(value)}: {_EXPECTED.replace('budget.', f'{key}.')}")
    return Budget(rate)


def _capacity(value: Mapping[Any, Any], key: str) -> tuple[Budget, ...]:
    for name in value:
        if name not in _KEYS:
            raise RequestError(
                f"{key}.{name}: there is no such key; {nearest(str(name), _KEYS)}"
                f" (a share of the rows is {key}=0.02)"
            )
    alerts, per = (value.get(name) for name in _KEYS)
    if alerts is None and per is None:
        return ()
    if alerts is None:
        raise RequestError(f"{key}.alerts: missing; expected how many rows may alert per {per}")
    count = _number(alerts)
    if count is None or count <= 0:
        raise RequestError(f"{key}.alerts={_typed(alerts)}: expected a number above 0")
    if per is None:
        raise RequestError(f"{key}.per: missing beside {key}.alerts; {_EXPECTED_PER}")
    if per == "day":
        return (Budget(count, None),)
    found = _ROWS.fullmatch(str(per))
    rows = int(re.sub("[ _,]", "", found[1])) if found else 0
    if not rows:
        raise RequestError(f"{key}.per={per}: {_EXPECTED_PER}")
    if count >= rows:
        raise RequestError(f"{key}.alerts={_typed(alerts)}: expected fewer than the {rows:,} rows")
    return (Budget(count, rows),)


def _number(value: Any) -> Fraction | None:
    """The number as the decimal written, not as its nearest binary one."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        return None
    return Fraction(repr(float(value)))


def _shown(number: Fraction) -> str:
    return f"{int(number):,}" if number.denominator == 1 else f"{float(number):g}"


def _typed(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, default=list)

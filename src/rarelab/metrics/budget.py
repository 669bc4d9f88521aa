"""An alert budget: how many rows may alert, as a share of the rows or as a capacity."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from rarelab.errors import RequestError, nearest

_KEYS = ("alerts", "per")
_ROWS = re.compile(r"([0-9]+(?:[ _,][0-9]{3})*) rows?")
_EXPECTED = (
    "expected a share of the rows above 0 and below 1 (0.02), a list of such shares, or "
    "budget.alerts=37 with budget.per='10000 rows' or day"
)
_EXPECTED_PER = "expected 'N rows', such as '10000 rows', or day"


@dataclass(frozen=True)
class Budget:
    """So many alerts per row or, if ``daily``, per day. Equal budgets may be worded differently.

    The rate is exact: 37 alerts per 10 000 rows are 0.0037 of the rows, and of 10 000 rows 37.
    """

    rate: Fraction
    daily: bool = False
    words: str = field(default="", compare=False)

    def __str__(self) -> str:
        """``2 %``, ``37 alerts per 10,000 rows`` or ``100 alerts a day``."""
        return self.words or f"{_shown(100 * self.rate)} %"

    @property
    def share(self) -> float | None:
        """The share of the rows; None if it depends on how many rows a day has."""
        return None if self.daily else float(self.rate)

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
    if isinstance(value, list | tuple) and value:
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
    return Budget(rate, words=f"{_shown(100 * rate)} %")


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
    rate = _number(alerts)
    if rate is None or rate <= 0:
        raise RequestError(f"{key}.alerts={_typed(alerts)}: expected a number above 0")
    count = f"{_shown(rate)} alert{'' if rate == 1 else 's'}"
    if per is None:
        raise RequestError(f"{key}.per: missing beside {key}.alerts; {_EXPECTED_PER}")
    if per == "day":
        return (Budget(rate, daily=True, words=f"{count} a day"),)
    found = _ROWS.fullmatch(str(per))
    rows = int(re.sub("[ _,]", "", found[1])) if found else 0
    if not rows:
        raise RequestError(f"{key}.per={per}: {_EXPECTED_PER}")
    if rate >= rows:
        raise RequestError(f"{key}.alerts={_typed(alerts)}: expected fewer than the {rows:,} rows")
    return (Budget(rate / rows, words=f"{count} per {rows:,} rows"),)


def _number(value: Any) -> Fraction | None:
    """The number as the decimal written, not as its nearest binary one."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return Fraction(repr(value))


def _shown(number: Fraction) -> str:
    return f"{int(number):,}" if number.denominator == 1 else f"{float(number):g}"


def _typed(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)

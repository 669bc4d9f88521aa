"""The alert budget: what can be written, and how many of N rows alert."""

import math
from fractions import Fraction

import pytest

from rarelab.errors import RequestError
from rarelab.metrics.budget import Budget, budgets, recorded_budget
from rarelab.metrics.tie_groups import top_size


def capacity(alerts: float, per: str) -> Budget:
    (found,) = budgets({"alerts": alerts, "per": per})
    return found


def test_a_capacity_is_exactly_its_share() -> None:
    found = capacity(37, "10000 rows")
    assert found == budgets(0.0037)[0]
    assert str(found) == "37 alerts per 10,000 rows" and str(budgets(0.0037)[0]) == "0.37 %"
    assert found.alerts(10_000) == 37 and 0.0037 * 10_000 > 37 - 1e-9
    assert found.alerts(10_001) == 38
    assert capacity(37, "10 000 rows") == capacity(37, "10,000 rows") == found


def test_no_capacity_rounds_up_an_alert_too_many() -> None:
    """Of exactly as many rows as it is per, a capacity is its own number of alerts; as a float, a
    share such as 5/9 lies above it and would give one more."""
    wrong = []
    for rows in range(2, 120):
        for alerts in range(1, rows):
            for times in (1, 7):
                found = capacity(alerts, f"{rows} rows").alerts(rows * times)
                assert found == alerts * times
                wrong.append(math.ceil(alerts / rows * (rows * times)) != found)
    assert any(wrong)


@pytest.mark.parametrize("share", [0.001, 0.005, 0.01, 0.05, 0.07, 0.29, 1e-5])
def test_a_share_takes_as_many_rows_as_the_fixed_levels_do(share: float) -> None:
    (found,) = budgets(share)
    for rows in (1, 7, 99, 100, 999, 1000, 123_457):
        assert found.alerts(rows) == top_size(share, rows)


def test_a_daily_budget_counts_days_and_never_exceeds_the_rows() -> None:
    found = capacity(100, "day")
    assert str(found) == "100 alerts a day" and found.share is None
    assert found.alerts(10_000, days=7) == 700
    assert found.alerts(500, days=7) == 500
    assert capacity(2.5, "day").alerts(100, days=3) == 8
    with pytest.raises(RequestError, match=r"budget.per=day: the rows have no dates"):
        found.alerts(10_000)


def test_a_list_has_the_budget_first_and_each_share_once() -> None:
    assert [b.share for b in budgets([0.02, 0.005, 0.02])] == [0.02, 0.005]
    assert budgets(None) == budgets({"alerts": None, "per": None}) == ()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "budget=0: expected a share of the rows above 0 and below 1"),
        (1, "budget=1: expected a share"),
        (1.5, "budget=1.5: expected a share"),
        (-0.1, "budget=-0.1: expected a share"),
        (math.nan, "budget=nan: expected a share"),
        (True, "budget=true: expected a share"),
        ("2 %", "budget=2 %: expected a share"),
        ([], r"budget=\[\]: expected a share"),
        ([0.02, 2], r"budget=\[0.02, 2\]: expected a share"),
        ({"alerts": 0, "per": "day"}, "budget.alerts=0: expected a number above 0"),
        ({"alerts": "many", "per": "day"}, "budget.alerts=many: expected a number above 0"),
        ({"alerts": 37}, "budget.per: missing beside budget.alerts; expected 'N rows'"),
        ({"per": "day"}, "budget.alerts: missing; expected how many rows may alert per day"),
        ({"alerts": 37, "per": "week"}, "budget.per=week: expected 'N rows'"),
        ({"alerts": 37, "per": "0 rows"}, "budget.per=0 rows: expected 'N rows'"),
        ({"alerts": 37, "per": "1,0 rows"}, "budget.per=1,0 rows: expected 'N rows'"),
        ({"alerts": 37, "per": 1000}, "budget.per=1000: expected 'N rows'"),
        ({"alerts": 37, "per": "37 rows"}, "budget.alerts=37: expected fewer than the 37 rows"),
        ({"alert": 37, "per": "day"}, "budget.alert: there is no such key; did you mean 'alerts'"),
        ({"share": 0.02, "alerts": 37}, "budget.share: there is no such key"),
    ],
)
def test_anything_else_is_refused_in_one_line(value: object, message: str) -> None:
    with pytest.raises(RequestError, match=message) as refused:
        budgets(value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("value", "level"),
    [
        (0.02, 0.02),
        ({"alerts": 37, "per": "10000 rows"}, 0.0037),
        ({"alerts": 1, "per": "3 rows"}, None),
        ({"alerts": 2.5, "per": "day"}, None),
    ],
)
def test_a_budget_is_written_as_it_is_read(value: object, level: float | None) -> None:
    (found,) = budgets(value)
    assert found.value == value and found.level == level


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, None),
        ({"budget": "0.02"}, Budget(Fraction(1, 50))),
        ({"budget": "[0.02, 0.005]"}, Budget(Fraction(1, 50))),
        ({"budget.alerts": "37", "budget.per": "10000 rows"}, Budget(Fraction(37), 10_000)),
        ({"budget.alerts": "100", "budget.per": "day"}, Budget(Fraction(100), None)),
    ],
)
def test_a_run_says_its_budget(parameters: dict[str, str], expected: Budget | None) -> None:
    assert recorded_budget(parameters) == expected

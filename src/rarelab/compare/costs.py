"""A difference in recall at an alert budget, expressed as counts and money per month."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rarelab.compare.arms import DataSet
from rarelab.compare.contrast import Contrast, Finding
from rarelab.errors import RequestError, nearest
from rarelab.metrics.budget import Budget
from rarelab.metrics.costs import BY_AMOUNT
from rarelab.records.load import Run

_RECALL = "test/recall_at_q/"
_AT_BUDGET = "test/recall_at_budget"
_VALUE = "test/value_recall_at_q/"
_VALUE_AT_BUDGET = "test/value_recall_at_budget"
_WORTH = "test/amount_per_row"
ALERTS = "test/alerts_at_budget"


@dataclass(frozen=True)
class Costs:
    """What the user provides: prices, and rows or alerts per month. A missed positive may cost
    ``amount``: what it is worth."""

    false_alert: float | None = None
    missed_positive: float | str | None = None
    rows_per_month: float | None = None
    alerts_per_month: float | None = None
    currency: str = ""

    @property
    def asked(self) -> bool:
        return any(v is not None for v in (self.false_alert, self.missed_positive))

    @property
    def by_amount(self) -> bool:
        return self.missed_positive == BY_AMOUNT

    def rows(self, budget: float) -> float | None:
        """Rows per month: as given, or alerts per month divided by ``budget``."""
        if self.rows_per_month is not None:
            return self.rows_per_month
        return None if self.alerts_per_month is None else self.alerts_per_month / budget

    def check(self) -> None:
        """Raises RequestError for a combination that gives no costs per month."""
        if self.rows_per_month is not None and self.alerts_per_month is not None:
            raise RequestError(
                "costs.rows_per_month and costs.alerts_per_month: expected only one of them, the "
                "budget determines the other"
            )
        if self.asked and self.rows(0.5) is None:
            raise RequestError(
                "costs.rows_per_month: expected a number (or costs.alerts_per_month), since costs "
                "are given per month"
            )


@dataclass(frozen=True)
class Monthly:
    """One arm against the baseline at the budget, per month; each value is (mean, low, high).

    Both raise the same number of alerts, so each additional positive caught is one false alert and
    one miss fewer. ``saved`` is None without a price. Where a missed positive costs what it is
    worth, ``saved`` is for the false alerts alone, and ``value`` is the additional amount caught,
    judged by ``valued``.
    """

    data: str
    contrast: Contrast
    budget: float
    alerts: float
    caught: tuple[float, float, float]
    saved: tuple[float, float, float] | None
    value: tuple[float, float, float] | None = None
    valued: Contrast | None = None


def recall_key(budget: Budget) -> str:
    """The key of recall at ``budget``, as runs record it."""
    return _AT_BUDGET if budget.level is None else f"{_RECALL}{budget.level}"


def value_key(budget: Budget) -> str:
    """The key of value-weighted recall at ``budget``, as runs record it."""
    return _VALUE_AT_BUDGET if budget.level is None else f"{_VALUE}{budget.level}"


def share_of(budget: Budget, runs: Sequence[Run]) -> float | None:
    """The share of the test rows that a budget allows; None if it depends on how many rows a day
    has, and no run says that."""
    if budget.share is not None:
        return budget.share
    counted = [run for run in runs if ALERTS in run.metrics and "rarelab.rows" in run.tags]
    shares = [r.metrics[ALERTS] / int(r.tags["rarelab.rows"].split("/")[-1]) for r in counted]
    return float(np.mean(shares)) if shares else None


def recall_metric(data_sets: Sequence[DataSet], budget: Budget) -> str:
    """The name of the recorded recall metric at ``budget``.

    Raises:
        RequestError: if it was not recorded, or the task is not binary.
    """
    runs = [run for data in data_sets for arm in data.arms for run in arm.runs.values()]
    if any(key.startswith("test/class/") for run in runs for key in run.metrics):
        raise RequestError(
            "costs: false alerts and misses need a binary task, this one has several classes"
        )
    if budget.level is None:
        if not any(_AT_BUDGET in run.metrics for run in runs):
            raise RequestError(f"budget: no run has recall at {budget}, or kept its predictions")
        return _AT_BUDGET
    known = {key.removeprefix(_RECALL) for r in runs for key in r.metrics if _RECALL in key}
    by_value = {float(text): text for text in known}
    level = budget.level
    if level not in by_value:
        raise RequestError(f"budget={level:g}: not recorded; {nearest(f'{level:g}', known)}")
    return _RECALL + by_value[level]


def monthly(
    data: DataSet, finding: Finding, costs: Costs, budget: float, valued: Finding | None = None
) -> list[Monthly]:
    """Express a finding on recall at the budget per month, and one on value-weighted recall.

    Positives per month = prevalence of the test rows · rows per month; Δcaught = positives ·
    Δrecall; Δcost = −(price of a false alert + price of a miss) · Δcaught. The positives' amount
    per month = their amount per test row · rows per month; Δvalue = amount · Δvalue recall. The
    intervals include test-row noise where that is known.
    """
    rows = costs.rows(budget) or math.nan
    positives = rows * _of_the_baseline(data, finding, "test/prevalence")
    amount = rows * _of_the_baseline(data, finding, _WORTH)
    missed = 0.0 if costs.by_amount else float(costs.missed_positive or 0.0)
    price = (costs.false_alert or 0.0) + missed
    priced = costs.asked and not (costs.by_amount and costs.false_alert is None)
    by_arm = {c.arm.label: c for c in valued.contrasts} if valued else {}
    told = []
    for c in finding.contrasts:
        if (caught := _scaled(c, positives)) is None:
            continue
        saved = _times(caught, price) if priced else None
        judged = by_arm.get(c.arm.label)
        value = _scaled(judged, amount) if judged else None
        told.append(Monthly(data.label, c, budget, budget * rows, caught, saved, value, judged))
    return told


def _of_the_baseline(data: DataSet, finding: Finding, metric: str) -> float:
    runs = data.arm(finding.baseline.label).runs.values()
    return float(np.mean([run.metrics.get(metric, np.nan) for run in runs]))


def _scaled(c: Contrast, per_month: float) -> tuple[float, float, float] | None:
    """The difference and its interval, times what a month has; None without a pair."""
    if c.test is None:
        return None
    bounds = c.rows or c.test
    return _times((c.test.difference, bounds.low, bounds.high), per_month)


def _times(values: tuple[float, float, float], factor: float) -> tuple[float, float, float]:
    middle, low, high = values
    return factor * middle, factor * low, factor * high

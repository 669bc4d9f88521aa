"""Recall as a count: positives caught a month, or among the test rows."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from rarelab.compare.arms import DataSet
from rarelab.compare.contrast import Finding, Question
from rarelab.compare.costs import Costs
from rarelab.errors import RequestError

_MARGIN = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)\s+caught\s*")
# Among all positives, at a share of the rows flagged or of the negatives: a count over a count.
_RECALL = re.compile(r"test/(calibrated/)?recall_at_[^/]+(/[^/]+)?")


@dataclass(frozen=True)
class Caught:
    """A margin in positives caught a month: ``margin="5 caught"``."""

    positives: float

    def __str__(self) -> str:
        return f"{self.positives:g} caught"

    def check(self, metric: str, costs: Costs) -> None:
        """Raises RequestError where it cannot be converted into the metric's units."""
        if not is_recall(metric):
            raise RequestError(
                f"margin={self}: {metric} is not a recall, which alone is counted in positives "
                "caught; expected a number in its own units, or metric=test/recall_at_q/0.005"
            )
        if costs.rows(0.5) is None:
            raise RequestError(
                f"margin={self}: expected costs.rows_per_month too (or costs.alerts_per_month), "
                "since positives are counted a month"
            )


def parsed(text: str) -> Caught | None:
    """The margin that the text states as a count of positives; None if it does not."""
    found = _MARGIN.fullmatch(text)
    return Caught(float(found[1])) if found else None


def is_recall(metric: str) -> bool:
    """Whether the metric is the share of all positives that are caught."""
    return _RECALL.fullmatch(metric) is not None


def asked_of(
    data: DataSet, question: Question, margin: Caught | None, costs: Costs, budget: float
) -> Question:
    """The question as it is put to one data set, whose rate of positives says how many positives
    a month a difference in recall is: Δcaught = prevalence · rows per month · Δrecall.

    Raises:
        RequestError: a margin in positives that has no equal in recall there.
    """
    if not any(arm.runs for arm in data.arms if arm.label == question.baseline):
        return question
    rate = _prevalence(data, question.baseline)
    rows = costs.rows(budget)
    if not is_recall(question.metric) or rows is None or rate is None:
        if margin is not None:
            raise RequestError(
                f"margin={margin}: the runs of {question.baseline} on {data.label} have no "
                "test/prevalence of two classes to convert it by; expected a number"
            )
        return question
    positives = rate * rows
    if margin is None:
        return replace(question, positives=positives)
    if margin.positives >= positives:
        raise RequestError(
            f"margin={margin}: on {data.label} only {positives:.3g} positives occur in "
            f"{rows:,.0f} rows a month; expected fewer"
        )
    return replace(question, positives=positives, margin=margin.positives / positives)


@dataclass(frozen=True)
class Gain:
    """How many more positives an arm catches at the budget than the baseline: (mean, low, high).

    ``positives``: of how many. ``alerts``: how many are raised a month; None if the counts are
    those of the test rows. ``metric``: recall at that budget, as recorded.
    """

    more: tuple[float, float, float]
    positives: float
    budget: float
    alerts: float | None
    metric: str


def gains(data: DataSet, finding: Finding, costs: Costs, budget: float) -> dict[str, Gain]:
    """By arm, a finding on recall at the budget as counts: a month if the rows or alerts of a
    month are given, else among the test rows. The interval includes test-row noise where that is
    known. Empty if the number of positives is not known.
    """
    rate, rows = _prevalence(data, finding.baseline.label), costs.rows(budget)
    if rate is None:
        return {}
    alerts = None if rows is None else budget * rows
    positives = _tested(data, finding, rate) if rows is None else rate * rows
    if positives is None:
        return {}
    return {
        c.arm.label: Gain(
            (positives * c.test.difference, positives * bounds.low, positives * bounds.high),
            positives,
            budget,
            alerts,
            finding.question.metric,
        )
        for c in finding.contrasts
        if c.test is not None and (bounds := c.rows or c.test)
    }


def _tested(data: DataSet, finding: Finding, rate: float) -> float | None:
    """Positives among the test rows."""
    for c in finding.contrasts:
        if c.rows is not None:
            return c.rows.positives
    rows = tested_rows(data, finding.baseline.label)
    return None if rows is None else round(rate * rows)


def tested_rows(data: DataSet, label: str) -> int | None:
    """The number of test rows of an arm's first run, as recorded."""
    for run in data.arm(label).runs.values():
        sizes = run.tags.get("rarelab.rows", "").split("/")
        if len(sizes) == 3 and sizes[2].isdecimal():
            return int(sizes[2])
    return None


def _prevalence(data: DataSet, label: str) -> float | None:
    """The rate of positives among the test rows; None if it is unknown or of several classes."""
    arm = next((arm for arm in data.arms if arm.label == label), None)
    found = [run.metrics for run in arm.runs.values()] if arm else []
    rates = [metrics["test/prevalence"] for metrics in found if _has_rate(metrics)]
    return float(np.mean(rates)) if rates else None


def _has_rate(metrics: Mapping[str, float]) -> bool:
    several = any(key.startswith("test/class/") for key in metrics)
    return not several and metrics.get("test/prevalence", 0.0) > 0

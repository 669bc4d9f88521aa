"""The score from which a row alerts, chosen on validation: for a budget, a precision, a recall or
the lowest cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import betaincinv

from rarelab.data.arguments import between
from rarelab.errors import RequestError, nearest
from rarelab.metrics.budget import budgets
from rarelab.metrics.costs import by_amount, cheapest_threshold, cost_matrix

Scores = NDArray[np.float32]
Positives = NDArray[np.bool_]

_SHARES = ("budget", "precision", "recall")


@dataclass(frozen=True)
class AlertRule:
    """How the threshold is chosen; exactly one of these.

    budget: share of rows that may alert, or ``{"alerts": 37, "per": "10000 rows"}`` (or ``"day"``,
    if the run's validation rows are dated). precision: share of positives among the alerts, at
    least; of the thresholds that keep it, the one with the highest recall. recall: share of the
    positives that alert, at least; the highest threshold that reaches it. cost: whatever costs
    least by the run's own costs, or by ``costs[true class][decision]``.

    Raises:
        RequestError: none or several are given, or a share is out of range.
    """

    budget: float | Mapping[str, Any] | None = None
    precision: float | None = None
    recall: float | None = None
    cost: bool = False
    costs: Sequence[Sequence[float]] | None = None

    def __post_init__(self) -> None:
        only_one(vars(self))
        if self.budget is not None:
            if isinstance(self.budget, Real):
                between("budget", float(self.budget), 0, 1)
            budgets(self.budget)
        elif self.precision is not None:
            between("precision", self.precision, 0, 1, include_high=True)
        elif self.recall is not None:
            between("recall", self.recall, 0, 1, include_high=True)
        elif self.costs is None and not self.cost:
            raise RequestError("expected one of budget, precision, recall, cost and costs")

    def __str__(self) -> str:
        """The rule as it is typed: ``precision=0.9``."""
        if isinstance(self.budget, Mapping):
            return " ".join(f"budget.{key}={value}" for key, value in self.budget.items())
        for name in _SHARES:
            if (share := getattr(self, name)) is not None:
                return f"{name}={share:g}"
        return "cost" if self.costs is None else f"costs={_typed(self.costs)}"

    def sentence(self) -> str:
        """The rule in words, to follow "alert"."""
        if self.budget is not None:
            return f"at a budget of {budgets(self.budget)[0]}"
        if self.precision is not None:
            return f"at a precision of at least {self.precision:g}"
        if self.recall is not None:
            return f"at a recall of at least {self.recall:g}"
        costs = "the run's costs" if self.costs is None else f"{self}"
        return f"where {costs} are lowest"


def rule_of(
    budget: float | Mapping[str, Any] | None,
    precision: float | None,
    recall: float | None,
    cost: bool,
    costs: Sequence[Sequence[float]] | None,
) -> AlertRule | None:
    """The rule that these ask for; None if none of them is given."""
    if not cost and all(one is None for one in (budget, precision, recall, costs)):
        return None
    return AlertRule(budget, precision, recall, cost, costs)


def read_rule(value: Any, key: str = "threshold") -> AlertRule:
    """The rule in a value of the configuration: ``{precision: 0.9}``, ``{recall: 0.8}``,
    ``{budget: 0.005}`` or the word ``cost``.

    Raises:
        RequestError: for anything else, with ``key``.
    """
    if value == "cost":
        return AlertRule(cost=True)
    if not isinstance(value, Mapping) or len(value) != 1:
        raise RequestError(
            f"{key}={value}: expected the word cost, or one of "
            f"{', '.join(f'{key}.{name}' for name in _SHARES)}, as in {key}.precision=0.9"
        )
    ((name, share),) = value.items()
    if name == "alerts":
        raise RequestError(
            f"{key}.alerts: how many rows alert depends on how many are scored; expected a share "
            f"of them, as in {key}.budget=0.005"
        )
    if name not in _SHARES:
        raise RequestError(f"{key}.{name}: there is no such key; {nearest(str(name), _SHARES)}")
    if isinstance(share, bool) or not isinstance(share, int | float):
        raise RequestError(f"{key}.{name}={share}: expected a share, as in {key}.{name}=0.5")
    try:
        given = {known: float(share) if known == name else None for known in _SHARES}
        return AlertRule(given["budget"], given["precision"], given["recall"])
    except RequestError as error:
        raise RequestError(f"{key}.{error}") from None


@dataclass(frozen=True)
class Threshold:
    """The lowest score that raises an alert, chosen on validation; ``budget`` is the share of the
    rows that may alert, None for a rule other than a budget.

    On validation, ``alerts`` of ``rows`` rows reach it, ``hits`` of ``positives`` among them.
    ``value`` is infinite if no row may alert: more rows than the budget tie for the top score, or
    every alert would cost more than it saves.
    """

    budget: float | None
    value: float
    rows: int
    alerts: int
    positives: int
    hits: int

    @property
    def precision(self) -> float:
        """The share of positives among the alerts; NaN without alerts."""
        return self.hits / self.alerts if self.alerts else math.nan

    @property
    def recall(self) -> float:
        """The share of the positives that alert; NaN without positives."""
        return self.hits / self.positives if self.positives else math.nan

    @property
    def precision_interval(self) -> tuple[float, float]:
        """95 % interval of :attr:`precision` (:func:`exact_interval`)."""
        return exact_interval(self.hits, self.alerts)

    @property
    def recall_interval(self) -> tuple[float, float]:
        """95 % interval of :attr:`recall` (:func:`exact_interval`)."""
        return exact_interval(self.hits, self.positives)


def only_one(given: Mapping[str, Any]) -> None:
    """Refuse more than one way to decide which rows alert; ``cost`` and ``costs`` are one.

    Raises:
        RequestError: two of them are given.
    """
    ways = ("budget", "precision", "recall", "cost", "costs", "alerts")
    values = {name: given.get(name) for name in ways}
    names = [name for name, value in values.items() if value is not None and value is not False]
    if "cost" in names and "costs" in names:
        names.remove("cost")
    if len(names) > 1:
        raise RequestError(
            f"{names[0]} and {names[1]} are both given: each decides which rows alert"
        )


def chosen(
    rule: AlertRule,
    scores: Scores,
    positives: Positives,
    classes: Sequence[str],
    *,
    cheapest: float | None = None,
    days: int | None = None,
) -> Threshold:
    """The rule's threshold on validation scores [N] and positives [N]. Tied rows all alert, or none
    does. ``cheapest`` is the threshold that costs least by the run's own costs, ``days`` how many
    the rows span, if they are dated.

    Raises:
        RequestError: no threshold reaches what the rule asks for, or there are no costs.
    """
    share = None
    if rule.budget is not None:
        (budget,) = budgets(rule.budget)
        size = budget.alerts(len(scores), days)
        value, share = top_threshold(scores, size), budget.share or size / len(scores)
    elif rule.costs is not None:
        costs = cost_matrix(rule.costs, classes)
        if by_amount(costs):
            raise RequestError(
                "costs: what the rows are worth is not known here; give missed_positive as a number"
            )
        value = cheapest_threshold(torch.from_numpy(scores), torch.from_numpy(positives), costs)
    elif rule.cost:
        if cheapest is None:
            raise RequestError(
                "cost: the run's record has no costs; give them, for example costs=[[0,1],[50,1]]"
            )
        value = cheapest
    else:
        value = _reaching(rule, scores, positives)
    return applied(value, scores, positives, share)


def applied(
    value: float, scores: Scores, positives: Positives, budget: float | None = None
) -> Threshold:
    """What a threshold gives on these rows, such as test rows, which did not choose it."""
    alerts = scores >= value
    return Threshold(
        budget=budget,
        value=value,
        rows=len(scores),
        alerts=int(alerts.sum()),
        positives=int(positives.sum()),
        hits=int((alerts & positives).sum()),
    )


def _reaching(rule: AlertRule, scores: Scores, positives: Positives) -> float:
    """The threshold for a precision or a recall."""
    total = int(positives.sum())
    if not total:
        raise RequestError(f"{rule}: none of the run's {len(scores):,} validation rows is positive")
    values, group = np.unique(-scores, return_inverse=True)  # the highest score first
    alerts = np.cumsum(np.bincount(group))
    hits = np.cumsum(np.bincount(group, weights=positives)).astype(np.int64)
    if rule.recall is not None:
        return float(-values[np.argmax(hits / total >= rule.recall)])
    assert rule.precision is not None
    precision = hits / alerts
    enough = precision >= rule.precision
    if not enough.any():
        best = np.flatnonzero(precision == precision.max())[-1]
        count = f"{alerts[best]:,} alert" + ("" if alerts[best] == 1 else "s")
        raise RequestError(
            f"{rule} is not reached on validation: the highest precision is {precision[best]:.4g},"
            f" at {count} ({hits[best]:,} of the {total:,} positives)"
        )
    return float(-values[np.argmax(np.where(enough, hits, -1))])


def top_threshold(scores: Scores, size: int) -> float:
    """The lowest score that at most ``size`` of these reach; infinite if more tie for the top."""
    ordered = np.sort(scores)[::-1]
    lowest = ordered[size - 1]
    if size < len(ordered) and ordered[size] == lowest:
        above = ordered[ordered > lowest]
        return float(above[-1]) if len(above) else math.inf
    return float(lowest)


def exact_interval(hits: float, count: float, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a share, ``hits`` of ``count`` (Clopper & Pearson 1934): quantiles of
    Beta(h, n - h + 1) and Beta(h + 1, n - h); from 0 to 1 if ``count`` is 0."""
    tail = (1 - level) / 2
    low = betaincinv(hits, count - hits + 1, tail) if hits else 0.0
    high = betaincinv(hits + 1, count - hits, 1 - tail) if hits < count else 1.0
    return float(low), float(high)


def _typed(costs: Sequence[Sequence[float]]) -> str:
    return f"[{','.join('[' + ','.join(f'{c:g}' for c in row) + ']' for row in costs)}]"

"""The cost of decisions: thresholds chosen on validation, cost measured on test."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rarelab.errors import RequestError, nearest
from rarelab.metrics.tie_groups import as_array, as_mask

Matrix = NDArray[np.float64]
"""``costs[true class][decision]``, [K, K]; NaN where it is what the row is worth."""

Prices = Mapping[str, float | str]
"""``{false_alert: 5, missed_positive: 120}``, or ``amount``: what the missed row is worth."""

BY_AMOUNT = "amount"
_PRICES = ("false_alert", "missed_positive")


def cost_matrix(costs: Sequence[Sequence[float]] | Prices, classes: Sequence[str]) -> Matrix:
    """``costs[true class][decision]`` as float64 [K, K]; a gain is a negative cost. Of prices, for
    two classes, [[0, false alert], [missed positive, 0]].

    Raises:
        RequestError: not one row and one column per class, or an entry is not a finite number.
    """
    k = len(classes)
    if isinstance(costs, Mapping):
        return _of_prices(costs, classes)
    try:
        matrix = np.array(costs, dtype=np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.shape != (k, k) or not np.isfinite(matrix).all():
        raise RequestError(
            f"costs={list(costs)}: expected {k} lists of {k} numbers, costs[true class][decision], "
            f"with the classes in the order {', '.join(classes)}"
        )
    return matrix


def check_prices(prices: Prices) -> None:
    """Refuse prices that are incomplete, or not numbers of at least 0.

    Raises:
        RequestError: with the key.
    """
    for name in prices:
        if name not in _PRICES:
            raise RequestError(f"costs.{name}: there is no such key; {nearest(str(name), _PRICES)}")
    for name in _PRICES:
        price = prices.get(name)
        if name == "missed_positive" and price == BY_AMOUNT:
            continue
        if not _is_price(price):
            or_amount = " or amount" if name == "missed_positive" else ""
            raise RequestError(
                f"costs.{name}={'null' if price is None else price}: expected a number of at least "
                f"0{or_amount}"
            )


def _is_price(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value >= 0


def _of_prices(prices: Prices, classes: Sequence[str]) -> Matrix:
    check_prices(prices)
    if len(classes) != 2:
        raise RequestError(
            f"costs: false_alert and missed_positive need two classes, found {len(classes)}; give "
            "costs[true class][decision]"
        )
    missed = prices["missed_positive"]
    worth = math.nan if missed == BY_AMOUNT else float(missed)
    return np.array([[0.0, float(prices["false_alert"])], [worth, 0.0]])


def by_amount(costs: Matrix) -> bool:
    """Whether a missed positive costs what it is worth."""
    return bool(np.isnan(costs).any())


def row_costs(costs: Matrix, targets: NDArray, amounts: ArrayLike | None = None) -> Matrix:
    """The cost of each decision [N, K] for class indices [N], and what the rows are worth [N]."""
    found = costs[targets]
    if amounts is None:
        return found
    return np.where(np.isnan(found), np.asarray(amounts, dtype=np.float64)[:, None], found)


def cheapest_threshold(
    scores: Tensor,
    positives: Tensor,
    costs: Matrix,
    *,
    sample_weight: Tensor | None = None,
    amounts: ArrayLike | None = None,
) -> float:
    """The threshold t whose rule "alert when score >= t" costs least on these rows, [N] each.

    Every possible rule is tried: each distinct score, and infinity (never alert). Tied rows are
    alerted together or not at all. Among equally cheap thresholds the highest wins (fewest alerts).
    """
    values, mask = as_array(scores), as_mask(positives)
    weights = np.ones(len(values)) if sample_weight is None else sample_weight.double().numpy()
    # What alerting on a row adds to its cost.
    bill = row_costs(costs, mask.astype(np.int64), amounts)
    change = (bill[:, 1] - bill[:, 0]) * weights
    unique, group = np.unique(values, return_inverse=True)
    by_score = np.bincount(group, weights=change, minlength=len(unique))[::-1]
    bills = np.concatenate([[0.0], np.cumsum(by_score)])
    # Sums of the same costs in a different order count as equal despite rounding.
    best = int(np.argmin(np.round(bills / max(np.abs(change).max(initial=0.0), 1e-300), 9)))
    return float("inf") if best == 0 else float(unique[::-1][best - 1])


def cheapest_decisions(probabilities: Tensor, costs: Matrix) -> NDArray[np.int64]:
    """The decision with least expected cost, Σ_c p_c costs[c][d] (Elkan 2001), per row: [N]."""
    return np.argmin(probabilities.double().numpy() @ costs, axis=1)


def mean_cost(
    targets: Tensor,
    decisions: NDArray[np.int64],
    costs: Matrix,
    *,
    sample_weight: Tensor | None = None,
    amounts: ArrayLike | None = None,
) -> float:
    """Mean of costs[true class][decision] over rows, [N] each; NaN without rows."""
    bills = row_costs(costs, targets.cpu().numpy(), amounts)[np.arange(len(decisions)), decisions]
    if not len(bills):
        return float("nan")
    weights = None if sample_weight is None else sample_weight.double().numpy()
    return float(np.average(bills, weights=weights))


def expected_cost(
    val: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    probabilities: Tensor,
    costs: Matrix,
    amounts: Mapping[str, ArrayLike] | None = None,
) -> tuple[float, float | None]:
    """Mean cost per test row, and in the binary case the threshold.

    Binary: the rule "alert when score >= t" with the threshold that is cheapest on validation.
    Multi-class: the decision with least expected cost under ``probabilities`` [N, C] of the test
    rows. ``val`` and ``test`` are scores [N, C] and class indices [N]; ``amounts`` by these names
    what their rows are worth.
    """
    scores, targets = test
    if scores.shape[1] > 1:
        return mean_cost(targets, cheapest_decisions(probabilities, costs), costs), None
    worth = amounts or {}
    threshold = cheapest_threshold(val[0][:, 0], val[1] == 1, costs, amounts=worth.get("val"))
    alerts = (as_array(scores[:, 0]) >= threshold).astype(np.int64)
    return mean_cost(targets, alerts, costs, amounts=worth.get("test")), threshold

"""The cost of decisions: thresholds chosen on validation, cost measured on test."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rarelab.errors import RequestError
from rarelab.metrics.tie_groups import as_array, as_mask

Matrix = NDArray[np.float64]


def cost_matrix(costs: Sequence[Sequence[float]], classes: Sequence[str]) -> Matrix:
    """``costs[true class][decision]`` as float64 [K, K]; a gain is a negative cost.

    Raises:
        RequestError: not one row and one column per class, or an entry is not a finite number.
    """
    k = len(classes)
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


def cheapest_threshold(
    scores: Tensor, positives: Tensor, costs: Matrix, *, sample_weight: Tensor | None = None
) -> float:
    """The threshold t whose rule "alert when score >= t" costs least on these rows, [N] each.

    Every possible rule is tried: each distinct score, and infinity (never alert). Tied rows are
    alerted together or not at all. Among equally cheap thresholds the highest wins (fewest alerts).
    """
    values, mask = as_array(scores), as_mask(positives)
    weights = np.ones(len(values)) if sample_weight is None else sample_weight.double().numpy()
    # What alerting on a row adds to its cost.
    change = np.where(mask, costs[1, 1] - costs[1, 0], costs[0, 1] - costs[0, 0]) * weights
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
) -> float:
    """Mean of costs[true class][decision] over rows, [N] each; NaN without rows."""
    bills = costs[targets.cpu().numpy(), decisions]
    if not len(bills):
        return float("nan")
    weights = None if sample_weight is None else sample_weight.double().numpy()
    return float(np.average(bills, weights=weights))


def expected_cost(
    val: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], probabilities: Tensor, costs: Matrix
) -> tuple[float, float | None]:
    """Mean cost per test row, and in the binary case the threshold.

    Binary: the rule "alert when score >= t" with the threshold that is cheapest on validation.
    Multi-class: the decision with least expected cost under ``probabilities`` [N, C] of the test
    rows. ``val`` and ``test`` are scores [N, C] and class indices [N].
    """
    scores, targets = test
    if scores.shape[1] > 1:
        return mean_cost(targets, cheapest_decisions(probabilities, costs), costs), None
    threshold = cheapest_threshold(val[0][:, 0], val[1] == 1, costs)
    alerts = (as_array(scores[:, 0]) >= threshold).astype(np.int64)
    return mean_cost(targets, alerts, costs), threshold

"""Squared hinge over all (positive, negative) pairs, in log-linear time."""

from typing import Any

import torch
from torch import Tensor

from rarelab.functional.once import Live, apply_once, check_ranked_lists


def all_pairs_squared_hinge(
    scores: Tensor,
    positives: Tensor,
    *,
    margin: float = 1.0,
    weights: Tensor | None = None,
    live: Live = None,
) -> Tensor:
    """Mean squared hinge on the margin by which each positive should beat each negative.

    ::

        L = Σ_{i∈P} Σ_{j∈N} w_i w_j max(0, margin − (s_i − s_j))²  /  (Σ_{i∈P} w_i · Σ_{j∈N} w_j)

    With v_i = s_i for positives and v_j = s_j + margin for negatives, a pair counts exactly when
    v_j > v_i. Sorted by v, the sums over "all negatives above" and "all positives below" are
    running sums of 1, v and v²: O(M log M) instead of |P| · |N|. They are kept in float64 with the
    scores centred, because the squares cancel.

    Args:
        scores: [..., M] float32 or float64; −inf takes a row out of the list.
        positives: [..., M] bool, same shape.
        margin: > 0.
        weights: weights of the rows, [M] or [..., M].
        live: as in :func:`rarelab.functional.smooth_ap.smooth_ap`.

    Returns:
        [...], in the scores' precision, at least 0. NaN with zero gradient without a positive or a
        negative; NaN where a score is NaN.

    Raises:
        TypeError, ValueError: as :func:`rarelab.functional.smooth_ap.smooth_ap`.
        RuntimeError: on a second derivative.

    Source: Rust & Hocking, "A Log-linear Gradient Descent Algorithm for Unbalanced Binary
    Classification using the All Pairs Squared Hinge Loss", 2023, algorithm 2.
    """
    check_ranked_lists("all_pairs_squared_hinge", scores, positives, margin)
    return apply_once(_evaluate, scores, (positives, float(margin), weights), live)


def _evaluate(scores: Tensor, live: int, arguments: tuple) -> tuple[Tensor, Any]:
    positives, margin, weights = arguments
    counted = scores != -torch.inf
    mass = counted.double() if weights is None else counted * weights.double()
    wide = torch.where(counted, scores.double(), 0)
    wide = wide - wide.sum(-1, keepdim=True) / counted.sum(-1, keepdim=True).clamp_min(1)
    up, down = mass * positives, mass * ~positives
    v = torch.where(positives, wide, wide + margin)
    # A pair exactly at the margin adds nothing, so the order among equal v does not matter.
    order = v.argsort(-1)
    back = order.argsort(-1)

    def running(values: Tensor, reverse: bool) -> Tensor:
        ordered = values.gather(-1, order)
        total = ordered.flip(-1).cumsum(-1).flip(-1) if reverse else ordered.cumsum(-1)
        return total.gather(-1, back)

    above, above_v = running(down, True), running(down * v, True)
    excess = above_v - above * v  # Σ_j w_j (v_j − v_i) over the negatives above row i
    squares = running(down * v * v, True) - 2 * v * above_v + v * v * above
    pairs = up.sum(-1) * down.sum(-1)
    valid = pairs > 0
    each = torch.where(valid, 1 / torch.where(valid, pairs, 1), 0)
    value = (up * squares).sum(-1).clamp_min(0) * each
    broken = (scores.isnan()).any(-1)
    value = torch.where(valid & ~broken, value, torch.nan).to(scores.dtype)
    if not live:
        return value, None
    short = v * running(up, False) - running(up * v, False)  # Σ_i w_i (v_j − v_i) below row j
    gradient = torch.where(positives, -up * excess, down * short) * (2 * each).unsqueeze(-1)
    return value, gradient[..., :live].nan_to_num(0.0).to(scores.dtype)

"""Soft recall among the top fraction of the scores."""

from typing import Any

import torch
from torch import Tensor

from rarelab.functional.once import apply_once, check_ranked_lists
from rarelab.functional.order import quantile as order_quantile


def recall_at_quantile(
    scores: Tensor,
    positives: Tensor,
    *,
    quantile: float,
    tau: float | Tensor,
    interpolation: str = "higher",
    weights: Tensor | None = None,
    live: int | None = None,
) -> Tensor:
    """Soft share of the positives among the top ``quantile`` of each list.

    ::

        θ = (1 − quantile) quantile of all scores, a constant for the gradient
        recall = Σ_{i∈P} w_i σ((s_i − θ)/τ)  /  Σ_{i∈P} w_i

    Args:
        scores: [..., M] float32 or float64; −inf ranks below everything (and counts as a row).
        positives: [..., M] bool, same shape.
        quantile: the alerted fraction, in (0, 1). Below the rate of positives, recall cannot
            exceed quantile / rate.
        tau: temperature > 0 in units of the scores; a tensor broadcasts to [...].
        interpolation: as in :func:`rarelab.functional.order.quantile`.
        weights: weights of the positives, [M] or [..., M]; θ is unweighted.
        live: only the first ``live`` columns get a gradient; None = all.

    Returns:
        [...], in the scores' precision. NaN with zero gradient where there is no positive (or
        no weight, or no temperature); NaN where a score is NaN.

    Raises:
        TypeError, ValueError: as :func:`rarelab.functional.smooth_ap.smooth_ap`.
        RuntimeError: on a second derivative.

    Source: the loss as published with the packages proxy-losses and imbalanced-losses.
    """
    check_ranked_lists("recall_at_quantile", scores, positives, tau)
    if not 0.0 < quantile < 1.0:
        raise ValueError(f"recall_at_quantile: quantile is {quantile}, expected inside (0, 1)")
    live = scores.shape[-1] if live is None else min(live, scores.shape[-1])
    arguments = (positives, quantile, tau, interpolation, weights, live)
    return apply_once(_evaluate, scores, arguments)


def _evaluate(scores: Tensor, wants_gradient: bool, arguments: tuple) -> tuple[Tensor, Any]:
    positives, quantile, tau, interpolation, weights, live = arguments
    if isinstance(tau, Tensor):  # no temperature: as if there were no positive
        tau = tau.to(scores.dtype).expand(scores.shape[:-1]).unsqueeze(-1)
        positives, tau = positives & (tau > 0), torch.where(tau > 0, tau, 1.0)
    threshold = order_quantile(scores, 1.0 - quantile, interpolation=interpolation)
    above = (scores - threshold.unsqueeze(-1)).mul_(1.0 / tau)
    mass = positives.to(scores.dtype)
    if weights is not None:
        mass = torch.where(positives, weights.to(scores.dtype), 0.0)
    step, each = above.sigmoid(), mass.sum(-1, keepdim=True).reciprocal_()
    recall = (step * mass).sum(-1) * each.squeeze(-1)  # 0 · ∞ = NaN where nothing is positive
    if not wants_gradient:
        return recall, None
    slope = above.neg_().sigmoid_().mul_(step).mul_(mass)  # σ' = σ(x) σ(−x), accurate for all x
    slope.mul_(each.mul_(1.0 / tau).nan_to_num_(0.0, 0.0))
    slope[..., live:] = 0
    return recall, slope

"""Soft recall among the top fraction of the scores."""

from typing import Any

import torch
from torch import Tensor

from rarelab.functional.members import Members
from rarelab.functional.once import Live, apply_once, check_ranked_lists
from rarelab.functional.order import quantile as order_quantile


def recall_at_quantile(
    scores: Tensor,
    positives: Tensor,
    *,
    quantile: float,
    tau: float | Tensor,
    interpolation: str = "higher",
    weights: Tensor | None = None,
    live: Live = None,
) -> Tensor:
    """Soft share of the positives among the top ``quantile`` of each list.

    ::

        θ = (1 − quantile) quantile of all scores, without gradient
        recall = Σ_{i∈P} w_i σ((s_i − θ)/τ)  /  Σ_{i∈P} w_i

    Args:
        scores: [..., M] float32 or float64; −inf ranks below everything but still counts as a row.
        positives: [..., M] bool, same shape.
        quantile: the fraction alerted on, in (0, 1). Below the positive rate, recall cannot exceed
            quantile / rate.
        tau: temperature > 0 in units of the scores; a tensor broadcasts to [...].
        interpolation: as in :func:`rarelab.functional.order.quantile`.
        weights: weights of the positives, [M] or [..., M]; θ is unweighted.
        live: as in :func:`rarelab.functional.smooth_ap.smooth_ap`.

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
    return apply_once(_evaluate, scores, (positives, quantile, tau, interpolation, weights), live)


def _evaluate(scores: Tensor, live: int, arguments: tuple) -> tuple[Tensor, Any]:
    positives, quantile, tau, interpolation, weights = arguments
    threshold = order_quantile(scores, 1.0 - quantile, interpolation=interpolation)
    if threshold.numel() == 1 and weights is None and not isinstance(tau, Tensor):
        return _single(scores, positives, threshold, tau, live)
    return _many(scores, positives, threshold, tau, weights, live)


def _single(
    scores: Tensor, positives: Tensor, threshold: Tensor, tau: float, live: int
) -> tuple[Tensor, Any]:
    """One unweighted list, in few operations: on small pools their number dominates the cost."""
    above = scores.masked_select(positives).sub_(threshold).mul_(1.0 / tau)
    step = above.sigmoid()
    recall = step.mean().view(threshold.shape)  # NaN if empty
    if not live:
        return recall, None
    each = 1.0 / (tau * max(1, len(above)))
    slope = above.neg_().sigmoid_().mul_(step).mul_(each)  # σ' = σ(x) σ(−x), accurate for all x
    own = positives[..., :live]  # these come first, and so do their slopes
    return recall, scores.new_zeros(own.shape).masked_scatter_(own, slope)


def _many(
    scores: Tensor,
    positives: Tensor,
    threshold: Tensor,
    tau: float | Tensor,
    weights: Tensor | None,
    live: int,
) -> tuple[Tensor, Any]:
    """Any number of lists; only their positives are evaluated."""
    shape, points = scores.shape[:-1], scores.shape[-1]
    if isinstance(tau, Tensor):  # no temperature: treated as having no positives
        tau = tau.to(scores.dtype).expand(shape)
        positives, tau = positives & (tau > 0).unsqueeze(-1), torch.where(tau > 0, tau, 1.0)
    chosen = Members.of(positives)
    above = chosen.take(scores).sub_(chosen.each(threshold)).mul_(chosen.each(1.0 / tau))
    step = above.sigmoid()
    mass = torch.ones_like(step)
    if weights is not None:
        mass = chosen.take(weights.expand(scores.shape)).to(scores.dtype)
    total, hits = chosen.sum(mass), step * mass
    recall = (chosen.sum(hits) / total).view(shape)  # 0/0 = NaN where nothing is positive
    if not live:
        return recall, None
    slope = above.neg_().sigmoid_().mul_(hits)
    slope.mul_(chosen.each((total.view(shape) * tau).reciprocal_().nan_to_num_(0.0, 0.0)))
    return recall, chosen.put(slope, points)[:, :live].view(*shape, live)

"""Gradient and curvature of any loss over a whole training table, as gradient boosting takes them.

With residuals r = p − y, p = σ(s) (C > 1: the softmax) and row weights u, boosters are made for the
sum of the log-loss, whose gradient is u r and whose curvature is u p (1 − p). A loss that is a mean
over rows is multiplied by the weight of the rows. A ranking loss, whose gradient d is smaller by a
factor of about N, is brought to the size of the log-loss at the present scores, class by class:

    ranking:  g = c d,  c = ‖u r‖₁ / ‖d‖₁,     h = u p (1 − p)
    rows:     g = N ∂loss/∂s,                   h = |g| (1 − |r|)      (log-loss: p (1 − p))

Losses are blended with g and h. h is at least ``FLOOR`` beside a ranking loss, and otherwise only
kept positive, so that log-loss grows the trees that LightGBM's own does.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from rarelab.losses.protocols import Indexed, Queued
from rarelab.losses.warmup import LossWarmupWrapper

FLOOR, TINY = 1e-6, 1e-16
"""The smallest curvature of a row, beside a ranking loss and without one."""

Share = tuple[float, nn.Module]
"""A loss and its weight in a blend."""


class Slope(NamedTuple):
    """A loss at the scores of all rows [N, C]: its value, gradient and curvature.

    ``last`` is the gradient of the blend's last loss alone, before it is weighted.
    """

    value: float
    gradient: Tensor
    curvature: Tensor
    last: Tensor


def shares(loss: nn.Module) -> list[Share]:
    """The losses in use at this moment of a schedule; the loss itself without one."""
    if not isinstance(loss, LossWarmupWrapper):
        return [(1.0, loss)]
    weight = loss.ap_weight
    parts = (1 - weight, loss.warmup_loss), (weight, loss.main_loss)
    return [part for part in parts if part[0] > 0]


def ranks(loss: nn.Module) -> bool:
    """Whether a loss compares rows with each other, instead of being a mean over rows."""
    return isinstance(loss, Queued | Indexed)


def slope(
    blend: Sequence[Share], scores: Tensor, labels: Tensor, weight: Tensor | None = None
) -> Slope:
    """Evaluate a blend of losses on the whole table.

    A queue is emptied first: no earlier row is missing from the table. A ranking loss without any
    log-loss beside it has nothing that keeps the scores near log-odds, where p (1 − p) is sensible;
    its curvature is therefore at least |g|, which bounds the Newton step of a row by 1.

    Args:
        blend: the losses and their weights.
        scores: raw scores [N, C], C = 1 for two classes.
        labels: class indices, int64 [N].
        weight: row weights [N], None for 1.

    Raises:
        ValueError: ``weight`` is given, but a loss does not accept it.
    """
    residual = _residual(scores, labels)
    ones = torch.ones((), dtype=residual.dtype).expand(len(residual), 1)  # takes no memory
    unit = ones if weight is None else weight.to(scores)[:, None]
    value, alone = 0.0, len(blend) == 1
    gradient, curvature = torch.zeros_like(residual), torch.zeros_like(residual)
    last = gradient
    for share, loss in blend:
        found, steep = _evaluate(loss, scores, labels, weight)
        if ranks(loss):
            last = steep * _size(unit * residual, steep)
            bend = unit * residual.abs() * (1 - residual.abs())
            bend = torch.maximum(bend, last.abs()) if alone else bend
        else:
            last = steep * unit.sum()
            bend = last.abs() * (1 - residual.abs())
        value += share * found
        gradient += share * last
        curvature += share * bend
    classes = scores.shape[1]
    if classes > 1:  # a softmax's curvature is not diagonal; as in LightGBM's own multi-class loss
        curvature *= classes / (classes - 1)
    floor = FLOOR if any(ranks(loss) for _, loss in blend) else TINY
    return Slope(value, gradient, curvature.clamp_min(floor), last)


def log_odds(labels: Tensor, num_outputs: int, weight: Tensor | None = None) -> Tensor:
    """The constant scores [C] of the weighted class rates: log-odds for C = 1, else log-rates."""
    mass = torch.ones(len(labels), dtype=torch.float64) if weight is None else weight.double()
    counts = torch.bincount(labels, weights=mass, minlength=max(2, num_outputs))
    rates = (counts / counts.sum()).clamp(1e-15, 1 - 1e-15)  # an absent class, as in LightGBM
    return rates[1:].logit() if num_outputs == 1 else rates.log()


def _evaluate(
    loss: nn.Module, scores: Tensor, labels: Tensor, weight: Tensor | None
) -> tuple[float, Tensor]:
    """The loss and its derivative [N, C]."""
    if isinstance(loss, Queued):
        loss.reset_queue()
    if isinstance(loss, Indexed):
        loss.on_train_batch_rows(torch.arange(len(labels)))
    leaf = scores.detach().requires_grad_()
    with torch.enable_grad():
        value = loss(leaf, labels) if weight is None else loss(leaf, labels, sample_weight=weight)
        (steep,) = torch.autograd.grad(value, leaf)
    return value.item(), steep


def _residual(scores: Tensor, labels: Tensor) -> Tensor:
    if scores.shape[1] == 1:
        return scores.sigmoid() - labels[:, None].to(scores.dtype)
    return scores.softmax(1) - functional.one_hot(labels, scores.shape[1]).to(scores.dtype)


def _size(residual: Tensor, steep: Tensor) -> Tensor:
    """Class by class, the factor that gives ``steep`` the size of ``residual``; 0 for no slope."""
    size = steep.abs().sum(0)
    return torch.where(size > 0, residual.abs().sum(0) / size, 0)

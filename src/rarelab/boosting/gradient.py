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
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from rarelab.functional.threads import limited_threads
from rarelab.losses.plain import BinaryCrossEntropy
from rarelab.losses.protocols import Indexed, Queued
from rarelab.losses.warmup import LossWarmupWrapper

FLOOR, TINY = 1e-6, 1e-16
"""The smallest curvature of a row, beside a ranking loss and without one."""

BLOCK = 1 << 14
"""Rows that are gone through at a time: few enough to stay in cache."""

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


class Slopes:
    """The slopes of losses on one table, round by round.

    Arrays of many rows go back to the system when they are freed, and it takes ten times as long to
    get them anew as to fill them: a slope is written where the last one was. Where an array has to
    be gone through several times, it is done ``BLOCK`` rows at a time, in cache. All of it is done
    by one thread: two are hardly faster, sums have the same bits whatever the booster's number of
    threads, and a core that is busy with something else holds nobody up.
    """

    @limited_threads(1)
    def __init__(self, labels: Tensor, weight: Tensor | None = None) -> None:
        """``labels``: class indices, int64 [N]; ``weight``: row weights [N], None for 1."""
        self._labels, self._weight = labels, weight
        self._unit = None if weight is None else weight.double()[:, None]
        self._mass = float(len(labels)) if self._unit is None else self._unit.sum().item()
        self._positives = (labels == 1).nonzero().squeeze(1)
        self._gradient = self._curvature = self._last = torch.empty(0)

    @limited_threads(1)
    def at(self, scores: Tensor, blend: Sequence[Share]) -> Slope:
        """The slope of a blend of losses at raw scores [N, C], C = 1 for two classes; the next call
        overwrites it.

        A queue is emptied first: no earlier row is missing from the table. A ranking loss without
        any log-loss beside it has nothing that keeps the scores near log-odds, where p (1 − p) is
        sensible; its curvature is therefore at least |g|, which bounds the Newton step of a row
        by 1.

        Raises:
            ValueError: there are weights, but a loss does not accept them.
        """
        scores = scores.detach()
        if self._gradient.shape != scores.shape or self._gradient.dtype != scores.dtype:
            made = (torch.empty_like(scores) for _ in range(3))
            self._gradient, self._curvature, self._last = made
        size = self._log_loss_slope(scores)
        value = self._reduce_to(blend, scores)
        for share, loss in blend:
            if _is_log_loss(loss, scores):
                continue
            found, steep = _evaluate(loss, scores, self._labels, self._weight)
            value += share * found
            factor = _ratio(size, steep) if ranks(loss) else self._mass
            last = self._last if loss is blend[-1][1] else None
            each = torch.mul(steep, factor, out=last)
            self._gradient.add_(each, alpha=share)
            if not ranks(loss):
                rest = 1 - _residual(scores, self._labels).abs()
                self._curvature.addcmul_(each.abs(), rest, value=share)
            elif len(blend) == 1:
                torch.maximum(self._curvature, each.abs(), out=self._curvature)
        classes = scores.shape[1]
        if classes > 1:  # a softmax's curvature is not diagonal; as in LightGBM's multi-class loss
            self._curvature.mul_(classes / (classes - 1))
        self._curvature.clamp_min_(FLOOR if any(ranks(loss) for _, loss in blend) else TINY)
        return Slope(value, self._gradient, self._curvature, self._last)

    def _log_loss_slope(self, scores: Tensor) -> Tensor:
        """Write the gradient u r and the curvature u |r| (1 − |r|); ‖u r‖₁ of each class, [C]."""
        gradient, curvature = self._gradient, self._curvature
        unit = None if self._unit is None else self._unit.to(scores)
        binary = scores.shape[1] == 1
        if binary:  # so far as if every row were a negative
            parts = [each.split(BLOCK) for each in (scores, gradient, curvature)]
            for part, pull, bend in zip(*parts, strict=True):
                torch.sigmoid(part, out=pull)
                torch.addcmul(pull, pull, pull, value=-1, out=bend)
        else:
            size = gradient.copy_(_residual(scores, self._labels)).abs()
            torch.addcmul(size, size, size, value=-1, out=curvature)
        if unit is not None:
            gradient.mul_(unit)
            curvature.mul_(unit)
        if not binary:
            return _size(gradient)
        pull = gradient[self._positives]
        full = torch.ones_like(pull) if unit is None else unit[self._positives]
        size = gradient.sum(0) + (full - 2 * pull).sum(0)
        gradient[self._positives] = pull - full
        return size

    def _reduce_to(self, blend: Sequence[Share], scores: Tensor) -> float:
        """Reduce the slope of log-loss to its share of a blend, beside whose ranking losses its
        curvature stays; that share of its value."""
        own = sum(share for share, loss in blend if _is_log_loss(loss, scores))
        calm = own + sum(share for share, loss in blend if ranks(loss))
        if _is_log_loss(blend[-1][1], scores):
            self._last.copy_(self._gradient)
        if own != 1:
            self._gradient.mul_(own)
        if calm != 1:
            self._curvature.mul_(calm)
        return own * self._log_loss(scores) if own else 0.0

    def _log_loss(self, scores: Tensor) -> float:
        """Σ u log(1 + exp(s)) less Σ u s over the positives, divided by Σ u, for two classes."""
        own, sums = scores[self._positives], []
        if self._unit is not None:
            own = own * self._unit[self._positives]
        units = repeat(None) if self._unit is None else self._unit.split(BLOCK)
        for part, unit in zip(scores.split(BLOCK), units, strict=False):
            each = functional.softplus(part, threshold=40)  # beyond it, the score itself
            sums.append((each if unit is None else each * unit).sum())
        return (torch.stack(sums).sum() - own.sum()).item() / self._mass


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


def _ratio(size: Tensor, steep: Tensor) -> Tensor:
    """Class by class, the factor that gives ``steep`` the ``size`` [C]; 0 for no slope, or for one
    so small that the factor is not finite: far from the threshold sigmoids underflow."""
    factor = size / _size(steep)
    return torch.where(factor.isfinite(), factor, 0)


def _size(slope: Tensor) -> Tensor:
    """‖slope‖₁ of each class, [C]."""
    return torch.stack([part.abs().sum(0) for part in slope.split(BLOCK)]).sum(0)


def _is_log_loss(loss: nn.Module, scores: Tensor) -> bool:
    """Whether value and slope of a loss are known without a graph."""
    mean = isinstance(loss, BinaryCrossEntropy) and loss.reduction == "mean"
    return mean and scores.shape[1] == 1

"""Focal losses: cross-entropy that down-weights well-classified examples."""

from collections.abc import Sequence
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from rarelab.functional.focal import sigmoid_focal, softmax_focal
from rarelab.losses.gather import all_gather_no_grad, all_gather_with_grad, should_gather
from rarelab.losses.plain import mean_or_sum
from rarelab.losses.rows import (
    as_labels,
    as_weights,
    check_reduction,
    finite_weights,
    floating,
    kept_rows,
)

PADDING = -100


@final
class SigmoidFocalLoss(nn.Module):
    """α_t (1 − p_t)^γ · BCE of independent logits (Lin et al., ICCV 2017, eq. 5).

    Every logit is an independent binary problem: one output, or several labels that may co-occur.
    For mutually exclusive classes use `SoftmaxFocalLoss`.

    Fails when: labels are noisy (a mislabelled row is never well classified and keeps its full
    weight); scores are read as log-odds, which they are not for γ > 0 (calibrate probabilities); α
    is tuned separately from γ: they interact, and α = 0.25 *lowers* the weight of positives.

    Args:
        alpha: weight of positives in [0, 1], with 1 − alpha for negatives; −1: both weigh 1.
        gamma: γ >= 0; 0 is (α-weighted) BCE.
        reduction: over elements, 'mean' (by weight), 'sum' or 'none'.
        gather_distributed: reduce over the rows of all processes; None: if there are several.

    Raises:
        ValueError: an argument is out of range; in a call, shapes do not match, a target is not a
            class, or a weight is negative or not finite.
    """

    needs_warmup: ClassVar[bool] = False

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 2.0,
        reduction: Literal["mean", "sum", "none"] = "mean",
        gather_distributed: bool | None = None,
    ) -> None:
        super().__init__()
        if alpha != -1 and not 0 <= alpha <= 1:
            raise ValueError(f"alpha is {alpha}, expected [0, 1], or -1 for no weighting")
        self.alpha = float(alpha)
        self.gamma = check_gamma(gamma)
        self.reduction = check_reduction(reduction)
        self.gather_distributed = gather_distributed

    def forward(
        self, inputs: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None
    ) -> Tensor:
        """The loss of logits of any shape.

        Args:
            inputs: raw logits.
            targets: the same shape (either may lack a trailing dimension of 1), in [0, 1]; elements
                of −100 are ignored.
            sample_weight: weights [N], or [N, ...] that broadcast against ``inputs``.
        """
        shape, inputs = inputs.shape, floating(inputs)
        inputs, targets = _alike(inputs, targets)
        weights = _broadcast_weights(sample_weight, inputs)
        if should_gather(self.gather_distributed):
            inputs, targets = all_gather_with_grad(inputs), all_gather_no_grad(targets)
            weights = None if weights is None else all_gather_no_grad(weights)
            shape = inputs.shape
        goals = targets.to(inputs.dtype)
        keep = goals != PADDING
        _check_goals(goals, keep)
        # An ignored element's value must not reach the gradient, not even as NaN · 0.
        inputs, goals = torch.where(keep, inputs, 0), torch.where(keep, goals, 0)
        losses = sigmoid_focal(inputs, goals, alpha=self.alpha, gamma=self.gamma)
        mass = keep.to(losses.dtype) if weights is None else torch.where(keep, weights, 0)
        if self.reduction == "none":
            return (losses * mass).view(shape)
        return _reduced(losses * mass, mass, self.reduction)

    def together(
        self,
        losses: Sequence["SigmoidFocalLoss"],
        logits: Tensor,
        targets: Tensor,
        sample_weight: Tensor | None,
    ) -> Tensor | None:
        """See :class:`rarelab.losses.protocols.Together`."""
        kinds = {(each.alpha, each.gamma, each.reduction) for each in losses}
        if len(kinds) > 1 or logits.size(-1) > 1 or should_gather(self.gather_distributed):
            return None
        rows = SigmoidFocalLoss(self.alpha, self.gamma, "none", gather_distributed=False)
        weights = None if sample_weight is None else sample_weight.flatten()
        each = rows(logits.flatten(), targets.flatten(), sample_weight=weights).view(targets.shape)
        return mean_or_sum(each, targets != PADDING, sample_weight, self.reduction)


@final
class SoftmaxFocalLoss(nn.Module):
    """α_y (1 − p_y)^γ · CE of C >= 2 logits, p their softmax (Lin et al., ICCV 2017, eq. 5).

    Under 'mean_positive' the sum over all rows is divided by the weight of the rows that are not
    ``background_class`` (by 1 when there are none). This is how RetinaNet keeps the scale when
    nearly everything is background; the value then depends on the positives in the batch.

    Fails as `SigmoidFocalLoss` does: noisy labels keep their full weight, and scores are
    uncalibrated for γ > 0.

    Args:
        alpha: weight of each class [C]; None: all 1.
        gamma: γ >= 0; 0 is cross-entropy.
        reduction: over rows, 'mean' (by weight), 'mean_positive', 'sum' or 'none'.
        label_smoothing: share of the target spread evenly over the classes, in [0, 1).
        ignore_index: target of rows to ignore.
        background_class: the class that 'mean_positive' does not count.
        gather_distributed: reduce over the rows of all processes; None: if there are several.

    Raises:
        ValueError: an argument is out of range; in a call, shapes do not match, a target is not a
            class, or a weight is negative or not finite.
    """

    needs_warmup: ClassVar[bool] = False

    alpha: Tensor | None

    def __init__(
        self,
        alpha: Sequence[float] | Tensor | None = None,
        gamma: float = 2.0,
        reduction: Literal["mean", "mean_positive", "sum", "none"] = "mean",
        label_smoothing: float = 0.0,
        ignore_index: int = PADDING,
        background_class: int = 0,
        gather_distributed: bool | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing is {label_smoothing}, expected [0, 1)")
        weights = None if alpha is None else torch.as_tensor(alpha, dtype=torch.float64)
        if weights is not None and (weights.ndim != 1 or not bool((weights >= 0).all())):
            raise ValueError(f"alpha is {alpha}, expected one weight of at least 0 for each class")
        self.register_buffer("alpha", weights, persistent=False)
        self.gamma = check_gamma(gamma)
        self.reduction = check_reduction(reduction, also=("mean_positive",))
        self.label_smoothing = float(label_smoothing)
        self.ignore_index = ignore_index
        self.background_class = background_class
        self.gather_distributed = gather_distributed

    def forward(
        self, inputs: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None
    ) -> Tensor:
        """The loss of logits [N, C] or [N, C, *] at targets [N] or [N, *].

        Args:
            sample_weight: weights in the shape of the targets.
        """
        logits, shape = self._rows(inputs)
        classes = logits.size(1)
        if targets.shape != shape and not (len(shape) == 1 and targets.ndim == 2):
            raise ValueError(f"targets has shape {list(targets.shape)}, expected {list(shape)}")
        targets = targets if len(shape) == 1 else targets.flatten()
        labels = as_labels(targets, len(logits), classes, self.ignore_index).to(logits.device)
        if sample_weight is not None and len(shape) > 1:
            sample_weight = sample_weight.flatten()
        weights = as_weights(sample_weight, logits)
        if should_gather(self.gather_distributed):
            logits, labels = all_gather_with_grad(logits), all_gather_no_grad(labels)
            weights = None if weights is None else all_gather_no_grad(weights)
            shape = labels.shape
        keep = kept_rows(labels, classes, self.ignore_index)
        if keep is None:
            keep = torch.ones_like(labels, dtype=torch.bool)
        # An ignored row's values must not reach the gradient, not even as NaN · 0.
        logits = torch.where(keep.unsqueeze(1), logits, 0)
        labels = torch.where(keep, labels, 0)
        losses = softmax_focal(
            logits,
            labels,
            gamma=self.gamma,
            alpha=self.alpha,
            label_smoothing=self.label_smoothing,
        )
        mass = keep.to(losses.dtype) if weights is None else torch.where(keep, weights, 0)
        losses = losses * mass
        if self.reduction == "none":
            return losses.view(shape)
        if self.reduction == "mean_positive":
            mass = mass * (labels != self.background_class)
        return _reduced(losses, mass, self.reduction)

    def _rows(self, inputs: Tensor) -> tuple[Tensor, torch.Size]:
        """Logits as rows [M, C], and the shape of their targets."""
        if inputs.ndim < 2 or inputs.size(1) < 2:
            raise ValueError(
                f"logits have shape {list(inputs.shape)}, expected [N, C] or [N, C, *] with C >= 2 "
                "(one logit: SigmoidFocalLoss)"
            )
        classes = inputs.size(1)
        if self.alpha is not None and len(self.alpha) != classes:
            raise ValueError(f"alpha has {len(self.alpha)} weights, logits have {classes} classes")
        shape = torch.Size([inputs.size(0), *inputs.shape[2:]])
        return floating(inputs).movedim(1, -1).reshape(-1, classes), shape


def check_gamma(gamma: float) -> float:
    """Return γ.

    Raises:
        ValueError: γ is negative or not finite.
    """
    if not 0 <= gamma < float("inf"):
        raise ValueError(f"gamma is {gamma}, expected a number of at least 0")
    return float(gamma)


def _reduced(losses: Tensor, mass: Tensor, reduction: str) -> Tensor:
    total = losses.sum()
    if reduction == "sum":
        return total
    whole = mass.sum()
    return total / torch.where(whole > 0, whole, 1)


def _alike(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the same shape, dropping a trailing dimension of 1 that only one of them has."""
    if inputs.shape == targets.shape:
        return inputs, targets
    if inputs.shape[-1:] == (1,) and inputs.shape[:-1] == targets.shape:
        return inputs.squeeze(-1), targets
    if targets.shape[-1:] == (1,) and targets.shape[:-1] == inputs.shape:
        return inputs, targets.squeeze(-1)
    if inputs.ndim <= 2 and inputs.shape[1:] in ((), (1,)):
        raise ValueError(
            f"targets has shape {list(targets.shape)}, expected [{len(inputs)}] or "
            f"[{len(inputs)}, 1]"
        )
    raise ValueError(
        f"logits have shape {list(inputs.shape)} and targets {list(targets.shape)}: every logit "
        "needs its own target, 0 or 1 (for mutually exclusive classes: SoftmaxFocalLoss)"
    )


def _broadcast_weights(sample_weight: Tensor | None, inputs: Tensor) -> Tensor | None:
    """Weights expanded to the shape of the logits, from one per row or any broadcastable shape."""
    if sample_weight is None:
        return None
    weights = finite_weights(sample_weight.detach()).to(inputs)
    while weights.ndim > inputs.ndim and weights.size(-1) == 1:
        weights = weights.squeeze(-1)
    while weights.ndim < inputs.ndim:
        weights = weights.unsqueeze(-1)
    if weights.shape[:1] != inputs.shape[:1] or any(
        mine not in (1, theirs) for mine, theirs in zip(weights.shape, inputs.shape, strict=False)
    ):
        raise ValueError(
            f"sample_weight has shape {list(sample_weight.shape)}, expected [{len(inputs)}] or a "
            f"shape that broadcasts against {list(inputs.shape)}"
        )
    return weights.expand(inputs.shape)


def _check_goals(goals: Tensor, keep: Tensor) -> None:
    outside = keep & ~((goals >= 0) & (goals <= 1))
    if goals.device.type == "cpu" and bool(outside.any()):
        bad = goals[outside][:8].tolist()
        raise ValueError(f"targets hold {bad}, expected 0 to 1 (or ignore_index {PADDING})")

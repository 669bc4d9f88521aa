"""The losses that ranking losses are compared with: cross-entropy, binary and multi-class.

All ignore rows whose target is ``ignore_index``, weight rows by ``sample_weight`` and reduce in the
same way: 'mean' is the weighted mean over the remaining rows, 'sum' their weighted sum, 'none' one
entry per row with 0 for ignored rows. With no rows left, 'mean' and 'sum' give a zero that is still
attached to the graph.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from rarelab.losses.rows import (
    as_column,
    as_labels,
    as_logits,
    as_weights,
    check_reduction,
    kept_rows,
)


@final
class BinaryCrossEntropy(nn.Module):
    """−[t log σ(s) + (1 − t) log(1 − σ(s))] of logits s [N] or [N, 1] and targets t in [0, 1].

    The logarithmic score (Good, JRSS B 14, 1952), in nats.

    Args:
        reduction: over rows, 'mean', 'sum' or 'none'.
        ignore_index: target of rows to ignore.

    Raises:
        ValueError: an argument is out of range; in a call, shapes do not match, a target is not a
            class, or a weight is negative or not finite.
    """

    needs_warmup: ClassVar[bool] = False
    is_likelihood: ClassVar[bool] = True

    def __init__(
        self, reduction: Literal["mean", "sum", "none"] = "mean", ignore_index: int = -100
    ) -> None:
        super().__init__()
        self.reduction = check_reduction(reduction)
        self.ignore_index = ignore_index

    def forward(
        self, logits: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None
    ) -> Tensor:
        """The loss; ``sample_weight`` [N] weights rows."""
        return _binary(logits, targets, sample_weight, None, self.reduction, self.ignore_index)

    def together(
        self,
        losses: Sequence["BinaryCrossEntropy"],
        logits: Tensor,
        targets: Tensor,
        sample_weight: Tensor | None,
    ) -> Tensor | None:
        """See :class:`rarelab.losses.protocols.Together`."""
        return _binary_together(losses, logits, targets, sample_weight, None)


@final
class WeightedBinaryCrossEntropy(nn.Module):
    """−[ω t log σ(s) + (1 − t) log(1 − σ(s))], with ω the weight of a positive.

    Class weighting as in Manski & Lerman (Econometrica 45, 1977), in nats.

    Fails when: labels are wrong, since a false positive label weighs ω too; scores are read as
    log-odds, which they exceed by log ω; ω is so large that batches with a positive dominate.

    Args:
        pos_weight: ω; the training rows' negatives per positive balances the two classes.
        reduction: over rows, 'mean', 'sum' or 'none'.
        ignore_index: target of rows to ignore.

    Raises:
        ValueError: an argument is out of range; in a call, shapes do not match, a target is not a
            class, or a weight is negative or not finite.
    """

    needs_warmup: ClassVar[bool] = False

    pos_weight: Tensor

    def __init__(
        self,
        pos_weight: float,
        reduction: Literal["mean", "sum", "none"] = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__()
        if not 0 < pos_weight < float("inf"):
            raise ValueError(f"pos_weight is {pos_weight}, expected a positive number")
        self.reduction = check_reduction(reduction)
        self.ignore_index = ignore_index
        weight = torch.tensor(float(pos_weight), dtype=torch.float64)
        self.register_buffer("pos_weight", weight, persistent=False)

    def forward(
        self, logits: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None
    ) -> Tensor:
        """The loss; ``sample_weight`` [N] weights rows on top of ω."""
        return _binary(
            logits, targets, sample_weight, self.pos_weight, self.reduction, self.ignore_index
        )

    def together(
        self,
        losses: Sequence["WeightedBinaryCrossEntropy"],
        logits: Tensor,
        targets: Tensor,
        sample_weight: Tensor | None,
    ) -> Tensor | None:
        """See :class:`rarelab.losses.protocols.Together`."""
        pos_weights = torch.stack([each.pos_weight for each in losses])
        pos_weight = pos_weights.repeat_interleave(targets[0].numel())
        return _binary_together(losses, logits, targets, sample_weight, pos_weight)


@final
class CrossEntropy(nn.Module):
    """−log softmax(s)_t of logits s [N, C] at targets t in {0, .., C − 1}.

    The logarithmic score (Good, JRSS B 14, 1952), in nats.

    Args:
        num_classes: C, at least 2.
        label_smoothing: share of the target spread evenly over the classes, in [0, 1).
        reduction: over rows, 'mean', 'sum' or 'none'.
        ignore_index: target of rows to ignore.

    Raises:
        ValueError: an argument is out of range; in a call, shapes do not match, a target is not a
            class, or a weight is negative or not finite.
    """

    needs_warmup: ClassVar[bool] = False
    is_likelihood: ClassVar[bool] = True

    def __init__(
        self,
        num_classes: int,
        label_smoothing: float = 0.0,
        reduction: Literal["mean", "sum", "none"] = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(
                f"num_classes is {num_classes}, expected at least 2 (one logit: BinaryCrossEntropy)"
            )
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing is {label_smoothing}, expected [0, 1)")
        self.num_classes = num_classes
        self.label_smoothing = float(label_smoothing)
        self.reduction = check_reduction(reduction)
        self.ignore_index = ignore_index

    def forward(
        self, logits: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None
    ) -> Tensor:
        """The loss; ``sample_weight`` [N] weights rows."""
        logits = as_logits(logits, self.num_classes)
        labels = as_labels(targets, logits.size(0), self.num_classes, self.ignore_index)
        weights = as_weights(sample_weight, logits)
        if labels.device.type == "cpu":
            keep = kept_rows(labels, self.num_classes, self.ignore_index)
        else:
            # On an accelerator a mask costs less than the sync to find out whether one is needed.
            keep = labels != self.ignore_index
        if keep is not None:
            # An ignored row's values must not reach the gradient, not even as NaN · 0.
            logits = torch.where(keep.unsqueeze(1), logits, 0)
            labels = torch.where(keep, labels, 0)
        plain = keep is None and weights is None and labels.numel() > 0
        reduction = self.reduction if plain else "none"
        losses = functional.cross_entropy(
            logits, labels, reduction=reduction, label_smoothing=self.label_smoothing
        )
        return losses if plain else row_loss(losses, keep, weights, self.reduction)


def plain_loss(num_classes: int) -> BinaryCrossEntropy | CrossEntropy:
    """The cross-entropy of the task: binary for one logit, multi-class for more."""
    return BinaryCrossEntropy() if num_classes == 1 else CrossEntropy(num_classes)


def row_loss(losses: Tensor, keep: Tensor | None, weights: Tensor | None, reduction: str) -> Tensor:
    """Reduce row losses [N] over the rows in ``keep`` (None: all) under ``weights`` [N]."""
    if keep is not None:
        kept = keep.to(losses.dtype)
        weights = kept if weights is None else torch.where(keep, weights, 0)
    if weights is not None:
        losses = losses * weights
    if reduction == "none":
        return losses
    total = losses.sum()
    if reduction == "sum":
        return total
    mass = total.new_tensor(losses.numel()) if weights is None else weights.sum()
    return total / torch.where(mass > 0, mass, 1)


def _binary_together(
    losses: Sequence[BinaryCrossEntropy | WeightedBinaryCrossEntropy],
    logits: Tensor,
    targets: Tensor,
    sample_weight: Tensor | None,
    pos_weight: Tensor | None,
) -> Tensor | None:
    """The losses [K] of logits [K, N, 1] at targets [K, N]; ``pos_weight`` is one per row."""
    reductions = {(each.reduction, each.ignore_index) for each in losses}
    if len(reductions) > 1:
        return None
    ((reduction, ignore_index),) = reductions
    weights = None if sample_weight is None else sample_weight.flatten()
    rows = (logits.flatten(0, 1), targets.flatten(), weights, pos_weight)
    each = _binary(*rows, "none", ignore_index).view(targets.shape)
    return mean_or_sum(each, targets != ignore_index, sample_weight, reduction)


def mean_or_sum(losses: Tensor, keep: Tensor, weights: Tensor | None, reduction: str) -> Tensor:
    """Reduce row losses [K, N], already weighted and 0 where not kept, over each run's rows."""
    if reduction == "none":
        return losses
    total = losses.sum(1)
    if reduction == "sum":
        return total
    mass = keep.sum(1).to(total.dtype) if weights is None else torch.where(keep, weights, 0).sum(1)
    return total / torch.where(mass > 0, mass, 1)


def _binary(
    logits: Tensor,
    targets: Tensor,
    sample_weight: Tensor | None,
    pos_weight: Tensor | None,
    reduction: str,
    ignore_index: int,
) -> Tensor:
    logits = as_logits(logits, 1)
    weights = as_weights(sample_weight, logits)
    goals = as_column(targets, logits.size(0), "targets")
    if targets.dtype != logits.dtype:
        goals = goals.to(logits.dtype)
    keep = _kept_goals(goals, ignore_index)
    scores = logits.squeeze(1)
    if keep is not None:
        # An ignored row's values must not reach the gradient, not even as NaN · 0.
        scores, goals = torch.where(keep, scores, 0), torch.where(keep, goals, 0)
    plain = keep is None and weights is None and goals.numel() > 0
    if pos_weight is not None:
        pos_weight = pos_weight.to(scores.dtype)
    losses = functional.binary_cross_entropy_with_logits(
        scores, goals, pos_weight=pos_weight, reduction=reduction if plain else "none"
    )
    return losses if plain else row_loss(losses, keep, weights, reduction)


def _kept_goals(goals: Tensor, ignore_index: int) -> Tensor | None:
    """Mask of the rows to keep, or None for all; refuses targets outside [0, 1]."""
    if goals.numel() == 0:
        return None
    if goals.device.type != "cpu":
        # On an accelerator a mask costs less than the sync to find out whether one is needed.
        return goals != ignore_index
    low, high = torch.aminmax(goals)
    low, high = float(low), float(high)
    inside = low >= 0 and high <= 1
    if inside and not low <= ignore_index <= high:
        return None
    keep = goals != ignore_index
    outside = keep & ~((goals >= 0) & (goals <= 1))
    if not inside and bool(outside.any()):
        bad = goals[outside][:8].tolist()
        raise ValueError(f"targets hold {bad}, expected 0 to 1 (or ignore_index {ignore_index})")
    return keep

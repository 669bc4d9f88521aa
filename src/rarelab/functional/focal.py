"""Focal modulation: cross-entropy that down-weights well-classified examples."""

import torch
from torch import Tensor
from torch.nn import functional


def sigmoid_focal(logits: Tensor, targets: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """Focal loss of independent binary targets, elementwise.

    ::

        p_t = p t + (1 − p)(1 − t),  p = σ(s)          α_t = α t + (1 − α)(1 − t)
        loss = α_t (1 − p_t)^γ · BCE(s, t)

    1 − p_t is computed in logs, so neither it nor its gradient is lost where p_t rounds to 1.

    Args:
        logits: any shape, floating.
        targets: the same shape and dtype, in [0, 1].
        alpha: weight of positives, with 1 − alpha for negatives; below 0: both 1.
        gamma: γ >= 0; 0 is BCE.

    Returns:
        The shape of the logits, in nats. Inputs are not checked; the loss class does that.

    Source: Lin, Goyal, Girshick, He, Dollár, ICCV 2017, eq. 5.
    """
    right, wrong = functional.logsigmoid(logits), functional.logsigmoid(-logits)
    missed = torch.logaddexp(right + torch.log1p(-targets), wrong + targets.log())
    loss = (gamma * missed).exp() * functional.binary_cross_entropy_with_logits(
        logits, targets, reduction="none"
    )
    if alpha < 0:
        return loss
    return loss * (alpha * targets + (1 - alpha) * (1 - targets))


def softmax_focal(
    logits: Tensor,
    labels: Tensor,
    *,
    gamma: float,
    alpha: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Focal loss over C mutually exclusive classes, per row.

    ::

        loss = α_y (1 − softmax(s)_y)^γ · CE(s, y; smoothing)

    Args:
        logits: [M, C], C >= 2.
        labels: int64 [M] in {0, .., C − 1}.
        gamma: γ >= 0; 0 is cross-entropy.
        alpha: weight of each class [C]; None: all 1.
        label_smoothing: share of the target spread evenly over the classes; the modulating factor
            still uses the label itself.

    Returns:
        [M], in nats. Inputs are not checked; the loss class does that.

    Source: Lin et al., ICCV 2017, eq. 5, with softmax in place of the sigmoid.
    """
    others = logits.scatter(1, labels.unsqueeze(1), -torch.inf)
    missed = others.logsumexp(1) - logits.logsumexp(1)
    loss = (gamma * missed).exp() * functional.cross_entropy(
        logits, labels, reduction="none", label_smoothing=label_smoothing
    )
    return loss if alpha is None else loss * alpha.to(loss.dtype)[labels]

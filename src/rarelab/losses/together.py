"""The losses of K runs that train as one, each at its own logits, with its own queue and clock."""

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from rarelab.losses.protocols import Together


@final
class LossesTogether(nn.Module):
    """K losses of one configuration, one per run.

    Args:
        losses: one per run; the state of each stays its own.
    """

    def __init__(self, losses: Sequence[nn.Module]) -> None:
        super().__init__()
        self.losses = nn.ModuleList(losses)

    def forward(
        self, logits: Tensor, targets: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """The losses [K] of logits [K, N, C] at targets [K, N]; weights are [K, N]."""
        return together([*self.losses], logits, targets, sample_weight)


def together(
    losses: Sequence[Any], logits: Tensor, targets: Tensor, sample_weight: Tensor | None = None
) -> Tensor:
    """As :meth:`LossesTogether.forward`: at once where the losses can, else one by one."""
    first = losses[0]
    if isinstance(first, Together) and all(type(loss) is type(first) for loss in losses):
        found = first.together(losses, logits, targets, sample_weight)
        if found is not None:
            return found
    weights = [{}] * len(losses)
    if sample_weight is not None:
        weights = [{"sample_weight": each} for each in sample_weight]
    calls = zip(losses, logits, targets, weights, strict=True)
    return torch.stack([loss(scores, labels, **kept) for loss, scores, labels, kept in calls])

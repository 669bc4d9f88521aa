"""Scores at the natural class rates, learned from batches with other rates."""

from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from rarelab.losses.protocols import Likelihood
from rarelab.losses.together import together


@final
class PriorCorrected(nn.Module):
    """A likelihood of logits s + log(π'/π): class rates π' in the batches, π in nature.

    The logits s then fit the natural rates, so probabilities, validation and everything downstream
    need no correction (Elkan 2001, theorem 2; King & Zeng 2001, section 4.1). In the binary case
    the shift applies to the log-odds.

    Args:
        loss: a loss minimised by the true class probabilities.
        shift: log(π'/π), [C], or [1] in the binary case.
    """

    is_likelihood: ClassVar[bool] = True

    shift: Tensor

    def __init__(self, loss: nn.Module, shift: Tensor) -> None:
        super().__init__()
        self.loss = loss
        self.needs_warmup = getattr(loss, "needs_warmup", True)
        self.register_buffer("shift", shift.detach().clone(), persistent=False)

    def forward(
        self, logits: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None
    ) -> Tensor:
        """The loss at the shifted logits; ``sample_weight`` [N] is passed on."""
        logits = logits + self.shift.to(torch.promote_types(logits.dtype, torch.float32))
        if sample_weight is None:
            return self.loss(logits, targets)
        return self.loss(logits, targets, sample_weight=sample_weight)

    def together(
        self,
        losses: Sequence["PriorCorrected"],
        logits: Tensor,
        targets: Tensor,
        sample_weight: Tensor | None,
    ) -> Tensor:
        """See :class:`rarelab.losses.protocols.Together`."""
        shifts = torch.stack([each.shift for each in losses]).unsqueeze(1)
        logits = logits + shifts.to(torch.promote_types(logits.dtype, torch.float32))
        return together([each.loss for each in losses], logits, targets, sample_weight)


def corrected(loss: nn.Module, shift: Tensor | None) -> nn.Module:
    """The loss with the correction; unchanged without a shift or if it is not a likelihood."""
    if shift is None or not (isinstance(loss, Likelihood) and loss.is_likelihood):
        return loss
    return PriorCorrected(loss, shift)

"""The loss of a model of several members: taken within each, then averaged."""

import copy
from typing import final

import torch
from torch import Tensor, nn

from rarelab.losses.notices import Notices


@final
class MemberLosses(nn.Module):
    """(1/k) Σ_m loss(logits of member m): k ranked lists, not one.

    Every member has its own copy of the loss, with its own queue and schedule.

    Args:
        loss: the loss of one member.
        members: k.
    """

    def __init__(self, loss: nn.Module, members: int) -> None:
        super().__init__()
        # Shared, so that a warning is logged once, not k times.
        said = [v for part in loss.modules() for v in vars(part).values() if isinstance(v, Notices)]
        self.copies = nn.ModuleList(
            copy.deepcopy(loss, {id(notices): notices for notices in said}) for _ in range(members)
        )

    def forward(self, logits: Tensor, targets: Tensor, **rows: Tensor) -> Tensor:
        """The mean loss of logits [N·k, C], the members of a row next to each other, and targets
        [N]; ``rows`` are passed on to every copy (``sample_weight`` [N])."""
        members = logits.unflatten(0, (len(targets), len(self.copies))).unbind(1)
        pairs = zip(self.copies, members, strict=True)
        return torch.stack([loss(scores, targets, **rows) for loss, scores in pairs]).mean()


def each(loss: nn.Module) -> tuple[nn.Module, ...]:
    """The losses to keep informed of epochs, steps and rows: the copies, or the loss itself. They
    all stand at the same point of the schedule, so that the first can be asked for it."""
    return tuple(loss.copies) if isinstance(loss, MemberLosses) else (loss,)

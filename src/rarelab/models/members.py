"""Networks that make several predictions of a row: members, each trained on a loss of its own."""

import math
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid


@runtime_checkable
class Members(Protocol):
    """A network of k members. Training takes the loss within each member and averages the k losses;
    a call gives the scores [N, C] of the mean of their probabilities."""

    @property
    def k(self) -> int: ...

    def member_logits(self, x: Tensor) -> Tensor:
        """The logits of every member, [N, k, C]."""
        ...


def of_mean_probability(logits: Tensor) -> Tensor:
    """The logits of the mean of the members' probabilities: [N, k, C] becomes float32 [N, C].

    One output: log(mean σ(s) / mean σ(−s)); C: log mean softmax(s). Taken in logarithms, so that
    probabilities that round to 0 or 1 keep their order.
    """
    logits = logits.float()
    if logits.shape[-1] == 1:
        return torch.logsumexp(logsigmoid(logits), 1) - torch.logsumexp(logsigmoid(-logits), 1)
    return torch.logsumexp(log_softmax(logits, dim=-1), 1) - math.log(logits.shape[1])

"""A batch of one-vs-rest ranking problems, and the part of Smooth-AP that every path shares."""

from typing import NamedTuple

import torch
from torch import Tensor


class Ranking(NamedTuple):
    """C problems over M ranked points each.

    ``scores`` [C, M], working precision; ``sides`` [C, 2, M], 1 where a point is positive
    (side 0) or negative (side 1), both 0 where it is excluded; ``chosen`` [C, M] bool, the
    positives; ``mass`` [C, M], the positives' weights, 0 elsewhere; ``total`` [C], their sum;
    ``valid`` [C] bool; ``tau`` a number or [C]; only the first ``live`` columns want a gradient.
    """

    scores: Tensor
    sides: Tensor
    chosen: Tensor
    mass: Tensor
    total: Tensor
    valid: Tensor
    tau: float | Tensor
    live: int

    def scaled(self, difference: Tensor, owner: Tensor) -> Tensor:
        """``difference`` [n, ...] / τ in place, row n belonging to class ``owner[n]``."""
        if not isinstance(self.tau, Tensor):
            return difference.mul_(1.0 / self.tau)
        return difference.div_(self.tau[owner].view(-1, *[1] * (difference.dim() - 1)))


def ranking(
    scores: Tensor,
    positives: Tensor,
    tau: float | Tensor,
    weights: Tensor | None,
    live: int,
    dtype: torch.dtype,
) -> Ranking:
    """Set the problems up from ``scores`` [C, M] and ``positives`` [C, M]; −inf excludes a point.

    A problem is valid if it has a positive, a negative, positive weight and a temperature > 0.
    """
    present = scores != -torch.inf
    chosen = positives & present
    sides = torch.stack((chosen, present ^ chosen), 1).to(dtype)
    counts = sides.sum(-1)
    mass, total = sides[:, 0], counts[:, 0]
    valid = counts.amin(-1) > 0
    if weights is not None:
        mass = torch.where(chosen, weights.to(dtype), 0.0)
        total = mass.sum(-1)
        valid &= total > 0
    if isinstance(tau, Tensor):
        tau = tau.to(dtype).expand(scores.shape[:1])
        valid &= tau > 0
    return Ranking(scores.to(dtype), sides, chosen, mass, total, valid, tau, live)


def precision_and_slopes(counts: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Each positive's part of AP, and how AP moves with its soft counts.

    ``counts`` [..., 2] = (B_i, N_i): soft rank among the positives (self included as 1) and soft
    number of negatives above; ``share`` [...] = w_i / Σ w. The part is w B/(B + N); its
    derivatives are w N/(B + N)² in B and −w B/(B + N)² in N. Returned as (part [...],
    (w B/A², w N/A²) [..., 2]). Writing A = B + N keeps N's own relative accuracy: no difference
    of nearly equal ranks is formed.
    """
    rank = counts.sum(-1)
    part = share * counts[..., 0] / rank
    return part, counts * (share / (rank * rank)).unsqueeze(-1)

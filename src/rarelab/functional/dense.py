"""Smooth-AP of one list over all (positive, point) pairs: the path for small pools.

Value and gradient come from one pass over blocks of positives, one block in memory at a time.
"""

from typing import Any

import torch
from torch import Tensor

from rarelab.functional.ranking import precision


def single(
    scores: Tensor,
    at: Tensor,
    tau: float | Tensor,
    weights: Tensor | None,
    live: int,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """AP and dAP/ds of one list, in the scores' precision; NaN and zeros if it cannot be ranked.

    ``scores`` [M]; ``at`` [P], the positives' columns; ``weights`` [M]. The gradient covers the
    first ``live`` columns.
    """
    if len(at) and bool(scores.amin() == -torch.inf):
        return _without_excluded(scores, at, tau, weights, live, chunk)
    if not 0 < len(at) < len(scores):
        return scores.new_tensor(torch.nan), scores.new_zeros(live)
    working = scores.to(precision(scores.device))
    share, valid = 1.0 / len(at), None
    if weights is not None:
        mass = weights[at].to(working)
        share, valid = mass / mass.sum(), mass.sum() > 0
    if isinstance(tau, Tensor):
        tau = tau.to(working).view(())
        valid = (tau > 0) if valid is None else valid & (tau > 0)
    average, gradient = value_and_gradient(working, at, share, tau, live, chunk)
    if valid is not None:
        average, gradient = average.where(valid, torch.nan), gradient.where(valid, 0.0)
    return average.to(scores), gradient.to(scores)


def _without_excluded(
    scores: Tensor, at: Tensor, tau: float | Tensor, weights: Tensor | None, live: int, *rest: Any
) -> tuple[Tensor, Tensor]:
    """``single`` over the points that are not at −inf."""
    kept = scores != -torch.inf
    at = (kept.cumsum(0) - 1)[at[kept[at]]]
    weights, own = None if weights is None else weights[kept], kept[:live]
    average, gradient = single(scores[kept], at, tau, weights, int(own.sum()), *rest)
    return average, scores.new_zeros(live).masked_scatter_(own, gradient)


def value_and_gradient(
    scores: Tensor,
    at: Tensor,
    share: float | Tensor,
    tau: float | Tensor,
    live: int,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """AP and dAP/ds [live] of one list, exact up to rounding.

    ``scores`` [M] in working precision (finite, or +inf at negatives), ``at`` [P] the positives'
    columns, ``share`` their weights divided by the sum of weights, ``tau`` a number or 0-d.
    About ``chunk`` pairs are in memory at a time.

    With A = B + N:  dAP = Σ_i share_i (N_i dB_i − B_i dN_i)/A_i², and every σ((s_j − s_i)/τ)
    in B_i or N_i moves j up by σ'/τ and i down by as much.
    """
    centre, inverse = scores.index_select(0, at), 1.0 / tau
    precisions, gain = torch.empty_like(centre), torch.zeros_like(centre)
    gradient = torch.zeros_like(scores)
    rows = max(1, chunk // len(scores))
    for start in range(0, len(at), rows):
        block = slice(start, start + rows)
        step = (scores - centre[block, None]).mul_(inverse).sigmoid_()
        rank = step.sum(1).add_(0.5)  # a point's tie with itself adds 0.5 where 1 is needed
        among = step.index_select(1, at).sum(1).add_(0.5)
        torch.div(among, rank, out=precisions[block])
        if not live:
            continue
        bump = step.addcmul_(step, step, value=-1)  # σ' = σ − σ²
        inner = bump.index_select(1, at)
        scale = (share[block] if isinstance(share, Tensor) else share) * inverse / (rank * rank)
        up, down = (rank - among).mul_(scale), among.mul_(scale)  # share N/A²τ, share B/A²τ
        gradient[:live].addmv_(bump[:, :live].T, down, alpha=-1)
        gain.addmv_(inner.T, up)
        moved = inner.sum(1)
        gain[block] += (bump.sum(1) - moved).mul_(down) - up.mul_(moved)
    gradient[at] = gain
    return (precisions * share).sum(), gradient[:live]

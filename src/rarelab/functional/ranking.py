"""Smooth-AP of a batch of lists, in terms of six soft sums.

Implementations of ``Sums`` decide how a sum Σ_j mass_j k((s_j − s_i)/τ) is computed: on a grid
(:mod:`rarelab.functional.grid`) or over the pairs within reach (:mod:`rarelab.functional.window`).
A point is identified by its position in the flattened [C, M] scores.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Sources(Protocol):
    """Points with q masses each, ready to be summed at other points of the same list."""

    def steps(self, at: Tensor) -> Tensor:
        """Σ_j mass_j σ((s_j − s_i)/τ) for the points i in ``at`` [k]: [q, k]."""
        ...

    def bumps(self, at: Tensor) -> Tensor:
        """Σ_j mass_j σ'((s_j − s_i)/τ), likewise."""
        ...


class Sums(Protocol):
    """Scores and temperatures of C lists of M points."""

    def everyone(self) -> Sources:
        """All points except the excluded ones, each with mass 1 (q = 1)."""
        ...

    def sources(self, point: Tensor, mass: Tensor) -> Sources:
        """The points ``point`` [k], with ``mass`` [q, k]."""
        ...


class Lists(NamedTuple):
    """C lists of M points.

    ``scores`` [C, M], finite; ``present`` [C, M] bool, the points not excluded, None if no
    point is; ``chosen`` [C, M] bool, the positives, and ``at`` [P], their positions; ``share`` [P],
    w_i / Σ w within the list, and ``tau`` [C], > 0, in working precision; ``low`` and ``high`` [C],
    the range of the scores; ``valid`` [C] bool: there is something to rank; ``sane`` [C] bool: no
    score was NaN or +inf.
    """

    scores: Tensor
    present: Tensor | None
    chosen: Tensor
    at: Tensor
    share: Tensor
    tau: Tensor
    low: Tensor
    high: Tensor
    valid: Tensor
    sane: Tensor

    def owner(self, point: Tensor) -> Tensor:
        """The list that each of ``point`` belongs to."""
        return point // self.scores.shape[1]


def precision(device: torch.device) -> torch.dtype:
    """The dtype ranks are counted in: float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def lists(
    scores: Tensor,
    positives: Tensor,
    tau: Tensor,
    weights: Tensor | None,
    at: Tensor | None = None,
) -> Lists:
    """Set up lists from ``scores`` and ``positives`` [C, M] and ``tau`` [C]; −inf excludes a point.
    ``at`` [P] may hold the positions of the positives.

    A list is valid if it has a positive, a negative, positive weight and a temperature > 0.
    """
    working = precision(scores.device)
    lowest, highest = scores.amin(-1), scores.amax(-1)  # faster than aminmax
    sane = highest < torch.inf  # false for NaN too
    present, chosen, count = None, positives, scores.shape[1]
    if not bool(((lowest > -torch.inf) & sane).all()):
        present = scores != -torch.inf
        chosen, count = chosen & present, present.sum(-1)
        scores = torch.where(present & sane[:, None], scores, 0.0)
        lowest, highest = scores.amin(-1), scores.amax(-1)
    if at is None or present is not None:
        at = chosen.flatten().nonzero().squeeze(1)
    owner = at // scores.shape[1]
    mass = scores.new_ones(len(at), dtype=working)
    if weights is not None:
        mass = weights.flatten()[at].to(working)
    total = mass.new_zeros(len(scores)).index_add_(0, owner, mass)
    valid = (total > 0) & (owner.bincount(minlength=len(scores)) < count) & (tau > 0)
    share = torch.where(valid[owner], mass / total[owner], 0.0)
    tau = torch.where(tau > 0, tau, 1.0).to(working)
    return Lists(scores, present, chosen, at, share, tau, lowest, highest, valid, sane)


def value_and_gradient(lists: Lists, sums: Sums, live: int) -> tuple[Tensor, Tensor]:
    """AP [C] and dAP/ds [C, live] of the first ``live`` columns.

    With A = B + N:  dAP = Σ_i share_i (N_i dB_i − B_i dN_i)/A_i², and every σ((s_j − s_i)/τ)
    in B_i or N_i moves j up by σ'/τ and i down by as much.
    """
    at, count = lists.at, len(lists.scores)
    everyone, positives = sums.everyone(), sums.sources(at, torch.ones_like(lists.share)[None])
    (rank,), (among,) = everyone.steps(at), positives.steps(at)
    rank, among = rank + 0.5, among + 0.5  # a tie with itself adds 0.5 where 1 is needed
    average = rank.new_zeros(count).index_add_(0, lists.owner(at), lists.share * among / rank)
    average = torch.where(lists.valid & lists.sane, average, torch.nan)
    if not live:
        return average, average.new_zeros(count, 0)

    scale = lists.share / (lists.tau[lists.owner(at)] * rank * rank)
    slopes = torch.stack((scale * (rank - among), scale * among))
    points = lists.scores.shape[1]
    first = torch.arange(0, count * points, points, device=at.device)
    places = first[:, None] + torch.arange(live, device=at.device)
    raised, lowered = sums.sources(at, slopes).bumps(places.flatten())
    own = lists.chosen[:, :live].flatten().nonzero().squeeze(1)
    mine = (at % points < live).nonzero().squeeze(1)
    (up, down), (near,), (moved,) = (
        slopes[:, mine],
        everyone.bumps(at[mine]),
        positives.bumps(at[mine]),
    )
    raised[own] += down * (near - moved) - up * moved
    raised, lowered = raised.view(places.shape), lowered.view(places.shape)
    gradient = torch.where(lists.chosen[:, :live], raised, -lowered)
    if lists.present is not None:
        gradient.masked_fill_(~lists.present[:, :live], 0.0)
    gradient.masked_fill_(~lists.sane[:, None], torch.nan)
    return average, gradient.masked_fill_(~lists.valid[:, None], 0.0)

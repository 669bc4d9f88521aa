"""Smooth-AP of lists with far more points than their range has temperatures: a training table.

The method of :mod:`rarelab.functional.grid`, with every grid spacing cut into ``PARTS`` cells. Of
the points in a cell only their mass and its first two moments about the cell's middle are kept, and
a sum is read off as its Taylor polynomial of second order about that middle. A point so takes three
numbers to spread and three to read, where a stencil takes eight of each and their weights. A point
is at most τ/128 from the middle, which leaves an error below 1e-7 per pair.

Points are taken ``BLOCK`` at a time: a block stays in cache and is too short for torch to share out
among threads, so the bits do not depend on their number, and no thread waits for another.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from rarelab.functional.grid import LAGRANGE, PER_TAU, POINTS, fast_length, kernels
from rarelab.functional.ranking import Lists

PARTS = 16  # cells in a grid spacing
ORDERS = 3  # numbers in a cell: the mass and its moments, or a polynomial's coefficients
BLOCK = 1 << 14
LONG = 1 << 16  # points from which on this pays


def suit(lists: Lists, live: int) -> bool:
    """Whether this is the cheapest way, for lists whose first ``live`` columns get a gradient.

    Behind a queue few columns do, and reading costs the grid little.
    """
    points = lists.scores.shape[1]
    if points < LONG or 0 < live < points or lists.present is not None:
        return False
    if lists.scores.device.type != "cpu" or not bool((lists.valid & lists.sane).all()):
        return False
    return bool(((lists.high - lists.low) * (PER_TAU * PARTS) <= points * lists.tau).all())


def value_and_gradient(lists: Lists, live: int) -> tuple[Tensor, Tensor]:
    """AP [C] and dAP/ds [C, live], float64, of valid lists, with ``live`` 0 or all columns.

    The derivative is that of :func:`rarelab.functional.ranking.value_and_gradient`.
    """
    average = lists.tau.new_empty(len(lists.scores))
    gradient = lists.tau.new_empty(len(lists.scores), live)
    counts = lists.owner(lists.at).bincount(minlength=len(lists.scores)).tolist()
    ats, shares = lists.at.split(counts), lists.share.split(counts)
    for row, (scores, at, share) in enumerate(zip(lists.scores, ats, shares, strict=True)):
        low, high, tau = (float(each[row]) for each in (lists.low, lists.high, lists.tau))
        one = _List(scores, at - row * scores.numel(), share, _Axis(low, high, tau))
        average[row] = one.value_and_gradient(gradient[row] if live else None)
    return average, gradient


class _List(NamedTuple):
    """A list [M], its positives' columns ``at`` [P] and their ``share`` of the weight."""

    scores: Tensor
    at: Tensor
    share: Tensor
    axis: "_Axis"

    def value_and_gradient(self, gradient: Tensor | None) -> float:
        """AP; its derivative is written to ``gradient`` [M]."""
        axis, tau = self.axis, self.axis.tau
        mine = [axis.place(part) for part in self.scores.index_select(0, self.at).split(BLOCK)]
        everyone = axis.spread((*axis.place(part), None) for part in self.scores.split(BLOCK))
        positives = axis.spread((*place, None) for place in mine)
        rank = axis.steps(everyone).read(mine) + 0.5  # a tie with itself adds 0.5, not 1
        among = axis.steps(positives).read(mine) + 0.5
        average = _total(self.share * among / rank)
        if gradient is None:
            return average
        scale = self.share / (rank * rank).mul_(tau)
        up, down = scale * (rank - among), scale * among
        fall = axis.bumps(axis.spread(_with(mine, -down)))
        for part, slope in zip(self.scores.split(BLOCK), gradient.split(BLOCK), strict=True):
            fall.at(*axis.place(part), out=slope)
        raised = axis.bumps(axis.spread(_with(mine, up))).read(mine)
        near, moved = axis.bumps(everyone).read(mine), axis.bumps(positives).read(mine)
        gradient[self.at] = raised + down * (near - moved) - up * moved
        return average


Place = tuple[Tensor, Tensor]  # cell and offset from its lower end, in cells, [k]


class _Axis:
    """The range of a list's scores, cut into cells."""

    def __init__(self, low: float, high: float, tau: float) -> None:
        self.tau, self.scale = tau, PER_TAU * PARTS / tau
        self.origin = torch.tensor(-low * self.scale, dtype=torch.float64)
        self.spacings = int((high - low) * self.scale) // PARTS + 2  # one for rounding
        self.length = fast_length(2 * (self.spacings + POINTS))
        self.kernels = kernels(self.length, torch.device("cpu"))

    def place(self, scores: Tensor) -> Place:
        position = torch.add(self.origin, scores.double(), alpha=self.scale)
        return position.long(), position.frac_()

    def spread(self, blocks: Iterable[tuple[Tensor, Tensor, Tensor | None]]) -> Tensor:
        """The transform of the masses (None: 1 each) of blocks of points, on the grid."""
        moments = torch.zeros(ORDERS, self.spacings * PARTS, dtype=torch.float64)
        for cell, offset, mass in blocks:
            moments[0].scatter_add_(0, cell, ONES[: len(cell)] if mass is None else mass)
            power = offset if mass is None else mass * offset
            moments[1].scatter_add_(0, cell, power)
            moments[2].scatter_add_(0, cell, power * offset)
        weights = (moments.view(ORDERS, self.spacings, PARTS) @ TAYLOR).sum(0)
        grid = weights.new_zeros(self.length)
        for node in range(POINTS):
            grid[node : node + self.spacings] += weights[:, node]
        return torch.fft.rfft(grid)

    def steps(self, masses: Tensor) -> "_Table":
        """Σ_j mass_j σ((s_j − s)/τ) as a function of s."""
        return self._table(masses * self.kernels[0])

    def bumps(self, masses: Tensor) -> "_Table":
        """Σ_j mass_j σ'((s_j − s)/τ)."""
        return self._table(masses * self.kernels[1])

    def _table(self, transform: Tensor) -> "_Table":
        field = torch.fft.irfft(transform, self.length)
        stencils = field.unfold(0, POINTS, 1)[: self.spacings]
        return _Table((stencils @ TAYLOR.mT).view(ORDERS, -1))


class _Table:
    """A function of the score, as polynomials [ORDERS, cells] from the cells' lower ends."""

    def __init__(self, coefficients: Tensor) -> None:
        self.value, self.slope, self.bend = coefficients

    def at(self, cell: Tensor, offset: Tensor, out: Tensor | None = None) -> Tensor:
        """The function [k] at these places."""
        slope = self.slope.index_select(0, cell)
        slope.addcmul_(self.bend.index_select(0, cell), offset)
        return torch.addcmul(self.value.index_select(0, cell), slope, offset, out=out)

    def read(self, places: list[Place]) -> Tensor:
        return torch.cat([self.at(*place) for place in places])


def _with(places: list[Place], mass: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    return ((*place, part) for place, part in zip(places, mass.split(BLOCK), strict=True))


def _total(values: Tensor) -> float:
    """The sum, in an order that does not depend on the number of threads."""
    return float(torch.stack([part.sum() for part in values.split(BLOCK)]).sum())


def _taylor() -> Tensor:
    """Taylor polynomials of the stencil's weights about the middles of a spacing's cells, by powers
    of the offset from their lower ends, in cells: [order, cell, node]."""
    middle = (torch.arange(PARTS, dtype=torch.float64) + 0.5) / PARTS - 0.5
    power = torch.arange(POINTS, dtype=torch.float64)
    derivative, found = LAGRANGE, []
    for order in range(ORDERS):
        found.append((derivative @ middle.pow(power[: POINTS - order, None])).T)
        derivative = derivative[:, 1:] * power[1 : POINTS - order] / ((order + 1) * PARTS)
    value, slope, bend = found
    return torch.stack((value - slope / 2 + bend / 4, slope - bend, bend))


TAYLOR, ONES = _taylor(), torch.ones(BLOCK, dtype=torch.float64)

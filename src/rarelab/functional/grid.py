"""Soft sums in near-linear time: spread on a uniform grid, convolve by FFT, interpolate back.

σ and σ' are analytic in a strip of half-width π τ, so Lagrange interpolation on 8 points spaced
τ/4 errs by about 1e-7 of a pair, decaying as the pair does. The work is O(M + G log G) for a range
of G spacings; positions need float64. The scheme is that of the non-uniform FFT (Dutt & Rokhlin,
1993) with local polynomials, which need no deconvolution.
"""

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from rarelab.functional.ranking import Lists

PER_TAU = 4  # grid points to a temperature
POINTS = 8  # grid points to a score, its stencil
BIN = 48  # temperatures to a bin; two scores with an empty bin between them have σ = 0 or 1
LONGEST = 1 << 26  # grid points of all lists together


def _lagrange() -> Tensor:
    """Coefficients [node, power] of the stencil's Lagrange polynomials about its middle."""
    nodes = np.arange(POINTS) - (POINTS - 1) / 2
    others = [np.delete(nodes, k) for k in range(POINTS)]
    rows = [np.poly(o)[::-1] / np.prod(x - o) for x, o in zip(nodes, others, strict=True)]
    return torch.from_numpy(np.stack(rows))


LAGRANGE = _lagrange()


class Grid:
    """The sums of ``lists``, each on a grid of ``length`` points (of which half stay empty)."""

    def __init__(self, lists: Lists) -> None:
        self.count, self.points = lists.scores.shape
        self.present = lists.present
        position = positions(lists)
        first = position.floor()
        self.cell = first.long().flatten()
        self.middle = (position - first).flatten() - 0.5
        self.cells = int(position.max()) + 1
        self.length = _fast_length(2 * (self.cells + POINTS))

    def everyone(self) -> "_Sources":
        row = torch.arange(self.count, device=self.cell.device).repeat_interleave(self.points)
        mass = torch.ones_like(self.middle)
        if self.present is not None:
            mass = self.present.flatten().to(mass)
        return _Sources(self, self._spread(row, self.cell, self.middle, mass, 1))

    def sources(self, point: Tensor, mass: Tensor) -> "_Sources":
        sides = len(mass)
        row = torch.arange(sides, device=point.device)[:, None] + sides * (point // self.points)
        cell, middle = self.cell[point].repeat(sides), self.middle[point].repeat(sides)
        return _Sources(self, self._spread(row.flatten(), cell, middle, mass.flatten(), sides))

    def weights(self, middle: Tensor) -> Tensor:
        """Lagrange weights [POINTS, k] of points ``middle`` [k] off their stencils' middles."""
        powers = torch.stack([torch.ones_like(middle), *[middle] * (POINTS - 1)]).cumprod(0)
        return LAGRANGE.to(middle.device) @ powers

    def _spread(
        self, row: Tensor, cell: Tensor, middle: Tensor, mass: Tensor, sides: int
    ) -> Tensor:
        """``mass`` [k] in ``cell`` of ``row``, spread over its stencil: [C, sides, length]."""
        rows = self.count * sides
        if self.count * self.length > LONGEST:
            raise ValueError(
                f"smooth_ap: path='grid' would need {self.count * self.length} grid points: the "
                "scores are too far apart in units of tau; use path='window'"
            )
        grid = middle.new_zeros(rows, self.length)
        if len(cell) < rows * self.cells:
            place, weights = row * self.length + cell, self.weights(middle) * mass
            for offset in range(POINTS):
                grid.view(-1).scatter_add_(0, place + offset, weights[offset])
        else:  # many points to a cell: sum their powers first, weigh once for the cell
            moments, place = middle.new_zeros(POINTS, rows * self.cells), row * self.cells + cell
            for moment in moments:
                moment.scatter_add_(0, place, mass)
                mass = mass * middle
            weights = (LAGRANGE.to(cell.device) @ moments).view(POINTS, rows, self.cells)
            for offset in range(POINTS):
                grid[:, offset : offset + self.cells] += weights[offset]
        return grid.view(self.count, sides, self.length)

    @cached_property
    def kernels(self) -> Tensor:
        """Transforms of σ and σ', sampled at every distance on the grid."""
        index = torch.arange(self.length, device=self.middle.device)
        distance = torch.where(2 * index > self.length, index - self.length, index) / PER_TAU
        step = torch.sigmoid(-distance.double())
        return torch.fft.rfft(torch.stack((step, step * torch.sigmoid(distance.double()))))


class _Sources:
    """Masses on the grid [C, q, length], transformed."""

    def __init__(self, grid: Grid, masses: Tensor) -> None:
        self.grid, self.transform = grid, torch.fft.rfft(masses)

    def steps(self, at: Tensor) -> Tensor:
        return self._sum(at, self.grid.kernels[0])

    def bumps(self, at: Tensor) -> Tensor:
        return self._sum(at, self.grid.kernels[1])

    def _sum(self, at: Tensor, kernel: Tensor) -> Tensor:
        grid, sides = self.grid, self.transform.shape[1]
        field = torch.fft.irfft(self.transform * kernel, grid.length).flatten()
        cell = grid.cell[at] + (at // grid.points) * (sides * grid.length)
        weights = grid.weights(grid.middle[at])
        rows = torch.arange(sides, device=at.device)[:, None] * grid.length
        result = field.new_zeros(sides, len(at))
        for offset in range(POINTS):
            result.addcmul_(field[cell + rows + offset], weights[offset])
        return result


def positions(lists: Lists) -> Tensor:
    """Where the scores lie [C, M], in grid spacings from the start of their list's grid.

    Bins are taken about 0, not about the lowest score, so that an outlier costs the others no
    digits; runs of empty bins shrink to one where the grid would otherwise be mostly empty.
    """
    width = BIN * lists.tau
    ratio = lists.scores / width[:, None]
    bins = ratio.floor()
    inside = ratio - bins
    lowest, highest = bins.aminmax(dim=-1, keepdim=True)
    if float((highest - lowest).max()) * BIN * PER_TAU > 4 * lists.scores.shape[1]:
        ordered, order = bins.sort(-1)
        gaps = ordered.diff(dim=-1, prepend=ordered[:, :1]).clamp_(max=2.0)
        bins.scatter_(-1, order, gaps.cumsum(-1))
    else:
        bins -= lowest
    return (bins + inside) * (BIN * PER_TAU)


def _fast_length(least: int) -> int:
    """An even length ≥ ``least`` that the FFT likes: 2^k times 1, 3, 5, 9 or 15."""
    return min(m << max(1, -(-least // m) - 1).bit_length() for m in (1, 3, 5, 9, 15))

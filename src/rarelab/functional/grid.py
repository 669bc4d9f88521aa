"""Soft sums in near-linear time: spread on a uniform grid, convolve by FFT, interpolate back.

σ and σ' are analytic in a strip of half-width π τ, so Lagrange interpolation on 8 points spaced
τ/4 has an error of about 1e-7 per pair, decaying with distance as the pair does. The cost is
O(M + G log G) for a range of G spacings; positions need float64. The scheme is the non-uniform FFT
(Dutt & Rokhlin, 1993) with local polynomials, which need no deconvolution.
"""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from rarelab.functional.ranking import Lists

PER_TAU = 4  # grid points per temperature
POINTS = 8  # grid points in a score's stencil
BIN = 48  # temperatures per bin; scores with an empty bin between them have σ = 0 or 1
LONGEST = 1 << 26  # grid points at most, all lists together
SHORT, KEPT = 1 << 17, 8  # longest grid whose kernels are cached, and how many are
BLOCK = 1 << 16  # points spread at a time, to stay in cache

Block = tuple[Tensor, Tensor, Tensor, Tensor]  # row, cell, offset from its middle and mass [k]


def _lagrange() -> Tensor:
    """Coefficients [node, power] of the stencil's Lagrange polynomials about its middle."""
    nodes = np.arange(POINTS) - (POINTS - 1) / 2
    others = [np.delete(nodes, k) for k in range(POINTS)]
    rows = [np.poly(o)[::-1] / np.prod(x - o) for x, o in zip(nodes, others, strict=True)]
    return torch.from_numpy(np.stack(rows))


LAGRANGE = _lagrange()


class Grid:
    """The sums of ``lists``, each on a grid of ``length`` points (of which half stay empty).

    Bins are aligned with 0, not with the lowest score, so an outlier costs the others no
    precision; runs of empty bins shrink to one where the grid would otherwise be mostly empty.
    """

    def __init__(self, lists: Lists) -> None:
        self.count, self.points = lists.scores.shape
        self.score, self.present = lists.scores.flatten(), lists.present
        self.width = BIN * lists.tau
        low, high = (lists.low / self.width).floor(), (lists.high / self.width).floor()
        self.low, self.bins, count = low, None, float((high - low).max()) + 1
        if count * BIN * PER_TAU > 4 * self.points:
            self.bins = _close_gaps((lists.scores / self.width[:, None]).floor()).flatten()
            count = float(self.bins.max()) + 1
        self.cells = int(count) * BIN * PER_TAU
        self.length = fast_length(2 * (self.cells + POINTS))

    def place(self, point: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of each of ``point`` [k]: its list, grid cell, and offset from the cell's middle."""
        owner = point // self.points
        ratio = self.score.index_select(0, point) / self.width.index_select(0, owner)
        bins = ratio.floor()
        ratio -= bins
        if self.bins is None:
            ratio += bins - self.low.index_select(0, owner)
        else:
            ratio += self.bins.index_select(0, point)
        position = ratio.mul_(BIN * PER_TAU)
        cell = position.floor()
        return owner, cell.long(), position.sub_(cell).sub_(0.5)

    def everyone(self) -> "_Sources":
        def blocks() -> Iterator[Block]:
            for start in range(0, len(self.score), BLOCK):
                point = torch.arange(start, min(start + BLOCK, len(self.score))).to(
                    self.score.device
                )
                owner, cell, middle = self.place(point)
                mass = torch.ones_like(middle)
                if self.present is not None:
                    mass = self.present.flatten()[point].to(mass)
                yield owner, cell, middle, mass

        return _Sources(self, self._spread(blocks(), len(self.score), 1))

    def sources(self, point: Tensor, mass: Tensor) -> "_Sources":
        sides = len(mass)
        side = torch.arange(sides, device=point.device)[:, None]

        def blocks() -> Iterator[Block]:
            for points, masses in zip(point.split(BLOCK), mass.split(BLOCK, 1), strict=True):
                owner, cell, middle = self.place(points)
                row = (sides * owner + side).flatten()
                yield row, cell.repeat(sides), middle.repeat(sides), masses.flatten()

        return _Sources(self, self._spread(blocks(), len(point), sides))

    def weights(self, middle: Tensor) -> Tensor:
        """Lagrange weights [POINTS, k] at offsets ``middle`` [k] from the stencil's middle."""
        powers = torch.stack([torch.ones_like(middle), *[middle] * (POINTS - 1)]).cumprod(0)
        return LAGRANGE.to(middle.device) @ powers

    def _spread(self, blocks: Iterator[Block], points: int, sides: int) -> Tensor:
        """Masses of ``points`` points, spread over their stencils: [C, sides, length]."""
        rows = self.count * sides
        if self.count * self.length > LONGEST:
            raise ValueError(
                f"smooth_ap: path='grid' would need {self.count * self.length} grid points: the "
                "scores are too far apart in units of tau; use path='window'"
            )
        grid = self.width.new_zeros(rows, self.length)
        if points < self.count * self.cells:
            for row, cell, middle, mass in blocks:
                node, weights = row * self.length + cell, self.weights(middle) * mass
                for offset in range(POINTS):
                    grid.view(-1).scatter_add_(0, node + offset, weights[offset])
        else:  # many points per cell: sum their powers first, then weight once per cell
            moments = self.width.new_zeros(POINTS, rows * self.cells)
            for row, cell, middle, mass in blocks:
                cell += row * self.cells
                for moment in moments:
                    moment.scatter_add_(0, cell, mass)
                    mass = mass * middle
            weights = (LAGRANGE.to(grid.device) @ moments).view(POINTS, rows, self.cells)
            for offset in range(POINTS):
                grid[:, offset : offset + self.cells] += weights[offset]
        return grid.view(self.count, sides, self.length)

    @cached_property
    def kernels(self) -> Tensor:
        return kernels(self.length, self.width.device)


def kernels(length: int, device: torch.device) -> Tensor:
    """Transforms of σ and σ', sampled at every distance on a grid of ``length`` points."""
    key, kept = (length, device), _KERNELS
    if key in kept:
        return kept[key]
    made = _kernels(*key)
    # Tensors made while tracing hold no values and have a class of their own.
    if length <= SHORT and type(made) is Tensor:
        if len(kept) >= KEPT:
            kept.pop(next(iter(kept)))
        kept[key] = made
    return made


_KERNELS: dict[tuple[int, torch.device], Tensor] = {}


def _kernels(length: int, device: torch.device) -> Tensor:
    index = torch.arange(length, device=device)
    distance = torch.where(2 * index > length, index - length, index) / PER_TAU
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
        side, result = (
            torch.arange(sides, device=at.device)[:, None],
            field.new_zeros(sides, len(at)),
        )
        for points, sums in zip(at.split(BLOCK), result.split(BLOCK, 1), strict=True):
            owner, cell, middle = grid.place(points)
            weights, node = grid.weights(middle), (owner * sides + side) * grid.length + cell
            for offset in range(POINTS):
                sums.addcmul_(field[node + offset], weights[offset])
        return result


def _close_gaps(bins: Tensor) -> Tensor:
    """``bins`` [C, M] renumbered from 0, in order, with at most one empty bin in a row."""
    ordered, order = bins.sort(-1)
    gaps = ordered.diff(dim=-1, prepend=ordered[:, :1]).clamp_(max=2.0)
    return torch.zeros_like(bins).scatter_(-1, order, gaps.cumsum(-1))


def fast_length(least: int) -> int:
    """An even length ≥ ``least`` that is fast to transform: 2^k times 1, 3, 5, 9 or 15."""
    return min(m << max(1, -(-least // m) - 1).bit_length() for m in (1, 3, 5, 9, 15))

"""Choose the cheapest way to compute the soft sums of a batch of lists."""

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from rarelab.functional.direct import Direct
from rarelab.functional.grid import BIN, PER_TAU, Grid
from rarelab.functional.ranking import Lists, Sources, Sums
from rarelab.functional.window import Window, reach

# Rough nanoseconds on one core: to evaluate a pair, to sort and tile a point, to spread a point and
# read it back, to transform a grid point; and the fixed costs.
PAIR, ORDERED, SPREAD, GRID_POINT = 2.5, 30.0, 25.0, 60.0
WINDOW_START, GRID_START = 1e6, 1e6
FEW = 1 << 18  # up to this many pairs are summed directly, whatever happens to the rest
SAMPLE = 128  # positives and points sampled to estimate how many pairs are within reach


def sums(lists: Lists, path: str, chunk: int, sources: int | None = None) -> Sums:
    """The soft sums by ``path``; "auto" takes the cheapest.

    ``sources``: the number of points summed over, across all lists; None = all.
    """
    grids = lists.tau.dtype == torch.float64
    if path == "auto":
        sources = lists.scores.numel() if sources is None else sources
        if len(lists.scores) > 1:
            return _cheapest(lists, chunk, grids, sources // len(lists.scores))
        if len(lists.at) * sources <= chunk:
            return Direct(lists)
        return _Either(lists, _cheapest(lists, chunk, grids, sources))
    if path == "grid" and grids:
        return Grid(lists)
    return Window(lists, chunk, all_pairs=path == "dense")


class _Either:
    """The sums of one list: directly where there are few pairs, otherwise by ``many``.

    Few means no slower than one more set of sources or targets in ``many``.
    """

    def __init__(self, lists: Lists, many: Sums) -> None:
        self.direct, self.many, self.points = Direct(lists), many, lists.scores.shape[1]

    def everyone(self) -> "_EitherSources":
        return _EitherSources(self.points, self.direct.everyone, self.many.everyone)

    def sources(self, point: Tensor, mass: Tensor) -> "_EitherSources":
        return _EitherSources(
            len(point),
            lambda: self.direct.sources(point, mass),
            lambda: self.many.sources(point, mass),
        )


class _EitherSources:
    """``count`` points, prepared when the first sum of either kind needs them."""

    def __init__(self, count: int, few: Callable[[], Sources], many: Callable[[], Sources]) -> None:
        self._count, self._few, self._many = count, few, many

    @cached_property
    def _direct(self) -> Sources:
        return self._few()

    @cached_property
    def _clever(self) -> Sources:
        return self._many()

    def _for(self, at: Tensor) -> Sources:
        return self._direct if self._count * len(at) <= FEW else self._clever

    def steps(self, at: Tensor) -> Tensor:
        return self._for(at).steps(at)

    def bumps(self, at: Tensor) -> Tensor:
        return self._for(at).bumps(at)


def _cheapest(lists: Lists, chunk: int, grids: bool, sources: int) -> Sums:
    pairs, points = PAIR * len(lists.at) * sources, lists.scores.numel()
    near, span = _near_and_span(lists)
    window = WINDOW_START + ORDERED * points + near * pairs
    spread = GRID_START + SPREAD * points
    if grids and spread + GRID_POINT * span * PER_TAU * len(lists.scores) < min(window, pairs):
        return Grid(lists)
    # A long grid may be mostly empty. Closing its gaps costs as much as sorting.
    if grids and span > BIN and spread + 2 * ORDERED * points < min(window, pairs):
        grid = Grid(lists)
        if spread + GRID_POINT * grid.cells * len(lists.scores) < min(window, pairs):
            return grid
    return Window(lists, chunk, all_pairs=pairs < window)


def _near_and_span(lists: Lists) -> tuple[float, float]:
    """Share of pairs within reach (sampled), and the range of the widest list, in τ."""
    points = lists.scores.shape[1]
    span = ((lists.high - lists.low) / lists.tau).max()
    at = lists.at[:: max(1, len(lists.at) // SAMPLE)]
    owner = lists.owner(at)
    columns = torch.arange(0, points, max(1, points // SAMPLE), device=at.device)
    others = lists.scores[:, columns][owner]
    distance = (others - lists.scores.view(-1)[at][:, None]).abs_()
    near = (distance < reach(points) * lists.tau[owner, None]).double().mean()
    near, span = torch.stack((near, span.double())).tolist()
    return near, span

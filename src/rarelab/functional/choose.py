"""Which way of computing the soft sums of a batch of lists costs least."""

import torch

from rarelab.functional.direct import Direct
from rarelab.functional.grid import BIN, PER_TAU, Grid
from rarelab.functional.ranking import Lists, Sums
from rarelab.functional.window import Window, reach

# Nanoseconds on one core, roughly: a pair evaluated, a point put in order and in tiles, a point
# spread and read back, a grid point transformed; and what it takes to start.
PAIR, ORDERED, SPREAD, GRID_POINT = 2.5, 30.0, 25.0, 60.0
WINDOW_START, GRID_START = 1e6, 1e6
SAMPLE = 256  # positives and points looked at to tell how many pairs are within reach


def sums(lists: Lists, path: str, chunk: int, sources: int | None = None) -> Sums:
    """The soft sums by ``path``, or by the cheapest one for "auto".

    ``sources``: how many points all lists together are summed over; None = all.
    """
    grids = lists.tau.dtype == torch.float64
    if path == "auto":
        sources = lists.scores.numel() if sources is None else sources
        if len(lists.scores) == 1 and len(lists.at) * sources <= chunk:
            return Direct(lists)
        return _cheapest(lists, chunk, grids, sources // len(lists.scores))
    if path == "grid" and grids:
        return Grid(lists)
    return Window(lists, chunk, all_pairs=path == "dense")


def _cheapest(lists: Lists, chunk: int, grids: bool, sources: int) -> Sums:
    pairs, points = PAIR * len(lists.at) * sources, lists.scores.numel()
    near, span = _near_and_span(lists)
    window = WINDOW_START + ORDERED * points + near * pairs
    spread = GRID_START + SPREAD * points
    if grids and spread + GRID_POINT * span * PER_TAU * len(lists.scores) < min(window, pairs):
        return Grid(lists)
    # A long grid may be mostly empty. To close the gaps costs as much as to put in order.
    if grids and span > BIN and spread + 2 * ORDERED * points < min(window, pairs):
        grid = Grid(lists)
        if spread + GRID_POINT * grid.cells * len(lists.scores) < min(window, pairs):
            return grid
    return Window(lists, chunk, all_pairs=pairs < window)


def _near_and_span(lists: Lists) -> tuple[float, float]:
    """Share of the pairs within reach, from a sample, and the widest list's range, in τ."""
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

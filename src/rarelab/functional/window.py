"""Soft sums over the pairs within reach of each other; farther pairs are counted, not evaluated.

The points are sorted into bins once and cut into tiles. A tile of targets is paired with the tiles
of sources whose scores are within reach of its own: σ is 0 below them, and 1 above.
"""

import math

import numpy as np
import torch
from torch import Tensor

from rarelab.functional.ranking import Lists
from rarelab.functional.tiles import Tiles, even_tiles, tiles

BINS_PER_REACH = 8
TARGETS, SOURCES = 16, 64  # points per tile, at most
WORTH_PACKING = 1 << 15  # points


class Window:
    """The sums of ``lists``, about ``chunk`` pairs at a time.

    With ``all_pairs`` the reach is unlimited and nothing is sorted: dense sums of a batch.
    """

    def __init__(self, lists: Lists, chunk: int, all_pairs: bool = False) -> None:
        self.count, self.points = lists.scores.shape
        self.score, self.tau, self.chunk = lists.scores.flatten(), lists.tau, chunk
        self.present = lists.present
        endless = torch.finfo(self.score.dtype).max / 4
        self.reach = (
            torch.full_like(self.tau, endless) if all_pairs else reach(self.points) * self.tau
        )
        self.bins = None if all_pairs else binned(lists.scores, self.reach / BINS_PER_REACH)
        self.key = None if self.bins is None else order_key(self.bins)

    def everyone(self) -> "_Sources":
        if self.present is not None:
            point = self.present.flatten().nonzero().squeeze(1)
            return _Sources(
                self, self.score.index_select(0, point), None, self.tiles(point, SOURCES)
            )
        if self.bins is None:
            order = torch.arange(len(self.score), device=self.score.device)
        else:
            order = in_order(self.bins)
        return _Sources(self, self.score, None, even_tiles(order, self.count, SOURCES))

    def sources(self, point: Tensor, mass: Tensor) -> "_Sources":
        # As with targets: a few lie far apart, and smaller tiles are within reach of fewer.
        size = min(SOURCES, max(SOURCES // 4, len(point) // (8 * self.count)))
        return _Sources(self, self.score.index_select(0, point), mass, self.tiles(point, size))

    def tiles(self, point: Tensor, size: int) -> Tiles:
        """``point`` [k] list by list, each in ascending order of score up to the bin width."""
        owner = point // self.points
        if self.key is None:
            return tiles(torch.arange(len(point), device=point.device), owner, self.count, size)
        order = self.key.index_select(0, point).sort().indices
        return tiles(order, owner.index_select(0, order), self.count, size)


def reach(points: int) -> float:
    """Distance in τ beyond which ``points`` steps σ or slopes σ' sum to at most e^−28 = 7e-13."""
    return 28.0 + math.log(points)


def binned(scores: Tensor, width: Tensor) -> Tensor:
    """The bin of ``width`` [C] of each of ``scores`` [C, M]: whole numbers from 0 in every list."""
    bins = (scores / width.to(scores.dtype)[:, None]).floor_()
    return bins.sub_(bins.amin(-1, keepdim=True)).clamp_(max=float(1 << 40))


def order_key(bins: Tensor) -> Tensor:
    """Integers [C·M] ordered by list, then by ``bins`` [C, M].

    Integers, because their radix sort is several times faster than sorting the scores.
    """
    most = int(bins.max()) + 1
    narrow = torch.int32 if most * len(bins) < 1 << 31 else torch.int64
    first = torch.arange(0, most * len(bins), most, dtype=narrow, device=bins.device)
    return (bins.to(narrow) + first[:, None]).flatten()


def in_order(bins: Tensor) -> Tensor:
    """The positions [C·M], list by list, in ascending order of ``bins`` [C, M]; those of a bin in
    their own order.

    Bin and position together are one number, which NumPy sorts several times faster on the CPU than
    torch sorts keys and moves positions along. Few points, of which torch orders those of a bin in
    its own way, stay with torch, so that recorded runs keep their bits.
    """
    lists, points = bins.shape
    bits = points.bit_length()
    few = bins.numel() < WORTH_PACKING or bins.device.type != "cpu"
    if few or float(bins.max()) >= 1 << (31 - bits):
        return order_key(bins).sort().indices
    packed = (bins.to(torch.int32) << bits).numpy()
    packed |= np.arange(points, dtype=np.int32)
    packed.sort(-1)
    packed &= (1 << bits) - 1
    first = torch.arange(0, lists * points, points)[:, None]
    return (torch.from_numpy(packed) + first).flatten()


class _Sources:
    """Scores in tiles [C, m, size]; masses [C, m, q, size], or None if all are 1."""

    def __init__(self, window: Window, score: Tensor, mass: Tensor | None, cut: Tiles) -> None:
        self.window, working = window, window.tau.dtype
        self.score = cut.take(score, torch.inf)
        self.mass, self.whole = None, cut.held.unsqueeze(-1).to(working)
        if mass is not None:
            self.mass = torch.stack([cut.take(side, 0.0) for side in mass], 2)
            self.whole = self.mass.sum(-1)
        # Tile bounds may be out of order by under a bin: widen until they ascend.
        self.low = self.score.amin(-1).flip(1).cummin(1).values.flip(1)
        self.high = self.score.amax(-1).cummax(1).values
        cut.fill(self.score, -torch.inf)  # below everything: σ and σ' are 0

    def steps(self, at: Tensor) -> Tensor:
        return self._sum(at, slope=False)

    def bumps(self, at: Tensor) -> Tensor:
        return self._sum(at, slope=True)

    def _sum(self, at: Tensor, slope: bool) -> Tensor:
        window, sides = self.window, self.whole.shape[-1]
        # Few targets lie far apart: smaller tiles span less and meet fewer sources.
        targets = window.tiles(at, min(TARGETS, max(1, len(at) // (8 * window.count))))
        centre = targets.take(window.score.index_select(0, at), torch.inf)
        total = centre.new_zeros(*centre.shape, sides, dtype=window.tau.dtype)
        if centre.numel() and self.score.numel():
            first, beyond = self._within_reach(centre)
            if not slope:
                total += self._above(beyond).unsqueeze(2)
            self._add_pairs(total, centre, first, beyond, slope)
        return targets.put(total, len(at))

    def _within_reach(self, centre: Tensor) -> tuple[Tensor, Tensor]:
        """First source tile within reach of each target tile [C, n], and the first beyond it."""
        reach = self.window.reach.to(centre.dtype)[:, None]
        lowest = centre.amin(-1)
        highest = centre.masked_fill(centre == torch.inf, -torch.inf).amax(-1)
        first = torch.searchsorted(self.high, lowest - reach)
        return first, torch.searchsorted(self.low, highest + reach).maximum(first)

    def _above(self, beyond: Tensor) -> Tensor:
        """Masses [C, n, q] of the source tiles from ``beyond`` [C, n] on."""
        whole = torch.nn.functional.pad(self.whole.flip(1).cumsum(1).flip(1), (0, 0, 0, 1))
        return whole.gather(1, beyond.unsqueeze(-1).expand(-1, -1, whole.shape[-1]))

    def _add_pairs(
        self, total: Tensor, centre: Tensor, first: Tensor, beyond: Tensor, slope: bool
    ) -> None:
        """Add to ``total`` [C, n, size, q] the pairs of tiles (target, first ≤ source < beyond)."""
        per_list, slots = centre.shape[1:]
        together = max(1, self.window.chunk // (slots * self.score.shape[2]))
        ends = (beyond - first).flatten().cumsum(0)  # ends of each target's run of sources
        owner = torch.arange(len(ends), device=ends.device) // per_list
        origin = owner * self.score.shape[1] + beyond.flatten() - ends  # source = origin + rank
        inverse = (1.0 / self.window.tau)[:, None, None]
        total, centre = total.flatten(0, 1), centre.flatten(0, 1).unsqueeze(-1)
        score = self.score.flatten(0, 1).unsqueeze(1)
        mass = None if self.mass is None else self.mass.flatten(0, 1).mT
        last = int(ends[-1])
        for start in range(0, last, together):
            rank = torch.arange(start, min(start + together, last), device=ends.device)
            mine = torch.searchsorted(ends, rank, right=True)
            theirs = origin[mine] + rank
            difference = score.index_select(0, theirs).to(total) - centre.index_select(0, mine)
            step = difference.mul_(inverse[owner[mine]]).sigmoid_()
            if slope:
                step.addcmul_(step, step, value=-1)  # σ' = σ − σ²
            sums = step.sum(-1, keepdim=True) if mass is None else step @ mass[theirs]
            total.index_add_(0, mine, sums)

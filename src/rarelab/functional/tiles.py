"""Points of several classes laid out in rectangular tiles, so that ragged work runs in batches."""

from typing import NamedTuple

import torch
from torch import Tensor


class Tiles(NamedTuple):
    """``n`` tiles of ``size`` slots; a tile holds points of one class, in the order given.

    ``owner`` [n]: the class. ``column`` [n, size]: the column of each point (0 in an empty slot).
    ``filled`` [n, size]: False where a class did not fill its last tile; None if all are filled.
    """

    owner: Tensor
    column: Tensor
    filled: Tensor | None

    def split(self, count: int) -> list["Tiles"]:
        """Runs of at most ``count`` tiles."""
        if len(self.owner) <= count:
            return [self]
        starts = range(0, len(self.owner), count)
        return [self._slice(slice(start, start + count)) for start in starts]

    def _slice(self, part: slice) -> "Tiles":
        filled = None if self.filled is None else self.filled[part]
        return Tiles(self.owner[part], self.column[part], filled)

    def flat(self, columns: int) -> Tensor:
        """Index of every slot [n, size] in a flattened [C, columns] tensor."""
        return self.owner[:, None] * columns + self.column

    def take(self, values: Tensor, empty: float) -> Tensor:
        """``values`` [C, M] at every slot [n, size]; ``empty`` where no point is."""
        taken = values.reshape(-1)[self.flat(values.shape[-1])]
        return taken if self.filled is None else taken.masked_fill_(~self.filled, empty)


def tiles(chosen: Tensor, size: int) -> Tiles:
    """Tile the True entries of ``chosen`` [C, M], at most ``size`` to a tile, class by class."""
    owner, column = chosen.nonzero(as_tuple=True)
    if chosen.shape[0] == 1 and column.numel() <= size:
        return Tiles(owner[:1], column[None] if column.numel() else column.view(0, size), None)
    counts = chosen.sum(-1)
    per_class = (counts + size - 1) // size
    first_point, first_tile = counts.cumsum(0) - counts, per_class.cumsum(0) - per_class
    rank = torch.arange(len(column), device=column.device) - first_point[owner]
    tile = first_tile[owner] + rank // size
    classes = torch.arange(chosen.shape[0], device=column.device)
    tile_owner = classes.repeat_interleave(per_class)
    columns = column.new_zeros(len(tile_owner), size)
    filled = torch.zeros_like(columns, dtype=torch.bool)
    columns[tile, rank % size] = column
    filled[tile, rank % size] = True
    return Tiles(tile_owner, columns, filled)

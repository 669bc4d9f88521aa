"""Points of several lists laid out in rectangular tiles, to batch ragged work."""

from typing import NamedTuple

import torch
from torch import Tensor


class Tiles(NamedTuple):
    """Members of C lists cut into tiles of ``size`` slots, list by list, in the order given.

    ``member`` [C, n, size]: a member's index in the tiled input, 0 in an empty slot; ``filled``
    [C, n, size]: which slots hold a member, None if all do; ``held`` [C, n]: how many do. n is the
    tile count of the longest list.
    """

    member: Tensor
    filled: Tensor | None
    held: Tensor

    def take(self, values: Tensor, empty: float) -> Tensor:
        """``values`` [k] arranged in the slots [C, n, size], with ``empty`` in the empty ones."""
        taken = values.index_select(0, self.member.flatten()).view(self.member.shape)
        return self.fill(taken, empty)

    def fill(self, values: Tensor, empty: float) -> Tensor:
        """``values`` [C, n, size] with ``empty`` in the empty slots, in place."""
        return values if self.filled is None else values.masked_fill_(~self.filled, empty)

    def put(self, values: Tensor, count: int) -> Tensor:
        """``values`` [C, n, size, q] back in the order of the ``count`` members: [q, count]."""
        result = values.new_empty(count, values.shape[-1])
        if self.filled is None:
            result[self.member.flatten()] = values.flatten(0, 2)
        else:
            result[self.member[self.filled]] = values[self.filled]
        return result.T


def tiles(member: Tensor, owner: Tensor, lists: int, size: int) -> Tiles:
    """Tile ``member`` [k], whose list indices ``owner`` [k] ascend and are below ``lists``."""
    counts = owner.bincount(minlength=lists)
    slots = -(-int(counts.max()) // size) * size
    members = member.new_zeros(lists, slots)
    rank = torch.arange(len(member), device=member.device) - (counts.cumsum(0) - counts)[owner]
    members[owner, rank] = member
    return _tiles(members, counts[:, None], size, full=len(member) == members.numel())


def even_tiles(member: Tensor, lists: int, size: int) -> Tiles:
    """``tiles`` for lists of equal length."""
    members = member.view(lists, -1)
    counts = torch.full((lists, 1), members.shape[1], device=member.device)
    full = members.shape[1] % size == 0
    members = torch.nn.functional.pad(members, (0, -members.shape[1] % size))
    return _tiles(members, counts, size, full)


def _tiles(members: Tensor, counts: Tensor, size: int, full: bool) -> Tiles:
    slot = torch.arange(members.shape[1], device=members.device)
    shape = len(members), -1, size
    filled = None if full else (slot < counts).view(shape)
    return Tiles(members.view(shape), filled, (counts - slot[::size]).clamp(0, size))

"""Points of several lists laid out in rectangular tiles, so that ragged work runs in batches."""

from typing import NamedTuple

import torch
from torch import Tensor


class Tiles(NamedTuple):
    """Members of C lists cut into tiles of ``size`` slots, list by list, in the order given.

    ``member`` [C, n, size]: a member's place in what was tiled, 0 in an empty slot; ``filled``
    [C, n, size]: which slots hold a member; ``held`` [C, n]: how many do. n is that of the longest
    list.
    """

    member: Tensor
    filled: Tensor
    held: Tensor

    def take(self, values: Tensor, empty: float) -> Tensor:
        """``values`` [k] in the slots, [C, n, size], and ``empty`` in the empty ones."""
        taken = values.index_select(0, self.member.flatten()).view(self.member.shape)
        return taken.masked_fill_(~self.filled, empty)

    def put(self, values: Tensor, count: int) -> Tensor:
        """``values`` [C, n, size, q] back in the order of the ``count`` members: [q, count]."""
        result = values.new_empty(count, values.shape[-1])
        result[self.member[self.filled]] = values[self.filled]
        return result.T


def tiles(member: Tensor, owner: Tensor, lists: int, size: int) -> Tiles:
    """Tile ``member`` [k], whose lists ``owner`` [k] ascend and are fewer than ``lists``."""
    counts = owner.bincount(minlength=lists)
    slots = -(-int(counts.max()) // size) * size
    members = member.new_zeros(lists, slots)
    rank = torch.arange(len(member), device=member.device) - (counts.cumsum(0) - counts)[owner]
    members[owner, rank] = member
    return _tiles(members, counts[:, None], size)


def even_tiles(member: Tensor, lists: int, size: int) -> Tiles:
    """``tiles`` of lists of one length."""
    members = member.view(lists, -1)
    counts = torch.full((lists, 1), members.shape[1], device=member.device)
    members = torch.nn.functional.pad(members, (0, -members.shape[1] % size))
    return _tiles(members, counts, size)


def _tiles(members: Tensor, counts: Tensor, size: int) -> Tiles:
    slot = torch.arange(members.shape[1], device=members.device)
    shape = len(members), -1, size
    held = (counts - slot[::size]).clamp(0, size)
    return Tiles(members.view(shape), (slot < counts).view(shape), held)

"""The chosen points of several lists, flattened, so the other points cost nothing."""

from typing import NamedTuple, Self

from torch import Tensor


class Members(NamedTuple):
    """The k points selected by a mask [..., M] from its C lists, list by list.

    ``place`` [k]: position in the flattened mask; ``owner`` [k]: the list of each, None if C = 1.
    """

    place: Tensor
    owner: Tensor | None
    lists: int

    @classmethod
    def of(cls, chosen: Tensor) -> Self:
        place, lists = chosen.reshape(-1).nonzero().view(-1), chosen.shape[:-1].numel()
        return cls(place, None if lists == 1 else place // chosen.shape[-1], lists)

    def take(self, values: Tensor) -> Tensor:
        """The members' entries [k] of ``values`` [..., M]."""
        return values.reshape(-1).index_select(0, self.place)

    def each(self, values: Tensor | float) -> Tensor | float:
        """Each member's entry of the per-list ``values`` [...]: [k], or broadcastable to it."""
        if not isinstance(values, Tensor):
            return values
        values = values.reshape(-1)
        return values if self.owner is None else values.index_select(0, self.owner)

    def sum(self, values: Tensor) -> Tensor:
        """``values`` [k] summed per list: [C]."""
        if self.owner is None:
            return values.sum(0, keepdim=True)
        return values.new_zeros(self.lists).index_add_(0, self.owner, values)

    def put(self, values: Tensor, points: int) -> Tensor:
        """``values`` [k] in their places of [C, M = ``points``], zero elsewhere."""
        result = values.new_zeros(self.lists * points)
        return result.index_copy_(0, self.place, values).view(self.lists, points)

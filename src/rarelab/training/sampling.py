"""Which training rows make up an epoch's batches: natural, stratified or class-balanced.

A sampler is a pure function of (kinds, batch size, generator) that returns the whole epoch as one
sequence of row indices; batch b starts at b · batch_size. Its position therefore follows from the
generator's state at the start of the epoch and the number of steps done. Only training rows are
sampled. The *kind* of a row is its class; that of a sequence, the rarest class among its steps.
"""

import math
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import torch
from torch import Generator, Tensor

from rarelab.data.splits import IGNORE_INDEX
from rarelab.errors import RequestError


@runtime_checkable
class Sampler(Protocol):
    """The component built by a ``sampler`` leaf of the configuration."""

    def order(self, kinds: Tensor, batch_size: int, generator: Generator) -> Tensor:
        """Row indices of one epoch, int64, in ⌈N / batch_size⌉ batches; ``kinds`` int64 [N]."""
        ...

    def expected_uses(self, kinds: Tensor, batch_size: int) -> Tensor:
        """Expected number of times each row is drawn in an epoch, float64 [N]; 1 = natural."""
        ...


@final
@dataclass(frozen=True)
class Natural:
    """Every row once, in random order; the last batch may be smaller."""

    def order(self, kinds: Tensor, batch_size: int, generator: Generator) -> Tensor:
        return torch.randperm(len(kinds), generator=generator)

    def expected_uses(self, kinds: Tensor, batch_size: int) -> Tensor:
        return torch.ones(len(kinds), dtype=torch.float64)


@final
@dataclass(frozen=True)
class Stratified:
    """At least ``min_positives`` rows of every class but the most common in every batch.

    Each batch first gets that many rows of each class; the rest is drawn from the remaining rows. A
    class with enough rows keeps its natural prevalence: each of its rows is used once. The rows of
    a class with fewer are repeated, which raises its prevalence. All batches have the same size, so
    the last one is filled up with repeated rows.
    """

    min_positives: int = 1

    def __post_init__(self) -> None:
        if self.min_positives < 1:
            raise ValueError(f"min_positives is {self.min_positives}, expected at least 1")

    def order(self, kinds: Tensor, batch_size: int, generator: Generator) -> Tensor:
        batches, size, needed = self._layout(kinds, batch_size)
        reserved, rest = [], []
        for kind, need in enumerate(needed):
            rows = (kinds == kind).nonzero().squeeze(1)
            dealt = _cycled(rows, max(need, len(rows)), generator)
            reserved.append(dealt[:need].view(batches, -1))
            rest.append(dealt[need:])
        free = batches * size - sum(needed)
        filled = _cycled(torch.cat(rest), free, generator).view(batches, -1)
        table = torch.cat([*reserved, filled], dim=1)
        # A row's position must not reveal its class: a queue shorter than a batch keeps its end.
        shuffle = torch.rand(table.shape, generator=generator).argsort(dim=1)
        return table.gather(1, shuffle).flatten()

    def expected_uses(self, kinds: Tensor, batch_size: int) -> Tensor:
        batches, size, needed = self._layout(kinds, batch_size)
        counts, need = torch.bincount(kinds).double(), torch.tensor(needed, dtype=torch.float64)
        left = (counts - need).clamp_min(0)
        uses = (need + left * (batches * size - need.sum()) / left.sum()) / counts
        return uses[kinds]

    def _layout(self, kinds: Tensor, batch_size: int) -> tuple[int, int, list[int]]:
        """Number of batches, rows per batch, and reserved rows of each class in the epoch."""
        batches, size = _batches(len(kinds), batch_size)
        counts = torch.bincount(kinds)
        rare = counts > 0
        rare[counts.argmax()] = False
        if self.min_positives * int(rare.sum()) >= size:
            raise RequestError(
                f"sampler.min_positives={self.min_positives}: {int(rare.sum())} classes besides "
                f"the most common one do not fit in batches of {size} rows; lower it or raise "
                "trainer.batch_size"
            )
        return batches, size, (rare * self.min_positives * batches).tolist()


@final
@dataclass(frozen=True)
class ClassBalanced:
    """Every class equally often (Kang et al., ICLR 2020, section 3, q = 0).

    The classes come in random order, all of them before any repeats, so a batch holds each class
    size / C times, give or take less than two. The rows of a class are drawn the same way. A rare
    class's rows repeat many times per epoch, so a large model will overfit them.
    """

    def order(self, kinds: Tensor, batch_size: int, generator: Generator) -> Tensor:
        batches, size = _batches(len(kinds), batch_size)
        present = kinds.unique()
        rounds = math.ceil(batches * size / len(present))
        turns = torch.rand(rounds, len(present), generator=generator).argsort(dim=1)
        chosen = present[turns.flatten()[: batches * size]]
        order = torch.empty_like(chosen)
        for kind in present.tolist():
            places = chosen == kind
            rows = (kinds == kind).nonzero().squeeze(1)
            order[places] = _cycled(rows, int(places.sum()), generator)
        return order

    def expected_uses(self, kinds: Tensor, batch_size: int) -> Tensor:
        batches, size = _batches(len(kinds), batch_size)
        counts = torch.bincount(kinds).double()
        return (batches * size / (counts > 0).sum() / counts)[kinds]


def row_kinds(y: Tensor) -> Tensor:
    """The kind of every row, int64 [N] on the CPU: the label [N], or a sequence's rarest [N, T]."""
    y = y.cpu()
    if y.ndim == 1:
        return y
    counted = y != IGNORE_INDEX
    by_rarity = torch.bincount(y[counted]).argsort(descending=True, stable=True)
    rarity = torch.empty_like(by_rarity)
    rarity[by_rarity] = torch.arange(len(by_rarity))
    return by_rarity[torch.where(counted, rarity[y.clamp_min(0)], 0).amax(dim=1)]


def _batches(rows: int, batch_size: int) -> tuple[int, int]:
    return math.ceil(rows / batch_size), min(rows, batch_size)


def _cycled(rows: Tensor, count: int, generator: Generator) -> Tensor:
    """``count`` of the rows in random order, all of them before any repeats."""
    if count == 0:
        return rows[:0]
    rounds = math.ceil(count / len(rows))
    turns = [torch.randperm(len(rows), generator=generator) for _ in range(rounds)]
    return rows[torch.cat(turns)[:count]]

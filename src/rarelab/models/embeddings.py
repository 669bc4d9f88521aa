"""Embeddings: a column becomes a vector before the network's first layer.

Numbers by ``rtdl_num_embeddings``, the authors' own package, for those features that hold numbers
worth embedding; the levels of a categorical column by a table.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from rarelab.errors import RequestError, nearest
from rarelab.models.bins import check_bins
from rarelab.models.shapes import check_sizes

Kind = Literal["piecewise_linear", "periodic"]
Edges = Sequence[Sequence[float]]
Blocks = Sequence[Sequence[int]]
CatSize = Literal["auto"] | int

AUTO_WIDEST = 16
"""The longest vector of a categorical column with ``cat_embeddings=auto``."""


class NumberEmbeddings(nn.Module):
    """Embeds columns of numbers: x [N, F] becomes [N, F·W].

    Piecewise linear, version B: e(x) = a + b·x + W·q(x), where q holds, per bin, how much of it
    lies below x, and W starts at zero. Periodic: relu(W·[cos 2πcx, sin 2πcx] + a), with learned
    frequencies c (48, from a normal distribution of width 0.01).

    kind: ``piecewise_linear`` or ``periodic``; edges: of the bins of every column
    (:func:`rarelab.models.bins.bin_edges`); size: of a column's vector, null for the authors' own
    (16, periodic 24).

    Source: Gorishniy et al., On Embeddings for Numerical Features in Tabular Deep Learning,
    NeurIPS 2022; version B: Gorishniy et al., TabM, ICLR 2025.
    """

    def __init__(self, kind: Kind, edges: Edges, size: int | None = None) -> None:
        super().__init__()
        import rtdl_num_embeddings as rtdl

        self.embedded: nn.Module
        if kind == "periodic":
            size = size or 24
            self.embedded = rtdl.PeriodicEmbeddings(len(edges), size, lite=False)
        else:
            size = size or 16
            bins = [torch.tensor(column) for column in edges]
            self.embedded = rtdl.PiecewiseLinearEmbeddings(
                bins, size, activation=False, version="B"
            )
        self.widths = [size] * len(edges)

    def forward(self, x: Tensor) -> Tensor:
        """The vectors of rows [N, F] side by side, [N, F·W]."""
        return self.embedded(x).flatten(1)


class LevelEmbeddings(nn.Module):
    """Embeds columns of levels: the one-hot features x [N, F] become [N, ΣW].

    A level's vector is a row of its column's table; a row whose column is all zeros, an unseen
    level, has the zero vector. The look-up is the product x·T with the tables T on the diagonal, so
    that it has a gradient at x too.

    levels: of each column; size: of its vector, at most as many as it has levels; ``auto`` is half
    of them, at most :data:`AUTO_WIDEST`.
    """

    def __init__(self, levels: Sequence[int], size: CatSize) -> None:
        super().__init__()
        self.widths = [_width(n, size) for n in levels]
        tables = [torch.randn(n, width) for n, width in zip(levels, self.widths, strict=True)]
        self.tables = nn.ParameterList(tables)

    def forward(self, x: Tensor) -> Tensor:
        """The vectors of rows of one-hot features [N, F] side by side, [N, ΣW]."""
        return x @ torch.block_diag(*self.tables)


def _width(levels: int, size: CatSize) -> int:
    return min(size, levels) if isinstance(size, int) else min(AUTO_WIDEST, math.ceil(levels / 2))


@dataclass(frozen=True)
class Numbers:
    """What a model is told of its columns of numbers: ``kind`` of embedding, null for none; the
    ``most`` bins of a column; the ``size`` of its vector; the ``edges`` of the bins of each of its
    features, empty for those not to be embedded."""

    kind: Kind | None = None
    most: int = 48
    size: int | None = None
    edges: Edges | None = None

    def check(self, model: str, in_features: int) -> None:
        """Raises RequestError as :func:`embeddings` says."""
        check_bins(self.most)
        if self.size is not None:
            check_sizes(model, embedding_size=self.size)
        if self.kind is None:
            for name, value in (("embedding_size", self.size), ("bin_edges", self.edges)):
                if value is not None:
                    raise RequestError(
                        f"model.{name}={value}: nothing is embedded; choose model.num_embeddings, "
                        "such as piecewise_linear"
                    )
            return
        if self.kind not in get_args(Kind):
            known = nearest(self.kind, get_args(Kind))
            raise RequestError(f"model {model}: unknown num_embeddings {self.kind!r}, {known}")
        if self.edges is None or len(self.edges) != in_features:
            found = "nothing" if self.edges is None else f"{len(self.edges)} lists"
            raise RequestError(
                f"model {model}: num_embeddings={self.kind} needs bin_edges, a list for each of the"
                f" {in_features} columns, found {found}"
            )


@dataclass(frozen=True)
class Levels:
    """What a model is told of its categorical columns: the ``size`` of a column's vector, null for
    none, and ``blocks``, the features that are the levels of a column, of each."""

    size: CatSize | None = None
    blocks: Blocks | None = None

    def check(self, model: str, in_features: int) -> None:
        """Raises RequestError as :func:`embeddings` says."""
        if self.size is None:
            if self.blocks is not None:
                raise RequestError(
                    f"model.one_hot={self.blocks}: nothing is embedded; choose "
                    "model.cat_embeddings, such as auto"
                )
            return
        if self.size != "auto":
            check_sizes(model, cat_embeddings=self.size)  # type: ignore[arg-type]
        if self.blocks is None:
            raise RequestError(
                f"model {model}: cat_embeddings={self.size} needs one_hot, the features that are "
                "the levels of each categorical column, found nothing"
            )
        features = [feature for block in self.blocks for feature in block]
        if not ({*features} <= {*range(in_features)} and len({*features}) == len(features)):
            raise RequestError(
                f"model {model}: one_hot must name a feature once, by its number below "
                f"{in_features}, found {self.blocks}"
            )


class Embeddings(nn.Module):
    """The layer before a network: x [N, F] becomes [N, ΣW], the numbers that have bins, then the
    levels of each categorical column, then the other features as they are. ``widths`` holds the
    sizes W of the columns of the output, in order."""

    def __init__(self, in_features: int, numbers: Numbers, levels: Levels) -> None:
        super().__init__()
        blocks = levels.blocks or () if levels.size is not None else ()
        of_levels = [feature for block in blocks for feature in block]
        edges = {i: e for i, e in enumerate(numbers.edges or ()) if e and i not in of_levels}
        others = [i for i in range(in_features) if i not in edges and i not in of_levels]
        self.numbers: nn.Module = nn.Identity()
        self.levels: nn.Module = nn.Identity()
        self.widths: list[int] = []
        if edges and numbers.kind is not None:
            self.numbers = NumberEmbeddings(numbers.kind, [*edges.values()], numbers.size)
            self.widths += self.numbers.widths
        if blocks and levels.size is not None:
            self.levels = LevelEmbeddings([len(block) for block in blocks], levels.size)
            self.widths += self.levels.widths
        self.widths += [1] * len(others)
        self.counts = [len(edges), len(of_levels), len(others)]
        order = torch.tensor([*edges, *of_levels, *others], dtype=torch.int64)
        self.register_buffer("order", order, persistent=False)
        self.order: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """The columns of rows [N, F] as vectors side by side, [N, ΣW]."""
        numbers, levels, others = x.index_select(1, self.order).split(self.counts, dim=1)
        return torch.cat([self.numbers(numbers), self.levels(levels), others], dim=1)


def embeddings(
    model: str, in_features: int, numbers: Numbers, levels: Levels
) -> tuple[nn.Module, list[int]]:
    """The layer before a network, and the sizes of the columns of its output; the rows as they are
    if nothing is to be embedded.

    Raises RequestError for values out of range or without a use, and for edges or blocks that are
    missing or not of ``in_features`` columns.
    """
    numbers.check(model, in_features)
    levels.check(model, in_features)
    if numbers.kind is None and levels.size is None:
        return nn.Identity(), [1] * in_features
    layer = Embeddings(in_features, numbers, levels)
    return layer, layer.widths

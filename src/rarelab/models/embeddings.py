"""Embeddings of numbers: a column becomes a vector before the network's first layer.

A thin wrapper around ``rtdl_num_embeddings``, the authors' own package, for features of which only
some columns hold numbers worth embedding.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from rarelab.errors import RequestError, nearest
from rarelab.models.shapes import check_sizes

Kind = Literal["piecewise_linear", "periodic"]
Edges = Sequence[Sequence[float]]

# The smallest bin, as a share of the column's range: float32 cannot place a value within less.
_NARROWEST = 1e-6


def bin_edges(x: Tensor, most: int) -> list[list[float]]:
    """The edges of at most ``most`` bins per column of the training rows x [N, F], at its
    quantiles; none for a column with fewer than two bins, such as one of zeros and ones.

    Raises RequestError unless ``most`` is at least 2.
    """
    _check_bins(most)
    shares = np.linspace(0, 1, most + 1)
    columns = x.cpu().double().numpy().T
    return [_edges(np.quantile(column, shares)) if len(column) else [] for column in columns]


def _edges(quantiles: np.ndarray) -> list[float]:
    edges = np.unique(quantiles.astype(np.float32)).astype(np.float64)
    edges = edges[np.diff(edges, prepend=-np.inf) > _NARROWEST * np.ptp(edges)]
    return edges.tolist() if len(edges) > 2 else []


class NumberEmbeddings(nn.Module):
    """Embeds the columns that have bins and passes the others on: x [N, F] becomes [N, ΣW].

    Piecewise linear, version B: e(x) = a + b·x + W·q(x), where q holds, per bin, how much of it
    lies below x, and W starts at zero. Periodic: relu(W·[cos 2πcx, sin 2πcx] + a), with learned
    frequencies c (48, from a normal distribution of width 0.01).

    kind: ``piecewise_linear`` or ``periodic``; edges: of the bins of every column
    (:func:`bin_edges`), empty for columns to be passed on; size: of a column's vector, null for the
    authors' own (16, periodic 24). ``widths`` holds the sizes W of the blocks of the output, in
    order: embedded columns, then the others.

    Source: Gorishniy et al., On Embeddings for Numerical Features in Tabular Deep Learning,
    NeurIPS 2022; version B: Gorishniy et al., TabM, ICLR 2025.
    """

    def __init__(self, kind: Kind, edges: Edges, size: int | None = None) -> None:
        super().__init__()
        import rtdl_num_embeddings as rtdl

        columns = [column for column, found in enumerate(edges) if found]
        others = [column for column, found in enumerate(edges) if not found]
        self.embedded: nn.Module | None = None
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.int64), persistent=False)
        self.register_buffer("others", torch.tensor(others, dtype=torch.int64), persistent=False)
        self.columns: Tensor
        self.others: Tensor
        if columns and kind == "periodic":
            size = size or 24
            self.embedded = rtdl.PeriodicEmbeddings(len(columns), size, lite=False)
        elif columns:
            size = size or 16
            bins = [torch.tensor(edges[column]) for column in columns]
            self.embedded = rtdl.PiecewiseLinearEmbeddings(
                bins, size, activation=False, version="B"
            )
        self.widths = [size or 1] * len(columns) + [1] * len(others)

    def forward(self, x: Tensor) -> Tensor:
        """The embedded columns of rows [N, F], then the others, [N, ΣW]."""
        if self.embedded is None:
            return x
        vectors = self.embedded(x.index_select(1, self.columns))
        return torch.cat([vectors.flatten(1), x.index_select(1, self.others)], dim=1)


def embeddings(
    model: str,
    in_features: int,
    kind: Kind | None,
    most: int,
    size: int | None,
    edges: Edges | None,
) -> tuple[nn.Module, list[int]]:
    """The layer before a network, and the sizes of the blocks of its output; the rows as they are
    if ``kind`` is null.

    Raises RequestError for values out of range or without a use, and for edges that are missing or
    not of ``in_features`` columns.
    """
    _check_bins(most)
    if size is not None:
        check_sizes(model, embedding_size=size)
    if kind is None:
        for name, value in (("embedding_size", size), ("bin_edges", edges)):
            if value is not None:
                raise RequestError(
                    f"model.{name}={value}: nothing is embedded; choose model.num_embeddings, such "
                    "as piecewise_linear"
                )
        return nn.Identity(), [1] * in_features
    if kind not in get_args(Kind):
        raise RequestError(
            f"model {model}: unknown num_embeddings {kind!r}, {nearest(kind, get_args(Kind))}"
        )
    if edges is None or len(edges) != in_features:
        found = "nothing" if edges is None else f"{len(edges)} lists"
        raise RequestError(
            f"model {model}: num_embeddings={kind} needs bin_edges, a list for each of the "
            f"{in_features} columns, found {found}"
        )
    layer = NumberEmbeddings(kind, edges, size)
    return layer, layer.widths


def _check_bins(most: int) -> None:
    if isinstance(most, bool) or not isinstance(most, int) or most < 2:
        raise RequestError(f"model.embedding_bins={most!r}: expected a whole number of at least 2")

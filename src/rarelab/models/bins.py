"""The bins of a column of numbers: where its piecewise-linear embedding may bend."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rarelab.errors import RequestError

# The smallest bin, as a share of the column's range: float32 cannot place a value within less.
_NARROWEST = 1e-6


def bin_edges(x: Tensor, most: int) -> list[list[float]]:
    """The edges of at most ``most`` bins per column of the training rows x [N, F]; none for a
    column of fewer than three values, such as one of zeros and ones.

    Edges are at the column's quantiles, but a value that fills several bins by itself takes one
    edge, and the others are spread over the rest of the rows. So a column that is nearly always
    zero is resolved where it is not.

    Raises RequestError unless ``most`` is at least 2.
    """
    check_bins(most)
    return [_edges(column, most) if len(column) else [] for column in x.cpu().double().numpy().T]


def check_bins(most: int) -> None:
    """Raises RequestError unless ``most`` is a whole number of at least 2."""
    if isinstance(most, bool) or not isinstance(most, int) or most < 2:
        raise RequestError(f"model.embedding_bins={most!r}: expected a whole number of at least 2")


def _edges(column: NDArray[np.float64], most: int) -> list[float]:
    values, rows = np.unique(column, return_counts=True)
    common = _common(rows, most + 1)
    others = np.repeat(values[~common], rows[~common])
    left = most + 1 - int(common.sum())
    spread = np.quantile(others, np.linspace(0, 1, left)) if len(others) else others
    edges = np.unique(np.concatenate([values[common], spread]).astype(np.float32))
    edges = edges.astype(np.float64)
    edges = edges[np.diff(edges, prepend=-np.inf) > _NARROWEST * np.ptp(edges)]
    return edges.tolist() if len(edges) > 2 else []


def _common(rows: NDArray[np.int64], edges: int) -> NDArray[np.bool_]:
    """Which values stand for more rows than an edge does, [V]; ``rows`` are those of each value."""
    common = np.zeros(len(rows), dtype=bool)
    while True:
        # Each value taken out leaves the others a smaller share of the rows per edge.
        share = rows[~common].sum() / (edges - int(common.sum()))
        more = ~common & (rows > share)
        if not more.any():
            return common
        common |= more

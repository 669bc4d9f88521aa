"""A table by its columns, for trees that look at few of them."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rarelab.models.trees import PlainTrees


class Columns:
    """Rows ``x`` [N, F], float32, which are asked tree by tree.

    A booster's own prediction reads every column of every row, however few the tree has: on a wide
    table that takes longer than to grow the tree.
    """

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self._columns = np.ascontiguousarray(x.detach().numpy().T)

    def steps(self, trees: PlainTrees) -> NDArray[np.float64]:
        """What each tree adds to the score of each row, [N, T]."""
        found = np.empty((len(self.x), len(trees.roots)))
        for tree, root in enumerate(trees.roots):
            for value, rows in self._leaves(trees, root):
                found[rows, tree] = value
        return found

    def _leaves(self, trees: PlainTrees, root: int) -> Iterator[tuple[float, NDArray[np.int64]]]:
        """The values of a tree's leaves, with the rows in each."""
        waiting = [(root, np.arange(len(self.x)))]
        while waiting:
            node, rows = waiting.pop()
            if trees.left[node] == node:
                yield trees.value[node], rows
                continue
            found = self._columns[trees.feature[node]][rows]
            goes_left = found <= trees.threshold[node]
            if trees.missing_left[node]:
                goes_left |= np.isnan(found)
            waiting.append((trees.left[node], rows[goes_left]))
            waiting.append((trees.right[node], rows[~goes_left]))

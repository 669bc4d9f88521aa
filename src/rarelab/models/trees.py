"""A fitted histogram booster as plain arrays, without pickle or scikit-learn."""

from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rarelab.errors import RarelabError

MADE_FOR = ("1.9",)
"""The scikit-learn releases whose private tree format is known to be read correctly."""

# Rows walked down all trees at once: what fits in cache beside the nodes.
_ROWS = 512
_LISTS = ("roots", "depth", "baseline", "classes_")
_OF_A_NODE = ("feature", "threshold", "missing_left", "left", "right", "value")


@dataclass(frozen=True)
class PlainTrees:
    """The trees of a histogram booster on numeric columns: scikit-learn's, or LightGBM's.

    One entry per node, trees concatenated; ``left`` and ``right`` are positions in the same arrays
    (a leaf points to itself). ``roots`` [T]: where each tree starts, by iteration, then by class.
    ``baseline`` [K]: the score before the first tree, K = 1 for two classes. ``classes_`` are the
    classes that had training rows. Scores equal the booster's bit for bit.
    """

    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    missing_left: NDArray[np.bool_]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    value: NDArray[np.float64]
    roots: NDArray[np.int64]
    depth: NDArray[np.int64]
    baseline: NDArray[np.float64]
    classes_: NDArray[np.int64]

    @classmethod
    def of(cls, booster: Any) -> Self:
        """Read the trees of a fitted booster; scikit-learn has no public attribute for them.

        Raises:
            RarelabError: this scikit-learn stores its trees differently.
        """
        try:
            return cls._read(booster)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise RarelabError(
                f"scikit-learn {version('scikit-learn')}: expected its trees as release "
                f"{', '.join(MADE_FOR)} stores them, found {type(error).__name__}: {error}"
            ) from error

    @classmethod
    def _read(cls, booster: Any) -> Self:
        trees = [tree for iteration in booster._predictors for tree in iteration]
        nodes = np.concatenate([tree.nodes for tree in trees])
        sizes = np.array([len(tree.nodes) for tree in trees])
        roots = np.cumsum(sizes) - sizes
        start, itself = np.repeat(roots, sizes), np.arange(len(nodes))
        leaf = nodes["is_leaf"].astype(bool)
        return cls(
            feature=np.where(leaf, 0, nodes["feature_idx"]).astype(np.int64),
            threshold=nodes["num_threshold"].astype(np.float64),
            missing_left=nodes["missing_go_to_left"].astype(bool),
            left=np.where(leaf, itself, nodes["left"] + start).astype(np.int64),
            right=np.where(leaf, itself, nodes["right"] + start).astype(np.int64),
            value=nodes["value"].astype(np.float64),
            roots=roots.astype(np.int64),
            depth=np.array([nodes["depth"].max()], dtype=np.int64),
            baseline=np.asarray(booster._baseline_prediction, dtype=np.float64).reshape(-1),
            classes_=np.asarray(booster.classes_).astype(np.int64),
        )

    @classmethod
    def restored(cls, arrays: dict[str, NDArray]) -> Self:
        """The trees from :meth:`arrays`. Raises ValueError if they cannot be walked."""
        trees = cls(**{field.name: arrays[field.name] for field in fields(cls)})
        n_nodes, n_trees = len(trees.feature), len(trees.roots)
        if any(getattr(trees, name).shape != (n_nodes,) for name in _OF_A_NODE):
            raise ValueError("the arrays of the trees' nodes differ in length")
        if any(getattr(trees, name).ndim != 1 for name in _LISTS):
            raise ValueError(f"each of {', '.join(_LISTS)} of the trees must be a list")
        for name in ("left", "right", "roots"):
            place = getattr(trees, name)
            if ((place < 0) | (place >= n_nodes)).any():
                raise ValueError(f"{name} of the trees points outside their {n_nodes} nodes")
        if not 0 <= int(trees.depth[0]) <= n_nodes or n_trees % max(1, len(trees.baseline)):
            raise ValueError("the depth or the number of trees does not match their nodes")
        finite = np.isfinite(trees.value).all() and np.isfinite(trees.baseline).all()
        if not finite or np.isnan(trees.threshold).any():
            raise ValueError("the trees hold values that are NaN or infinite")
        return trees

    def arrays(self) -> dict[str, NDArray]:
        return asdict(self)

    def decision_function(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Scores of rows [N, F]: [N], or [N, K] for K > 2 classes."""
        scores = np.concatenate([self._walk(rows) for rows in _chunks(x)])
        return scores[:, 0] if len(self.baseline) == 1 else scores

    def _walk(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        rows = np.arange(len(x))[:, None]
        node = np.broadcast_to(self.roots, (len(x), len(self.roots)))
        for _ in range(int(self.depth[0])):
            found = x[rows, self.feature[node]]
            goes_left = found <= self.threshold[node]
            goes_left |= np.isnan(found) & self.missing_left[node]
            node = np.where(goes_left, self.left[node], self.right[node])
        steps = self.value[node].reshape(len(x), -1, len(self.baseline))
        first = np.broadcast_to(self.baseline, (len(x), 1, len(self.baseline)))
        # cumsum adds tree by tree, as the booster does; a plain sum would add pairwise.
        return np.concatenate([first, steps], axis=1).cumsum(axis=1)[:, -1]


def _chunks(x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    return np.split(x, range(_ROWS, len(x), _ROWS))

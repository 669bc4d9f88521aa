"""The trees of LightGBM as plain arrays, from its public dump."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rarelab.models.trees import PlainTrees


def dumped_trees(dump: dict[str, Any], start: NDArray[np.float64]) -> PlainTrees:
    """The trees of ``Booster.dump_model()``; they start at the scores ``start`` [K].

    Features are finite and no split is categorical, so the way of missing values is not kept.
    """
    nodes: dict[str, list[Any]] = {name: [] for name in ("feature", "threshold", "value")}
    left, right, roots, deepest = [], [], [], 0
    for tree in dump["tree_info"]:
        roots.append(len(left))
        # Each entry: a node, its depth, and the list in which its parent waits for its place.
        waiting: list[tuple[Any, int, list[int], int]] = [(tree["tree_structure"], 0, [0], 0)]
        while waiting:
            node, depth, told, index = waiting.pop()
            place = told[index] = len(left)
            deepest = max(deepest, depth)
            split = "split_feature" in node
            nodes["feature"].append(node["split_feature"] if split else 0)
            nodes["threshold"].append(node["threshold"] if split else 0.0)
            nodes["value"].append(0.0 if split else node["leaf_value"])
            left.append(place)
            right.append(place)
            if split:
                waiting.append((node["right_child"], depth + 1, right, place))
                waiting.append((node["left_child"], depth + 1, left, place))
    return PlainTrees(
        feature=np.array(nodes["feature"], dtype=np.int64),
        threshold=np.array(nodes["threshold"], dtype=np.float64),
        missing_left=np.zeros(len(left), dtype=bool),
        left=np.array(left, dtype=np.int64),
        right=np.array(right, dtype=np.int64),
        value=np.array(nodes["value"], dtype=np.float64),
        roots=np.array(roots, dtype=np.int64),
        depth=np.array([deepest], dtype=np.int64),
        baseline=start,
        classes_=np.arange(max(2, len(start))),
    )

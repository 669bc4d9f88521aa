"""LightGBM's text format, read as plain trees."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rarelab.errors import RarelabError
from rarelab.models.trees import PlainTrees

# The bits of decision_type (LightGBM's include/LightGBM/tree.h).
_CATEGORICAL, _DEFAULT_LEFT, _MISSING = 0b0001, 0b0010, 0b1100
_NO_MISSING, _NAN_IS_MISSING = 0b0000, 0b1000
# LightGBM reads a value no further than this from 0 as 0 (kZeroThreshold, a float32).
_ZERO = float(np.float32(1e-35))


def text_trees(text: str, start: NDArray[np.float64]) -> PlainTrees:
    """The trees of LightGBM's text: of each tree first its splits, then its leaves.

    A threshold stays a double, as LightGBM compares doubles; one next to 0 is moved so that every
    value that LightGBM reads as 0 goes where 0 goes. Where training had no gap in a column,
    LightGBM reads NaN as 0, so a gap goes where 0 goes.

    Args:
        text: a model in LightGBM's text format, version 4.
        start: the score before the first tree, [C]; the trees come by round, then by class.

    Raises:
        RarelabError: a split is on categories, or takes 0 for a gap; this package grows neither.
    """
    trees = list(_blocks(text)) or [{"leaf_value": "0"}] * len(start)
    splits = [len(tree.get("split_feature", "").split()) for tree in trees]
    sizes = np.array([2 * n + 1 for n in splits])
    roots = np.cumsum(sizes) - sizes
    parts = [_nodes(*numbered) for numbered in zip(trees, splits, roots.tolist(), strict=True)]
    feature, threshold, missing_left, left, right, value = map(
        np.concatenate, zip(*parts, strict=True)
    )
    return PlainTrees(
        feature=feature,
        threshold=threshold,
        missing_left=missing_left,
        left=left,
        right=right,
        value=value,
        roots=roots,
        depth=np.array([max(splits)]),  # no path is longer
        baseline=start,
        classes_=np.arange(max(2, len(start))),
    )


def _blocks(text: str) -> Iterator[dict[str, str]]:
    """The lines ``key=values`` of each tree."""
    trees = text.partition("\nend of trees")[0].split("\nTree=")[1:]
    for tree in trees:
        yield dict(line.split("=", 1) for line in tree.splitlines() if "=" in line)


def _nodes(tree: dict[str, str], splits: int, root: int) -> tuple[NDArray, ...]:
    """The arrays of PlainTrees for one tree, whose nodes begin at ``root``."""

    def numbers(key: str, dtype: type) -> NDArray:
        return np.array(tree.get(key, "").split(), dtype=dtype)

    kind, threshold = numbers("decision_type", np.int64), numbers("threshold", np.float64)
    missing = kind & _MISSING
    if (kind & _CATEGORICAL).any() or not np.isin(missing, (_NO_MISSING, _NAN_IS_MISSING)).all():
        raise RarelabError("model lightgbm: a split is on categories or takes 0 for a gap")
    gap_left = np.where(missing == _NO_MISSING, threshold >= 0, (kind & _DEFAULT_LEFT) > 0)
    value, leaves = numbers("leaf_value", np.float64), splits + 1
    itself = root + splits + np.arange(leaves)
    children = []
    for side in ("left_child", "right_child"):
        child = numbers(side, np.int64)  # ~i is leaf i
        children.append(np.append(root + np.where(child < 0, splits + ~child, child), itself))
    return (
        np.append(numbers("split_feature", np.int64), np.zeros(leaves, dtype=np.int64)),
        np.append(_beyond_zero(threshold), np.zeros(leaves)),
        np.append(gap_left, np.zeros(leaves, dtype=bool)),
        *children,
        np.append(np.zeros(splits), value),
    )


def _beyond_zero(threshold: NDArray[np.float64]) -> NDArray[np.float64]:
    above = np.where((threshold >= 0) & (threshold < _ZERO), _ZERO, threshold)
    return np.where((above < 0) & (above >= -_ZERO), np.nextafter(-_ZERO, -1), above)

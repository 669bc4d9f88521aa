"""The text formats of LightGBM and XGBoost, read as plain trees."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

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
    sizes = [2 * n + 1 for n in splits]
    parts = [_nodes(*tree) for tree in zip(trees, splits, _roots(sizes), strict=True)]
    return _joined(parts, sizes, max(splits), start)


def json_trees(text: str, start: NDArray[np.float64]) -> PlainTrees:
    """The trees of XGBoost's JSON.

    XGBoost goes left below a threshold, which is a float32; a row that equals it goes right, so
    the threshold becomes the float32 below.

    Args:
        text: a model in XGBoost's JSON, of one score or one tree for each of C scores in a round.
        start: the score before the first tree, [C]; the trees come by round, then by class.

    Raises:
        RarelabError: a split is on categories; this package grows none.
    """
    trees = json.loads(text)["learner"]["gradient_booster"]["model"]["trees"]
    trees = trees or [_LEAF] * len(start)
    sizes = [len(tree["left_children"]) for tree in trees]
    parts = [_of_json(*tree) for tree in zip(trees, _roots(sizes), strict=True)]
    return _joined(parts, sizes, max(sizes) // 2, start)


def _roots(sizes: Sequence[int]) -> list[int]:
    return (np.cumsum(sizes) - sizes).tolist()


def _joined(
    parts: Sequence[tuple[NDArray, ...]],
    sizes: Sequence[int],
    longest: int,
    start: NDArray[np.float64],
) -> PlainTrees:
    """The arrays of all trees, in which no path has more than ``longest`` splits."""
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
        roots=np.array(_roots(sizes)),
        depth=np.array([longest]),
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


_LEAF: Mapping[str, Any] = {
    **{"left_children": [-1], "right_children": [-1], "default_left": [0], "split_type": [0]},
    **{"split_indices": [0], "split_conditions": [0.0]},
}
"""A tree of XGBoost's without a split, which adds nothing."""


def _of_json(tree: Mapping[str, Any], root: int) -> tuple[NDArray, ...]:
    """The arrays of PlainTrees for one tree of XGBoost's, whose nodes begin at ``root``."""
    if any(tree["split_type"]):
        raise RarelabError("model xgboost: a split is on categories")
    left, right = (np.array(tree[side]) for side in ("left_children", "right_children"))
    leaf, itself = left < 0, root + np.arange(len(left))
    value = np.array(tree["split_conditions"], dtype=np.float32)  # of a leaf: what it adds
    return (
        np.where(leaf, 0, tree["split_indices"]),
        np.where(leaf, 0, np.nextafter(value, np.float32(-np.inf))).astype(np.float64),
        ~leaf & np.array(tree["default_left"], dtype=bool),
        np.where(leaf, itself, root + left),
        np.where(leaf, itself, root + right),
        np.where(leaf, value, 0).astype(np.float64),
    )


def _beyond_zero(threshold: NDArray[np.float64]) -> NDArray[np.float64]:
    above = np.where((threshold >= 0) & (threshold < _ZERO), _ZERO, threshold)
    return np.where((above < 0) & (above >= -_ZERO), np.nextafter(-_ZERO, -1), above)

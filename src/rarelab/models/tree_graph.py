"""Trees as an ONNX graph: one ``TreeEnsembleRegressor`` in double precision."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rarelab.models.trees import PlainTrees

OPSETS = {"": 18, "ai.onnx.ml": 3}


def tree_graph(
    trees: PlainTrees, outputs: Sequence[Sequence[tuple[int, float]]], base: NDArray[np.float64]
) -> Any:
    """An ONNX model from ``features`` float32 [N, F] to ``scores`` float32 [N, C].

    Args:
        trees: the trees; a feature may be NaN.
        outputs: for each of the K scores of an iteration, the columns of ``scores`` to which its
            trees add, each with a factor.
        base: scores before the first tree, [C].
    """
    from onnx import TensorProto, helper, numpy_helper

    def doubles(name: str, values: Any) -> Any:
        return numpy_helper.from_array(np.asarray(values, dtype=np.float64), name)

    sizes = np.diff([*trees.roots, len(trees.feature)])
    tree, first = np.repeat(np.arange(len(sizes)), sizes), np.repeat(trees.roots, sizes)
    own = np.arange(len(tree)) - first
    leaf = trees.left == np.arange(len(tree))
    targets = [
        (t, node, column, factor * value)
        for t, node, value in zip(tree[leaf], own[leaf], trees.value[leaf], strict=True)
        for column, factor in outputs[t % len(outputs)]
    ]
    of_tree, of_node, column, weight = zip(*targets, strict=True)
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["doubles"],
        ["sums"],
        domain="ai.onnx.ml",
        nodes_treeids=tree.tolist(),
        nodes_nodeids=own.tolist(),
        nodes_modes=["LEAF" if is_leaf else "BRANCH_LEQ" for is_leaf in leaf],
        nodes_featureids=trees.feature.tolist(),
        nodes_values_as_tensor=doubles("thresholds", np.where(leaf, 0, trees.threshold)),
        nodes_truenodeids=np.where(leaf, 0, trees.left - first).tolist(),
        nodes_falsenodeids=np.where(leaf, 0, trees.right - first).tolist(),
        nodes_missing_value_tracks_true=(trees.missing_left & ~leaf).astype(int).tolist(),
        target_treeids=[int(t) for t in of_tree],
        target_nodeids=[int(n) for n in of_node],
        target_ids=list(column),
        target_weights_as_tensor=doubles("leaves", weight),
        base_values_as_tensor=doubles("base", base),
        n_targets=len(base),
    )
    cast = helper.make_node("Cast", ["features"], ["doubles"], to=TensorProto.DOUBLE)
    # A column to which no tree adds would be left at 0.
    alone = np.where(np.isin(np.arange(len(base)), column), 0.0, base).astype(np.float32)
    add = helper.make_node("Add", ["sums", "alone"], ["scores"])
    graph = helper.make_graph(
        [cast, node, add],
        "trees",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", None])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows", len(base)])],
        [numpy_helper.from_array(alone, "alone")],
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    return helper.make_model(graph, opset_imports=opsets)

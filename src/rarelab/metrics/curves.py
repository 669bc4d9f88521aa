"""The two curves for choosing an alert budget: recall by quantile, precision by recall.

Curves with an integer x go to the metrics store point by point (x is the step); the exact
operating points, one per tie group that holds a positive, go to ``curves.json``.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rarelab.metrics import tie_groups as ties
from rarelab.metrics.exact import one_vs_rest
from rarelab.metrics.tie_groups import TieGroups, as_mask, tie_groups
from rarelab.metrics.value import valued_groups

# In basis points: every one up to 1 %, then every fifth up to 10 %; 280 points.
QUANTILE_STEPS = (*range(1, 101), *range(105, 1001, 5))
# In thousandths: 200 points.
RECALL_STEPS = tuple(range(5, 1001, 5))


def curves(
    logits: Tensor, targets: Tensor, *, classes: Sequence[str] | None = None
) -> dict[str, dict[str, Any]]:
    """Curves of logits [N, C] (or [N]) and targets [N], as plain lists ready for JSON.

    ``recall_at_q``: ``steps`` (quantile in basis points, 1..1000), ``values`` (recall among the top
    ⌈qN⌉, expected over random order among ties), ``best`` (min(⌈qN⌉, P) / P, the most any scorer
    can reach) and ``chance`` (⌈qN⌉ / N, a random scorer).
    ``precision_at_recall``: ``steps`` (recall in thousandths), ``values`` (precision at the highest
    threshold "score >= t" whose recall is at least r) and ``chance`` (the prevalence).
    Multi-class values are one-vs-rest, averaged over the classes present.
    ``exact``: by class name (binary: the name of class 1), the operating points of the thresholds
    "score >= t", t the scores of the positives: ``threshold``, ``recall``, ``precision``, ``fpr``,
    ``selected`` (rows at or above t), highest threshold first.

    Values are NaN without a positive or with a NaN score. Raises ValueError like
    ``one_vs_rest``.
    """
    scores, positives = one_vs_rest(logits, targets)
    groups = [tie_groups(scores[:, c], positives[:, c]) for c in range(scores.shape[1])]
    present = [g for g in groups if g.n_positives] or groups
    if any(g.has_nan for g in groups):
        present = [g for g in groups if g.has_nan]
    return {
        "recall_at_q": _average([_recall_at_quantiles(g) for g in present], QUANTILE_STEPS),
        "precision_at_recall": _average([_precision_at_recalls(g) for g in present], RECALL_STEPS),
        "exact": {
            name: _operating_points(g)
            for name, g in zip(_names(len(groups), classes), groups, strict=True)
        },
    }


def value_curve(logits: Tensor, targets: Tensor, amounts: ArrayLike) -> dict[str, list[Any]]:
    """``recall_at_q`` of the positives' amounts instead of their number, from logits [N, 1] (or
    [N]), targets [N] of 0 and 1, and the amount of each row [N]: the same ``steps``, ``values``,
    ``best`` (the most valuable positives come first) and ``chance``."""
    scores, positives = logits.reshape(len(targets)), targets == 1
    groups = valued_groups(scores, positives, amounts)
    worth = np.sort(np.asarray(amounts, dtype=np.float64)[as_mask(positives)])[::-1]
    return _average([_recall_at_quantiles(groups, worth)], QUANTILE_STEPS)


def _names(columns: int, classes: Sequence[str] | None) -> list[str]:
    expected = max(columns, 2)
    names = [str(i) for i in range(expected)] if classes is None else [str(c) for c in classes]
    if len(names) != expected:
        raise ValueError(f"expected {expected} class names, got {len(names)}")
    return names[1:] if columns == 1 else names


def _recall_at_quantiles(
    groups: TieGroups, worth: NDArray | None = None
) -> dict[str, NDArray[np.float64]]:
    """``worth``: the amounts of the positives, highest first, where ``groups`` are valued."""
    n, n_positives = groups.rows, groups.n_positives
    sizes = np.array([math.ceil(Fraction(step, 10_000) * n) for step in QUANTILE_STEPS])
    if n_positives == 0:
        unknown = np.full(len(sizes), math.nan)
        return {"values": unknown, "best": unknown, "chance": unknown}
    return {
        "values": ties.hits_in_top(groups, sizes) / n_positives,
        "best": (np.minimum(sizes, n_positives) if worth is None else _first(worth, sizes))
        / n_positives,
        "chance": sizes / n,
    }


def _first(worth: NDArray, sizes: NDArray) -> NDArray[np.float64]:
    return np.cumsum(worth)[np.minimum(sizes, len(worth)) - 1]


def _precision_at_recalls(groups: TieGroups) -> dict[str, NDArray[np.float64]]:
    n_positives = groups.n_positives
    if n_positives == 0:
        unknown = np.full(len(RECALL_STEPS), math.nan)
        return {"values": unknown, "chance": unknown}
    needed = [math.ceil(Fraction(step, 1000) * n_positives) for step in RECALL_STEPS]
    first = np.searchsorted(groups.hits, needed, side="left")
    return {
        "values": groups.hits[first] / groups.reached[first],
        "chance": np.full(len(RECALL_STEPS), n_positives / groups.rows),
    }


def _average(
    parts: list[dict[str, NDArray[np.float64]]], steps: Sequence[int]
) -> dict[str, list[Any]]:
    means = {key: np.mean([p[key] for p in parts], axis=0).tolist() for key in parts[0]}
    return {"steps": list(steps), **means}


def _operating_points(groups: TieGroups) -> dict[str, list[Any]]:
    n_negatives = groups.rows - groups.n_positives
    fpr = groups.false_positives / n_negatives if n_negatives else np.full(len(groups.hits), np.nan)
    return {
        "threshold": groups.score.astype(np.float64).tolist(),
        "recall": (groups.hits / max(groups.n_positives, 1)).tolist(),
        "precision": (groups.hits / groups.reached).tolist(),
        "fpr": fpr.tolist(),
        "selected": groups.reached.tolist(),
    }

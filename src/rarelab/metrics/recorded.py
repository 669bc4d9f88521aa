"""The metrics recorded for scored rows: every row of the table that has a function."""

import math
from collections.abc import Callable, Iterable, Sequence

from numpy.typing import ArrayLike
from torch import Tensor

from rarelab.metrics import tie_groups as ties
from rarelab.metrics.bootstrap import bootstrap_interval
from rarelab.metrics.exact import one_vs_rest, probabilities_of, safe_names
from rarelab.metrics.table import (
    AUCPR,
    VALUE_LEVEL,
    class_view,
    errors,
    is_valued,
    rankings,
    reporting,
    selecting,
)
from rarelab.metrics.tie_groups import TieGroups, tie_groups
from rarelab.metrics.value import amount_per_row, value_recall_interval, valued_groups


def validation_metrics(logits: Tensor, targets: Tensor, select_by: str = AUCPR) -> dict[str, float]:
    """The table's ``val/...`` metrics of one epoch, from logits [N, C] (or [N]) and targets [N],
    and the one that chooses the epoch if it is at another level.

    One sort per class serves them all. ``targets`` are class indices, with C = 1 they are 0 or 1.
    """
    groups = _groups_of_classes(logits, targets)
    metrics = {f"val/{name}": metric for name, metric in rankings("val")}
    metrics.setdefault(select_by, selecting(select_by))
    return {key: _macro(groups, metric) for key, metric in metrics.items()}


def evaluate(
    logits: Tensor,
    targets: Tensor,
    *,
    classes: Sequence[str],
    prefix: str = "test",
    bootstrap_seed: int = 0,
    bootstrap_samples: int = 1000,
) -> dict[str, float]:
    """Every recorded metric of logits [N, C] (or [N]) and targets [N], keyed ``prefix/...``.

    ``classes`` are the names by index (two names in the binary case, C = 1). Multi-class values are
    macro averages over the classes present, plus ``prefix/class/<name>/aucpr``; ``aucpr_lo``
    and ``aucpr_hi`` bound the average. ``prevalence`` is the average precision of a
    random scorer. ``bootstrap_samples=0`` skips the interval.

    Raises ValueError if the shapes or the number of names do not match, or a target is not a class.
    """
    scores, positives = one_vs_rest(logits, targets)
    if scores.shape[1] > 1 and len(classes) != scores.shape[1]:
        raise ValueError(f"{len(classes)} class names for {scores.shape[1]} columns of logits")
    groups = _groups_of_classes(logits, targets)
    found = {name: _macro(groups, metric) for name, metric in rankings("test")}
    found |= calibration_errors(probabilities_of(scores), positives)
    if bootstrap_samples:
        found["aucpr_lo"], found["aucpr_hi"] = bootstrap_interval(
            scores, positives, seed=bootstrap_seed, n=bootstrap_samples
        )
    if scores.shape[1] > 1:
        for name, group in zip(safe_names(classes), groups, strict=True):
            found[f"class/{name}/aucpr"] = ties.average_precision(group)
    return {f"{prefix}/{key}": value for key, value in found.items()}


def evaluate_value(
    logits: Tensor,
    targets: Tensor,
    amounts: ArrayLike,
    *,
    split: str = "test",
    bootstrap_seed: int = 0,
    bootstrap_samples: int = 1000,
) -> dict[str, float]:
    """The recorded metrics of what the positives are worth, keyed ``split/...``, from logits [N, 1]
    (or [N]), targets [N] of 0 and 1, and the amount of each row [N].

    Of the test rows also the interval of value-weighted recall at ``VALUE_LEVEL``, unless
    ``bootstrap_samples`` is 0, and the positives' amount per row.
    """
    scores, positives = logits.reshape(len(targets)), targets == 1
    groups = valued_groups(scores, positives, amounts)
    found = {name: metric(groups) for name, metric in rankings(split, valued=True)}
    if split == "test":
        found["amount_per_row"] = amount_per_row(positives, amounts)
        if bootstrap_samples:
            low, high = value_recall_interval(
                *(scores, positives, amounts, VALUE_LEVEL),
                seed=bootstrap_seed,
                n=bootstrap_samples,
            )
            found[f"value_recall_at_q_lo/{VALUE_LEVEL}"] = low
            found[f"value_recall_at_q_hi/{VALUE_LEVEL}"] = high
    return {f"{split}/{key}": value for key, value in found.items()}


def reported(
    key: str,
    logits: Tensor,
    targets: Tensor,
    *,
    classes: Sequence[str],
    amounts: ArrayLike | None = None,
) -> float | None:
    """A single ranking metric, as :func:`evaluate` records it from the same rows, but at any level
    in (0, 1), and of one class (``test/class/<name>/...``); None if that is not one of several, or
    if it is about amounts and there are none.

    Raises ValueError if there is no such metric.
    """
    metric, view = reporting(key), class_view(key)
    if is_valued(key):
        if amounts is None:
            return None
        return metric(valued_groups(logits.reshape(len(targets)), targets == 1, amounts))
    groups = _groups_of_classes(logits, targets)
    if not view:
        return _macro(groups, metric)
    if len(groups) == 1:
        return None
    own = {
        f"test/class/{name}/": group
        for name, group in zip(safe_names(classes), groups, strict=True)
    }
    return metric(own[view]) if view in own else None


def calibration_errors(probabilities: Tensor, positives: Tensor) -> dict[str, float]:
    """The table's metrics of probabilities, ``brier`` and ``ece``: macro averages over the classes
    present, from probabilities and positives [N, C]."""
    classes = range(probabilities.shape[1])
    present = [c for c in classes if bool(positives[:, c].any())]
    columns = [(probabilities[:, c], positives[:, c]) for c in present or classes]
    return {name: _mean(metric(p, y) for p, y in columns) for name, metric in errors()}


def _groups_of_classes(logits: Tensor, targets: Tensor) -> list[TieGroups]:
    scores, positives = one_vs_rest(logits, targets)
    return [tie_groups(scores[:, c], positives[:, c]) for c in range(scores.shape[1])]


def _macro(groups: Sequence[TieGroups], metric: Callable[[TieGroups], float]) -> float:
    if any(g.has_nan for g in groups):
        return math.nan
    present = [g for g in groups if g.n_positives] or groups
    return _mean(metric(g) for g in present)


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return math.fsum(values) / len(values) if values else math.nan

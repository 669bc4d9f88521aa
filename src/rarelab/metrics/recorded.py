"""The metrics recorded for scored rows: every row of the table that has a function."""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from rarelab.metrics import tie_groups as ties
from rarelab.metrics.bootstrap import bootstrap_interval
from rarelab.metrics.budget import Budget
from rarelab.metrics.exact import one_vs_rest, probabilities_of, safe_names
from rarelab.metrics.rankings import rankings, reporting, selecting
from rarelab.metrics.table import (
    AUCPR,
    VALUE_LEVEL,
    best_key,
    class_view,
    errors,
    is_at_budget,
    is_valued,
)
from rarelab.metrics.tie_groups import TieGroups, tie_groups, top_size
from rarelab.metrics.value import amount_per_row, value_recall_interval, valued_groups


def validation_metrics(
    logits: Tensor, targets: Tensor, select_by: str = AUCPR, alerts: int | None = None
) -> dict[str, float]:
    """The table's ``val/...`` metrics of one epoch, from logits [N, C] (or [N]) and targets [N],
    and the one that chooses the epoch if it is at another level; those at the budget if so many of
    the rows may alert.

    One sort per class serves them all. ``targets`` are class indices, with C = 1 they are 0 or 1.
    """
    groups = _groups_of_classes(logits, targets)
    metrics = {f"val/{name}": metric for name, metric in rankings("val", alerts)}
    metrics.setdefault(select_by, selecting(select_by, alerts))
    return {key: _macro(groups, metric) for key, metric in metrics.items()}


def evaluate(
    logits: Tensor,
    targets: Tensor,
    *,
    classes: Sequence[str],
    prefix: str = "test",
    bootstrap_seed: int = 0,
    bootstrap_samples: int = 1000,
    budgets: Sequence[Budget] = (),
    days: int | None = None,
) -> dict[str, float]:
    """Every recorded metric of logits [N, C] (or [N]) and targets [N], keyed ``prefix/...``.

    ``classes`` are the names by index (two names in the binary case, C = 1). Multi-class values are
    macro averages over the classes present, plus ``prefix/class/<name>/aucpr`` and, with the rows
    ranked for each class by its softmax probability instead of its logit, ``softmax_aucpr``;
    ``aucpr_lo`` and ``aucpr_hi`` bound the average. ``prevalence`` is the average precision of a
    random scorer. ``bootstrap_samples=0`` skips the interval. The first of ``budgets`` adds the
    metrics at the budget, the others recall and precision at their shares; ``days`` is how many
    days the rows span.

    Raises ValueError if the shapes or the number of names do not match, or a target is not a class.
    """
    scores, positives = one_vs_rest(logits, targets)
    if scores.shape[1] > 1 and len(classes) != scores.shape[1]:
        raise ValueError(f"{len(classes)} class names for {scores.shape[1]} columns of logits")
    groups = _groups_of_classes(logits, targets)
    alerts = budgets[0].alerts(len(scores), days) if budgets else None
    metrics = dict(rankings("test", alerts)) | _at_further(budgets)
    found = {name: _macro(groups, metric) for name, metric in metrics.items()}
    found |= calibration_errors(probabilities_of(scores), positives)
    if bootstrap_samples:
        found["aucpr_lo"], found["aucpr_hi"] = bootstrap_interval(
            scores, positives, seed=bootstrap_seed, n=bootstrap_samples
        )
    if scores.shape[1] > 1:
        # A constant added to all logits of a row leaves cross-entropy as it is, but not a ranking.
        shares = _groups_of_classes(scores.double().log_softmax(dim=1), targets)
        found["softmax_aucpr"] = _macro(shares, ties.average_precision)
        for name, group in zip(safe_names(classes), groups, strict=True):
            found[f"class/{name}/aucpr"] = ties.average_precision(group)
    return {f"{prefix}/{key}": value for key, value in found.items()}


def at_budget(logits: Tensor, targets: Tensor, alerts: int) -> dict[str, float]:
    """The metrics at the budget, by name (``recall_at_budget``), where so many rows may alert."""
    groups = _groups_of_classes(logits, targets)
    names = [(name, metric) for name, metric in rankings("test", alerts)]
    names = [(name, metric) for name, metric in names if is_at_budget(f"test/{name}")]
    return {name: _macro(groups, metric) for name, metric in names}


def evaluate_value(
    logits: Tensor,
    targets: Tensor,
    amounts: ArrayLike,
    *,
    bootstrap_seed: int = 0,
    bootstrap_samples: int = 1000,
    budgets: Sequence[Budget] = (),
    days: int | None = None,
) -> dict[str, float]:
    """The recorded metrics of what the positives among the test rows are worth, from logits [N, 1]
    (or [N]), targets [N] of 0 and 1, and the amount of each row [N].

    Value-weighted recall at the levels and budgets of :func:`evaluate`, its interval at the first
    budget, else at ``VALUE_LEVEL`` (unless ``bootstrap_samples`` is 0), and the positives' amount
    per row.
    """
    scores, positives = logits.reshape(len(targets)), targets == 1
    groups = valued_groups(scores, positives, amounts)
    alerts = budgets[0].alerts(len(targets), days) if budgets else None
    metrics = dict(rankings("test", alerts, valued=True)) | _at_further(budgets, ("value_recall",))
    found = {name: metric(groups) for name, metric in metrics.items()}
    found["amount_per_row"] = amount_per_row(positives, amounts)
    if bootstrap_samples:
        at, end = ("at_q", f"/{VALUE_LEVEL}") if alerts is None else ("at_budget", "")
        size = top_size(VALUE_LEVEL, len(targets)) if alerts is None else alerts
        interval = value_recall_interval(
            scores, positives, amounts, size, seed=bootstrap_seed, n=bootstrap_samples
        )
        for side, bound in zip(("lo", "hi"), interval, strict=True):
            found[f"value_recall_{at}_{side}{end}"] = bound
    return {f"test/{key}": value for key, value in found.items()}


def validation_value(
    logits: Tensor, targets: Tensor, amounts: ArrayLike, alerts: int | None = None
) -> dict[str, float]:
    """Value-weighted recall of the validation rows at the chosen epoch, from the same arguments, at
    ``VALUE_LEVEL`` and where so many rows may alert."""
    groups = valued_groups(logits.reshape(len(targets)), targets == 1, amounts)
    found = {f"val/value_recall_at_q/{VALUE_LEVEL}": ties.recall_in_top(groups, VALUE_LEVEL)}
    if alerts is not None:
        found["val/value_recall_at_budget"] = ties.recall_in_first(groups, alerts)
    return {best_key(key): value for key, value in found.items()}


def evaluate_weighted(
    logits: Tensor, targets: Tensor, weights: ArrayLike, *, split: str = "test"
) -> dict[str, float]:
    """Average precision, and recall and precision in the top q of the weight, of weighted rows:
    logits [N, C] (or [N]), targets [N], weights [N]. Keyed ``test/weighted/...``; of the validation
    rows the first alone, ``best/val_weighted_aucpr``. Ties as in :func:`evaluate`."""
    weight = torch.as_tensor(np.asarray(weights, dtype=np.float64))
    scores, positives = one_vs_rest(logits, targets)
    groups = [tie_groups(scores[:, c], positives[:, c], weight) for c in range(scores.shape[1])]
    if split != "test":
        return {best_key("val/weighted_aucpr"): _macro(groups, ties.average_precision)}
    kinds = ("aucpr", "recall_at_q", "precision_at_q")
    chosen = {n: f for n, f in rankings("test") if n.partition("/")[0] in kinds}
    return {f"test/weighted/{name}": _macro(groups, metric) for name, metric in chosen.items()}


def reported(
    key: str,
    logits: Tensor,
    targets: Tensor,
    *,
    classes: Sequence[str],
    alerts: int | None = None,
    amounts: ArrayLike | None = None,
) -> float | None:
    """A single ranking metric, as :func:`evaluate` records it from the same rows, but at any level
    in (0, 1), and of one class (``test/class/<name>/...``); None if that is not one of several, if
    it is a metric at the budget and it is not known how many rows may alert, or if it is about
    amounts and there are none.

    Raises ValueError if there is no such metric.
    """
    metric, view = reporting(key, alerts=alerts), class_view(key)
    if is_at_budget(key) and alerts is None:
        return None
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


def places(budgets: Sequence[Budget]) -> list[tuple[Budget, str]]:
    """Each budget with the end of the keys of what is recorded at it: ``at_budget`` of the first,
    ``at_q/SHARE`` of the others."""
    return [(b, f"at_q/{b.share}" if place else "at_budget") for place, b in enumerate(budgets)]


def _at_further(
    budgets: Sequence[Budget], kinds: Sequence[str] = ("recall", "precision")
) -> dict[str, Callable[[TieGroups], float]]:
    """Recall and precision at the budgets after the first."""
    names = [f"{kind}_{place}" for _, place in places(budgets)[1:] for kind in kinds]
    return {name: reporting(f"test/{name}") for name in names}


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

"""The table printed at the end of a run: the metrics marked for it in ``metrics.table``."""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch

from rarelab.data.given import SCORE
from rarelab.data.splits import Splits, Table
from rarelab.metrics.bootstrap import FEWEST_POSITIVES
from rarelab.metrics.budget import Budget
from rarelab.metrics.recorded import evaluate, places
from rarelab.metrics.table import LEVELS, TABLE, VALUE_LEVEL, Metric, Place
from rarelab.metrics.thresholds import AlertRule, exact_interval

_ROWS = [row for row in TABLE if Place.RUN in row.shown]
_ERRORS = [row for row in TABLE if row.probability]


def test_table(
    metrics: Mapping[str, float],
    splits: Splits,
    budgets: Sequence[Budget] = (),
    rule: AlertRule | None = None,
) -> str:
    """Test AUCPR with its bootstrap interval and chance level, AUROC, and the alert budgets: the
    fixed levels, and those asked for.

    Value-weighted recall if the rows have amounts; what a threshold chosen on validation gives,
    with exact binomial intervals; calibrated errors beside the raw ones if calibrated; the expected
    cost if there are costs; what the models in use reached.
    """
    rows = int((splits.test.y >= 0).sum())
    header = "".join(f"{100 * level:>8g} %" for level in LEVELS)
    lines = [f"test: {splits.name}, {rows:,} rows, {_positives(splits)}"]
    lines += [_line(row, metrics) for row in _ROWS if row.ranking and not row.levels]
    lines.append(f"  at the top {header}   of the scores")
    lines += [_at_levels(row, metrics) for row in _ROWS if row.levels and _has(row, metrics)]
    lines += [_at_budget(budget, place, metrics, splits) for budget, place in places(budgets)]
    if "test/weighted/aucpr" in metrics:
        lines.append(_weighted(metrics))
    if rule is not None and "test/threshold/alerts" in metrics:
        lines.append(_at_threshold(rule, metrics, int((splits.test.labels() == 1).sum())))
    if any(f"test/calibrated/{row.name}" in metrics for row in _ERRORS):
        lines.append(f"  calibrated {_errors(metrics, 'test/calibrated')}")
        lines.append(f"  as scored  {_errors(metrics, 'test')}")
    others = [row for row in _ROWS if not row.ranking and row.key in metrics]
    lines += [_line(row, metrics) for row in others]
    return "\n".join([*lines, *_in_use(splits.test)])


def _in_use(test: Table) -> Iterator[str]:
    """What the models in use reached on these rows (``dataset.scores``)."""
    for column, scores in (test.origin or {}).items():
        if column.startswith(SCORE):
            logits = torch.tensor(scores)
            found = evaluate(logits, test.y, classes=(), bootstrap_samples=0)
            aucpr, recall = found["test/aucpr"], found["test/recall_at_q/0.005"]
            name = column.removeprefix(SCORE)
            yield f"  in use: {name}  AUCPR {aucpr:.4f}, recall {recall:.4f} at the top 0.5 %"


def trained_too_short(metrics: Mapping[str, float], count: int, *, rounds: bool = False) -> str:
    """A note if the best of several epochs, or ``rounds`` of boosting, was the last, else
    nothing."""
    if count == 1 or metrics.get("best/epoch") != count - 1:  # counted from 0
        return ""
    unit, key = ("round", "model.num_iterations") if rounds else ("epoch", "trainer.max_epochs")
    return (
        f"note: the best {unit} was the last one ({count} of {count}), so this was perhaps trained"
        f" too short: raise {key}\n"
    )


def _line(row: Metric, metrics: Mapping[str, float]) -> str:
    value = metrics[row.key]
    shown = f"{value:.4f}" if row.share else f"{value:.6g}"
    return f"  {row.label:<10} {shown}{_remark(row.key, metrics)}"


def _remark(key: str, metrics: Mapping[str, float]) -> str:
    if key == "test/aucpr":
        low, high = metrics["test/aucpr_lo"], metrics["test/aucpr_hi"]
        interval = f"[{low:.4f}, {high:.4f}] 95 % over test rows"
        if math.isnan(low):
            interval = f"no interval: fewer than {FEWEST_POSITIVES} positives in test"
        return f"  {interval};  chance {metrics['test/prevalence']:.4f}"
    return " a row" if key == "test/expected_cost" else ""


def _has(row: Metric, metrics: Mapping[str, float]) -> bool:
    return not row.valued or row.keys(row.shown[Place.RUN])[0] in metrics


def _at_levels(row: Metric, metrics: Mapping[str, float]) -> str:
    keys = row.keys(row.shown[Place.RUN])
    at, where = f"value_recall_at_q_{{}}/{VALUE_LEVEL}", f"at {100 * VALUE_LEVEL:g} % "
    remark = f"  {_of_the_amount(metrics, at, where)}" if row.valued else ""
    return f"  {row.label:<10} " + "".join(f"{metrics[key]:>10.4f}" for key in keys) + remark


def _of_the_amount(metrics: Mapping[str, float], key: str, where: str = "") -> str:
    """The unit of value-weighted recall, and its interval if that was recorded."""
    low, high = (metrics.get(f"test/{key.format(end)}", math.nan) for end in ("lo", "hi"))
    interval = "" if math.isnan(low) else f", {where}[{low:.4f}, {high:.4f}]"
    return f" of the positives' amount{interval}"


def _at_budget(budget: Budget, place: str, metrics: Mapping[str, float], splits: Splits) -> str:
    labels = splits.test.labels()
    alerts = f"{budget.alerts(len(labels), splits.test.days):,} alerts"
    recall, precision = (metrics[f"test/{name}_{place}"] for name in ("recall", "precision"))
    if splits.task == "binary":
        positives = int((labels == 1).sum())
        caught = f"{round(recall * positives, 1):,.1f}".removesuffix(".0")  # ties count in part
        told = f"caught {caught} of {positives:,} with {alerts}"
    else:
        told = f"{alerts} of each class"
    if (value := metrics.get(f"test/value_recall_{place}")) is not None:
        told += f"; value {value:.4f}{_of_the_amount(metrics, f'value_recall_{place}_{{}}')}"
    return f"  {'budget':<10} {budget}: recall {recall:.4f}, precision {precision:.4f}; {told}"


def _weighted(metrics: Mapping[str, float]) -> str:
    recalls = " ".join(f"{metrics[f'test/weighted/recall_at_q/{level}']:.4f}" for level in LEVELS)
    return (
        f"  {'weighted':<10} AUCPR {metrics['test/weighted/aucpr']:.4f}, recall {recalls} at these "
        "levels of the weight (dataset.sample_weight); the lines above count every row once"
    )


def _at_threshold(rule: AlertRule, metrics: Mapping[str, float], positives: int) -> str:
    """What was promised on validation, and what came of it on test."""
    alerts, recall = int(metrics["test/threshold/alerts"]), metrics["test/threshold/recall"]
    hits = round(recall * positives)
    promised, came = [], []
    for name, count in (("precision", alerts), ("recall", positives)):
        promised.append(f"{name} {metrics[f'val/threshold/{name}']:.4f}")
        low, high = exact_interval(hits, count)
        came.append(f"{name} {metrics[f'test/threshold/{name}']:.4f} [{low:.4f}, {high:.4f}]")
    return (
        f"  {'threshold':<10} {rule}: {', '.join(promised)} on validation; on test "
        f"{', '.join(came)}, {alerts:,} alerts"
    )


def _errors(metrics: Mapping[str, float], prefix: str) -> str:
    return ", ".join(f"{row.label} {metrics[f'{prefix}/{row.name}']:.6f}" for row in _ERRORS)


def _positives(splits: Splits) -> str:
    if splits.task == "binary":
        return f"{int((splits.test.y == 1).sum()):,} positives"
    return f"{len(splits.classes)} classes (macro averages)"

"""Evaluate a run: write test metrics, exact curves, predictions and figures to its folder."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from rarelab.data.given import AMOUNT, WEIGHT
from rarelab.errors import RequestError
from rarelab.figures.run import run_figures
from rarelab.metrics import calibration_errors, evaluate, one_vs_rest, probabilities_of
from rarelab.metrics.budget import DAYS, Budget
from rarelab.metrics.calibration import Method, fit, scarce
from rarelab.metrics.costs import Matrix, expected_cost
from rarelab.metrics.curves import curves, value_curve
from rarelab.metrics.recorded import (
    at_budget,
    evaluate_value,
    evaluate_weighted,
    places,
    validation_value,
)
from rarelab.metrics.reliability import reliability
from rarelab.metrics.table import best_key
from rarelab.metrics.thresholds import AlertRule, applied, chosen
from rarelab.training.history import read_rows

log = logging.getLogger("rarelab")

Scored = tuple[Tensor, Tensor]
"""Raw scores [N, C] and class indices [N] of the rows of one split."""

Days = Mapping[str, int | None]
"""The :attr:`~rarelab.data.splits.Table.days` of each split."""

Origin = Mapping[str, Any] | None
"""The :attr:`~rarelab.data.splits.Table.origin` of a split."""


def evaluate_and_write(
    directory: Path,
    scored: Mapping[str, Scored],
    classes: Sequence[str],
    *,
    seed: int,
    calibration: Method = "none",
    costs: Matrix | None = None,
    figures: bool = True,
    origins: Mapping[str, Origin] | None = None,
    budgets: Sequence[Budget] = (),
    days: Days | None = None,
    rule: AlertRule | None = None,
) -> dict[str, float]:
    """Write ``predictions.parquet``, ``curves.json`` and ``figures/``; return the test metrics.

    A calibration adds ``calibration.json`` and the calibrated errors beside the raw ones; costs add
    ``decision.json`` and the expected cost; a budget ``budget.json``, the metrics at it, and those
    of the validation rows as ``best/val_...``.

    Args:
        directory: the run's folder, which holds its ``history.jsonl``.
        scored: raw scores and targets for ``val`` and ``test``.
        classes: names by class index.
        seed: seed of the bootstrap over test rows.
        calibration: method, fitted on the validation rows.
        costs: costs[true class][decision].
        figures: whether to draw figures.
        origins: for ``val`` and ``test``, the columns that say which row of the table each is; with
            ``given/amount``, of a binary task, what the positives are worth is recorded too, and
            with ``given/weight`` the metrics of weighted rows.
        budgets: *the* budget first; of the others, recall and precision on test are added.
        days: for ``val`` and ``test``, how many days the rows span, if they are dated.
        rule: chooses a threshold on the validation rows, whose precision, recall and alerts on
            test are recorded (``threshold.json``).
    """
    logits, targets = scored["test"]
    days = days or {}
    asked = {"budgets": budgets, "days": days.get("test")}
    metrics = evaluate(logits, targets, classes=classes, bootstrap_seed=seed, **asked)
    found: dict[str, Any] = {**curves(logits, targets, classes=classes)}
    if budgets:
        found["at_budget"] = [
            {
                "share": budget.alerts(len(targets), days.get("test")) / len(targets),
                "recall": metrics[f"test/recall_{place}"],
            }
            for budget, place in places(budgets)
        ]
        metrics |= _at_budget(directory, budgets[0], scored["val"], days.get("val"))
    for split, weights in _given(WEIGHT, scored, origins).items():
        metrics |= evaluate_weighted(*scored[split], weights, split=split)
    amounts = _given(AMOUNT, scored, origins) if logits.shape[1] == 1 else {}
    if "test" in amounts:
        worth = amounts["test"]
        metrics |= evaluate_value(logits, targets, worth, bootstrap_seed=seed, **asked)
        found["value_recall_at_q"] = value_curve(logits, targets, worth)
    if "val" in amounts:
        alerts = budgets[0].alerts(len(scored["val"][1]), days.get("val")) if budgets else None
        metrics |= validation_value(*scored["val"], amounts["val"], alerts)
    probabilities = {"as scored": probabilities_of(logits)}
    if calibration != "none":
        for name in scarce(scored["val"][1], classes):
            log.warning("note: %s is fitted on few validation rows of class %s", calibration, name)
        calibrator = fit(calibration, *scored["val"])
        _write(directory / "calibration.json", calibrator.state())
        probabilities[calibration] = calibrator(logits)
    _, positives = one_vs_rest(logits, targets)
    found["reliability"] = {name: reliability(p, positives) for name, p in probabilities.items()}
    best = probabilities.get(calibration, probabilities["as scored"])
    if calibration != "none":
        errors = calibration_errors(best, positives)
        metrics |= {f"test/calibrated/{key}": value for key, value in errors.items()}
    threshold = None
    if costs is not None:
        metrics["test/expected_cost"], threshold = expected_cost(
            scored["val"], scored["test"], best, costs, amounts
        )
        # JSON has no NaN, which stands for what the row is worth.
        priced = [[None if np.isnan(cost) else cost for cost in row] for row in costs.tolist()]
        _write(directory / "decision.json", {"costs": priced, "threshold": threshold})
    if rule is not None:
        metrics |= _at_threshold(directory, rule, scored, classes, threshold)
    _write(directory / "curves.json", found)
    write_predictions(directory / "predictions.parquet", scored, classes, origins, days)
    if figures:
        rows = read_rows(directory / "history.jsonl")
        run_figures(directory, rows, found, logits, targets, classes)
    return metrics


def _given(
    column: str, scored: Mapping[str, Scored], origins: Mapping[str, Origin] | None
) -> dict[str, NDArray[np.float64]]:
    """What the data set says of the rows of each split in a column, where it does."""
    known = {split: (origins or {}).get(split) or {} for split in scored}
    return {split: columns[column] for split, columns in known.items() if column in columns}


def _at_budget(
    directory: Path, budget: Budget, scored: Scored, days: int | None
) -> dict[str, float]:
    """Write ``budget.json`` and return what the budget gives on the validation rows."""
    alerts = budget.alerts(len(scored[1]), days)
    _write(directory / "budget.json", {"budget": budget.value, "alerts": alerts, "days": days})
    return {best_key(f"val/{k}"): value for k, value in at_budget(*scored, alerts).items()}


def _at_threshold(
    directory: Path,
    rule: AlertRule,
    scored: Mapping[str, Scored],
    classes: Sequence[str],
    cheapest: float | None,
) -> dict[str, float]:
    """Write ``threshold.json`` and return what was promised on validation and what came of it on
    test; nothing, with a note, where validation does not reach what the rule asks for."""
    rows = {name: (s[:, 0].numpy(), (y == 1).numpy()) for name, (s, y) in scored.items()}
    try:
        promised = chosen(rule, *rows["val"], classes, cheapest=cheapest)
    except RequestError as error:
        log.warning("note: threshold: %s; nothing is recorded at it", error)
        return {}
    kept = applied(promised.value, *rows["test"])
    parts = {"val": promised, "test": kept}
    counts = {name: dict(vars(part)) for name, part in parts.items()}
    _write(directory / "threshold.json", {"rule": str(rule), **counts})
    found = {"test/threshold/alerts": float(kept.alerts)}
    for name, part in parts.items():
        found[f"{name}/threshold/precision"] = part.precision
        found[f"{name}/threshold/recall"] = part.recall
    return found


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def write_predictions(
    path: Path,
    scored: Mapping[str, Scored],
    classes: Sequence[str],
    origins: Mapping[str, Origin] | None = None,
    days: Days | None = None,
) -> None:
    """One row per scored row: ``split``, ``row``, the kept columns, ``target``, raw scores.

    ``row`` is the row's number in the table as read, counted from 0 without the header, as in
    ``rarelab predict``; for rows that come from no table, the position in the split. The scores are
    ``score`` in the binary case and ``score/<class>`` for each class otherwise. ``days`` of dated
    rows go to the file's own metadata.
    """
    where = {
        split: (origins or {}).get(split) or {"row": np.arange(len(targets))}
        for split, (_, targets) in scored.items()
    }
    sizes = [len(targets) for _, targets in scored.values()]
    columns = {"split": pa.array(np.repeat([*scored], sizes)).dictionary_encode()}
    for name in next(iter(where.values())):
        columns[name] = _column([origin[name] for origin in where.values()])
    columns["target"] = pa.array(torch.cat([targets for _, targets in scored.values()]).numpy())
    logits = torch.cat([logits for logits, _ in scored.values()])
    names = ["score"] if logits.shape[1] == 1 else [f"score/{name}" for name in classes]
    columns |= {name: pa.array(logits[:, c].numpy()) for c, name in enumerate(names)}
    table = pa.table(columns)
    dated = {split: count for split, count in (days or {}).items() if count is not None}
    if dated:
        table = table.replace_schema_metadata({DAYS: json.dumps(dated)})
    pq.write_table(table, path)


def _column(parts: Sequence[Any]) -> pa.Array:
    if isinstance(parts[0], np.ndarray):
        return pa.array(np.concatenate(parts))
    values = pd.concat(parts)
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # values of several types
        return pa.array(values.map(str, na_action="ignore"), from_pandas=True)

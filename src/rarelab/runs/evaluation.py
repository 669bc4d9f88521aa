"""Evaluate a run: write test metrics, exact curves, predictions and figures to its folder."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from rarelab.figures.run import run_figures
from rarelab.metrics import calibration_errors, evaluate, one_vs_rest, probabilities_of
from rarelab.metrics.calibration import Method, fit, scarce
from rarelab.metrics.costs import Matrix, expected_cost
from rarelab.metrics.curves import curves
from rarelab.metrics.reliability import reliability
from rarelab.training.history import read_rows

log = logging.getLogger("rarelab")

Scored = tuple[Tensor, Tensor]
"""Raw scores [N, C] and class indices [N] of the rows of one split."""


def evaluate_and_write(
    directory: Path,
    scored: Mapping[str, Scored],
    classes: Sequence[str],
    *,
    seed: int,
    calibration: Method = "none",
    costs: Matrix | None = None,
    figures: bool = True,
) -> dict[str, float]:
    """Write ``predictions.parquet``, ``curves.json`` and ``figures/``; return the test metrics.

    A calibration adds ``calibration.json`` and the calibrated errors beside the raw ones; costs add
    ``decision.json`` and the expected cost.

    Args:
        directory: the run's folder, which holds its ``history.jsonl``.
        scored: raw scores and targets for ``val`` and ``test``.
        classes: names by class index.
        seed: seed of the bootstrap over test rows.
        calibration: method, fitted on the validation rows.
        costs: costs[true class][decision].
        figures: whether to draw figures.
    """
    logits, targets = scored["test"]
    metrics = evaluate(logits, targets, classes=classes, bootstrap_seed=seed)
    found = curves(logits, targets, classes=classes)
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
    if costs is not None:
        metrics["test/expected_cost"], threshold = expected_cost(
            scored["val"], scored["test"], best, costs
        )
        _write(directory / "decision.json", {"costs": costs.tolist(), "threshold": threshold})
    _write(directory / "curves.json", found)
    write_predictions(directory / "predictions.parquet", scored, classes)
    if figures:
        rows = read_rows(directory / "history.jsonl")
        run_figures(directory, rows, found, logits, targets, classes)
    return metrics


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def write_predictions(path: Path, scored: Mapping[str, Scored], classes: Sequence[str]) -> None:
    """One row per scored row: ``split``, ``row`` (position in the split), ``target``, raw scores.

    The column is ``score`` in the binary case and ``score/<class>`` for each class otherwise.
    """
    tables = []
    for split, (logits, targets) in scored.items():
        names = ["score"] if logits.shape[1] == 1 else [f"score/{name}" for name in classes]
        columns = {
            "split": pa.array([split] * len(targets)).dictionary_encode(),
            "row": pa.array(range(len(targets)), pa.int64()),
            "target": pa.array(targets.numpy()),
        }
        columns |= {name: pa.array(logits[:, c].numpy()) for c, name in enumerate(names)}
        tables.append(pa.table(columns))
    pq.write_table(pa.concat_tables(tables, promote_options="default"), path)

"""The end of a run: test metrics, exact curves, predictions and pictures, in the run's folder."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from rarelab.curves import curves
from rarelab.figures import run_figures
from rarelab.metrics import evaluate
from rarelab.training.history import read_rows

Scored = tuple[Tensor, Tensor]
"""Raw scores [N, C] and class indices [N] of the rows of one split."""


def evaluate_and_write(
    directory: Path, scored: Mapping[str, Scored], classes: Sequence[str], *, seed: int
) -> dict[str, float]:
    """Write ``predictions.parquet``, ``curves.json`` and ``figures/``; return the test metrics.

    Args:
        directory: the run's folder, which holds its ``history.jsonl``.
        scored: raw scores and targets of ``val`` and ``test``.
        classes: names by class index.
        seed: of the bootstrap over test rows.
    """
    logits, targets = scored["test"]
    metrics = evaluate(logits, targets, classes=classes, bootstrap_seed=seed)
    found = curves(logits, targets, classes=classes)
    (directory / "curves.json").write_text(json.dumps(found), encoding="utf-8")
    write_predictions(directory / "predictions.parquet", scored, classes)
    rows = read_rows(directory / "history.jsonl")
    run_figures(directory, rows, found, logits, targets, classes)
    return metrics


def write_predictions(path: Path, scored: Mapping[str, Scored], classes: Sequence[str]) -> None:
    """One row per scored row: ``split``, ``row`` (its position there), ``target``, raw scores.

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

"""Fake recorded runs: what a sweep leaves in MLflow and on disk, written without training."""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rarelab.metrics.curves import curves
from rarelab.runs.evaluation import write_predictions
from rarelab.tracking import client
from rarelab.tracking.store import ensure_experiment, sqlite_uri
from rarelab.tracking.writer import ENDINGS

BCE = {"loss": "bce", "loss._target_": "rarelab.losses.plain_loss"}
SMOOTH_AP = {
    "loss": "smooth_ap",
    "loss._target_": "rarelab.losses.SmoothAPLoss",
    "loss.queue_size": "1024",
}
CREDITCARD = {
    "dataset": "creditcard",
    "dataset._target_": "rarelab.data.sets.creditcard.creditcard",
    "dataset.split_seed": "0",
}
TOY = {"dataset": "toy", "dataset._target_": "rarelab.data.toy.Toy", "dataset.pos_rate": "0.005"}
COMMON = {"model": "mlp", "optimizer": "adam", "optimizer.lr": "0.001", "tracking": "mlflow"}


def store_of(home: Path) -> Any:
    return client(sqlite_uri(home / "mlflow.db"), home)


@lru_cache(maxsize=1)
def experiment_of(home: Path, experiment: str) -> tuple[Any, str]:
    """Its store and its number: opening and looking it up cost as much as recording a run."""
    tracker, uri = store_of(home), sqlite_uri(home / "mlflow.db")
    return tracker, ensure_experiment(tracker, experiment, uri, home)


def record(
    home: Path,
    arm: Mapping[str, str],
    seed: int,
    metrics: Mapping[str, float],
    *,
    experiment: str = "study",
    data: Mapping[str, str] = CREDITCARD,
    digest: str | None = "rows",
    status: str = "done",
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> str:
    """Record one run in the store of ``home``; returns its id."""
    from mlflow.entities import Metric, Param, RunTag

    tracker, number = experiment_of(home, experiment)
    run = tracker.create_run(number, run_name=name or f"{arm['loss']}-s{seed}")
    params = {**COMMON, **data, **arm, "seed": str(seed)}
    known = {"rarelab.status": status, **(tags or {})}
    if digest is not None:
        known["rarelab.data_digest"] = digest
    if directory is not None:
        known["rarelab.directory"] = str(directory)
    tracker.log_batch(
        run.info.run_id,
        metrics=[Metric(key, value, 0, 0) for key, value in metrics.items()],
        params=[Param(key, value) for key, value in params.items()],
        tags=[RunTag(key, value) for key, value in known.items()],
    )
    tracker.set_terminated(run.info.run_id, ENDINGS.get(status, "FAILED"))
    return run.info.run_id


def paired(
    home: Path, arms: Mapping[str, Iterable[float]], metric: str = "test/aucpr", **options: Any
) -> dict[str, list[str]]:
    """Record one run per value for each loss, with the index as seed; the run ids by loss."""
    return {
        loss: [
            record(home, {"loss": loss}, seed, {metric: value}, **options)
            for seed, value in enumerate(values)
        ]
        for loss, values in arms.items()
    }


def scored(
    rows: int, positives: int, shift: float, *, draw: int, noise: float = 0.0, seed: int = 0
):
    """Scores [rows, 1] and labels [rows]; ``draw`` seeds both, ``seed`` the noise of one run."""
    rng = np.random.default_rng(draw)
    labels = np.zeros(rows, dtype=np.int64)
    labels[:positives] = 1
    scores = rng.normal(size=rows) + shift * labels
    scores += noise * np.random.default_rng(seed + 1000).normal(size=rows)
    return torch.tensor(scores[:, None], dtype=torch.float32), torch.tensor(labels)


def leave_files(directory: Path, logits: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    """Write curves.json, predictions.parquet and history.jsonl; returns the test metrics."""
    from rarelab.metrics import evaluate

    directory.mkdir(parents=True, exist_ok=True)
    classes = ("0", "1")
    found = curves(logits, targets, classes=classes)
    (directory / "curves.json").write_text(json.dumps(found), encoding="utf-8")
    half = len(targets) // 2
    scored_rows = {"val": (logits[:half], targets[:half]), "test": (logits, targets)}
    write_predictions(directory / "predictions.parquet", scored_rows, classes)
    rows = [
        {
            "step": step,
            "time": 0,
            "metrics": {"train/ap_weight": max(0.0, (step - 1) / 3), "val/aucpr": 0.2 * step},
        }
        for step in range(5)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (directory / "history.jsonl").write_text(text, encoding="utf-8")
    return evaluate(logits, targets, classes=classes, bootstrap_seed=0)

"""Models that have no seed: those in use, whose scores runs kept (``dataset.scores``), those of
other programs, and ensembles of every seed. On each split they stand beside every seed of the
trained arms."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from rarelab.data.given import SCORE
from rarelab.metrics import evaluate, validation_metrics
from rarelab.metrics.curves import curves
from rarelab.metrics.exact import as_logits
from rarelab.metrics.table import AUCPR, best_key
from rarelab.records.load import Records, Run
from rarelab.records.names import ARM

_SCORES = "dataset.scores"
_PREDICTIONS = "predictions.parquet"
_SAME_TAGS = ("rarelab.data", "rarelab.data_digest", "rarelab.rows")
_CLASSES = ("0", "1")
_ONLY = (("seed", "0"),)


def in_use(records: Records, runs: Sequence[Run]) -> list[Run]:
    """The models in use as runs without a seed: one for each split and each column of scores that
    the runs kept beside their predictions, with every metric of these rows.

    The newest finished run of a split has the say. The runs are in no store; their files lie in a
    temporary folder of the records.
    """
    found: dict[Any, list[Run]] = {}
    for run in reversed(runs):
        if run.status != "done" or _SCORES not in run.params or _rows(run) in found:
            continue
        path = records.file(run, _PREDICTIONS)
        names = [] if path is None else pq.read_schema(path).names
        columns = [name for name in names if name.startswith(SCORE)]
        if path is not None and columns:
            table = pq.read_table(path)
            found[_rows(run)] = [_scored(records, run, table, column) for column in columns]
    return [run for several in reversed(found.values()) for run in several]


def for_every_seed(runs: Sequence[Run], within: Sequence[str] = ()) -> list[Run]:
    """The runs, those of models without a seed once for every seed of the finished runs on their
    rows (and, of these, every value of the keys ``within``); with seed 0 if there are none."""
    if not any(map(_seedless, runs)):
        return list(runs)
    beside: dict[Any, set[tuple[tuple[str, str], ...]]] = defaultdict(set)
    for run in runs:
        if run.seed is not None and run.status == "done" and not _seedless(run):
            own = [(key, run.params[key]) for key in ("seed", *within) if key in run.params]
            beside[_rows(run)].add(tuple(own))
    found: list[Run] = []
    for run in runs:
        seeds = (sorted(beside[_rows(run)]) or [_ONLY]) if _seedless(run) else []
        found += [
            replace(run, params={**run.params, **dict(seed)}, every_seed=True) for seed in seeds
        ] or [run]
    return found


def _seedless(run: Run) -> bool:
    every = "model.members" in run.params and run.params.get("model.size") == "None"
    return every or (ARM in run.params and run.seed is None)


def _rows(run: Run) -> tuple[frozenset[tuple[str, str]], int | None, str | None]:
    return frozenset(run.data.items()), run.split_seed, run.digest


def _scored(records: Records, run: Run, table: pa.Table, column: str) -> Run:
    """The model in use whose scores are in a column of the run's predictions."""
    name = column.removeprefix(SCORE)
    params = {key: value for key, value in run.params.items() if key.partition(".")[0] == "dataset"}
    folder = records.scratch / hashlib.sha256(f"{run.run_id} {name}".encode()).hexdigest()[:32]
    folder.mkdir(exist_ok=True)
    return replace(
        run,
        run_id=f"{run.run_id}/{name}",
        name=f"{name}, kept by {run.name}",
        params={**params, ARM: name},
        tags={key: run.tags[key] for key in _SAME_TAGS if key in run.tags}
        | {"rarelab.directory": str(folder)},
        metrics=_evaluated(table, column, folder),
        artifacts=str(folder),
        seconds=0.0,
    )


def _evaluated(table: pa.Table, column: str, folder: Path) -> dict[str, float]:
    """Leave the files of a run in its folder; its metrics."""
    scores = pa.array(as_logits(table[column].to_numpy()))
    others = [name for name in table.column_names if name.startswith(SCORE)]
    own = table.set_column(table.column_names.index("score"), "score", scores).drop(others)
    pq.write_table(own, folder / _PREDICTIONS)
    metrics: dict[str, float] = {}
    for split in ("val", "test"):
        rows = own.filter(pa.array(own["split"].to_pandas() == split))
        logits = torch.tensor(rows["score"].to_numpy())[:, None]
        targets = torch.tensor(rows["target"].to_numpy())
        if split == "test":
            metrics |= evaluate(logits, targets, classes=_CLASSES, bootstrap_samples=0)
            found = json.dumps(curves(logits, targets, classes=_CLASSES))
            (folder / "curves.json").write_text(found, encoding="utf-8")
        elif len(targets):
            metrics[best_key(AUCPR)] = validation_metrics(logits, targets)[AUCPR]
    return metrics

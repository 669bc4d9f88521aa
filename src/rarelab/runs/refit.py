"""``rarelab refit RUN``: the configuration that a run settled on, trained on all of its rows."""

import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from rarelab.config import build
from rarelab.config.groups import batched
from rarelab.data.splits import Splits, Table
from rarelab.errors import RequestError
from rarelab.functional.threads import limited_threads
from rarelab.models import Classifier, Ensemble, Estimator, Refittable
from rarelab.predict import Scorer, read_model, write_model
from rarelab.predict.facts import read_facts
from rarelab.predict.loaded import model_folder
from rarelab.records.find import fetch_record, find_run
from rarelab.runs.evaluation import write_predictions
from rarelab.runs.folder import Record
from rarelab.runs.interruption import Interruption
from rarelab.runs.reproduce import choices, configuration, finished
from rarelab.runs.run import Outcome
from rarelab.streams import drawing_from, generator, stream_seed
from rarelab.tracking.entry import Entry, read_status
from rarelab.training.history import History
from rarelab.training.keeper import save
from rarelab.training.loop import Trainer, Work
from rarelab.training.rounds import RoundWork, fit_rounds

log = logging.getLogger("rarelab")

KIND = {"rarelab.kind": "refit"}
_TRACKER = {"_target_": "rarelab.tracking.MlflowSink", "home": None, "figures": False}


def refit(name: str, home: Path, uri: str | None = None, allow: Sequence[str] = ()) -> Outcome:
    """Train a finished run's configuration on its train, validation and test rows together.

    A network trains for as many epochs, and a booster grows for as many rounds, as the run's best
    had, under the same schedules; ``hist_gradient_boosting`` fits as many rounds. A scikit-learn
    classifier is fitted with the same options and makes its scores the same way. The
    preprocessing, the alert thresholds and the calibration stay the run's own: no rows are left to
    choose or verify them on. The result is a run with a model but without metrics, and no
    comparison takes it as evidence.

    Args:
        name: the run's MLflow id, a prefix of it, or its folder's name.
        home: where the records are, and where the new run's folder goes.
        uri: the MLflow store, if it is not the records' own.
        allow: modules of the user's own that the record's targets may come from.

    Raises:
        RequestError: there is no such run, it is not done or left no model, its data set has
            changed, or its model cannot be fitted without validation rows.
        Diverged: the loss stopped being finite.
    """
    with tempfile.TemporaryDirectory() as scratch:
        recorded = find_run(home, name) or fetch_record(home, uri, name, Path(scratch))
        entry, rows = finished(recorded, name)
        if (status := (read_status(recorded) or {})["status"]) != "done":
            raise RequestError(f"{name}: its status is {status}; expected a run that is done")
        cfg = configuration(recorded, home, allow)
        folder = model_folder(name, home, uri, Path(scratch))
        facts, earlier = read_facts(folder), read_model(folder, allow)
    epochs = 1 + int({key: value for _, row in rows for key, value in row.items()}["best/epoch"])
    _adapt(cfg, entry, earlier, uri)
    interruption = Interruption()
    with limited_threads(cfg.trainer.threads), interruption.listening():
        ready = build.prepared(cfg, lambda splits: _pooled(splits, entry, name))
        tags = {**KIND, "rarelab.refit_of": entry.run_id or entry.name}
        whose = {"name": f"refit of {entry.name}", "tags": tags, "prefix": "refit-"}
        splits = ready.sizes.splits
        with Record(cfg, choices(entry), ready.data, splits, **whose, stop=interruption) as record:
            log.info("refit of %s on all %s rows", entry.name, f"{len(splits.train):,}")
            if isinstance(ready.model, Classifier) and isinstance(earlier.model, Classifier):
                ready.model.score_as(earlier.model)
            if isinstance(ready.model, Estimator):
                ready.model.fit(splits.train, splits.val, stream_seed(cfg.seed, "model"))
                record.append(0, {"best/epoch": 0.0})
            else:
                _train(cfg, ready, epochs, record)
            _leave_model(record, cfg, ready, earlier, facts, entry.name)
    log.info("%s", _summary(record, entry, earlier))
    return Outcome(record.run_id, record.status, record.metrics, record.directory)


def _adapt(cfg: DictConfig, entry: Entry, earlier: Scorer, uri: str | None) -> None:
    """Fix what validation chose, and record it where the run was recorded."""
    if isinstance(earlier.model, Ensemble):
        raise RequestError(f"{entry.name}: an ensemble trains nothing that could be refitted")
    if isinstance(earlier.model, Refittable):
        cfg.model = {**cfg.model, **earlier.model.kept()}
    elif isinstance(earlier.model, Estimator):
        raise RequestError(
            f"{type(earlier.model).__name__} cannot be fitted for as many rounds without"
            " validation rows (rarelab.models.Refittable)"
        )
    cfg.trainer.devices = 1
    if batched(cfg):
        cfg.sweep.batch = "off"
    tracker = _TRACKER if entry.tracked else dict(cfg.tracking)
    cfg.tracking = {**tracker, "experiment": entry.experiment, "uri": uri}


def _pooled(splits: Splits, entry: Entry, name: str) -> Splits:
    """All rows as training rows, in the order train, validation, test."""
    if entry.tags.get("rarelab.data_digest", splits.digest) != splits.digest:
        raise RequestError(f"{name}: the rows of {splits.name} are not those of the run any more")
    tables = [table for _, table in splits.tables()]
    weights = [table.sample_weight for table in tables if table.sample_weight is not None]
    weight = torch.cat(weights) if weights else None
    x, y = (torch.cat(parts) for parts in zip(*((t.x, t.y) for t in tables), strict=True))
    pooled = Table(x, y, weight)
    none = Table(x[:0], y[:0], None if weight is None else weight[:0], days=0)
    return replace(splits, train=pooled, val=none, test=none, notes=())


class _TrainingHistory(History):
    """A history without the validation metrics, as there are no validation rows."""

    def append(self, step: int, metrics: dict[str, float]) -> None:
        super().append(step, {k: v for k, v in metrics.items() if not k.startswith("val/")})


def _train(cfg: DictConfig, ready: build.Prepared, epochs: int, record: Record) -> None:
    """Train for a number of epochs and keep the weights of the last."""
    trainer = replace(build.trainer(cfg), patience=None)
    record.history = _TrainingHistory(record.directory / "history.jsonl", record.listeners)
    if isinstance(ready.work, RoundWork):
        _grow(trainer, ready.work, epochs, record)
        return
    assert isinstance(ready.work, Work) and isinstance(ready.model, nn.Module)
    with drawing_from(cfg.seed, "model"):
        trainer.fit(ready.work, record.history, generator(cfg.seed, "batches"), epochs=epochs)
    best = {"best/epoch": float(epochs - 1)}
    record.append(epochs - 1, best)
    save(record.directory / "checkpoint.pt", model=ready.model.state_dict(), **best)


def _grow(trainer: Trainer, work: RoundWork, rounds: int, record: Record) -> None:
    """Grow a model for a number of rounds and keep all of them."""
    work.model.rounds, work.model.patience = rounds, None
    fit_rounds(trainer, work, record.history)
    work.model.keep(work.model.steps)
    record.append(rounds - 1, {"best/epoch": float(rounds - 1)})


def _leave_model(
    record: Record,
    cfg: DictConfig,
    ready: build.Prepared,
    earlier: Scorer,
    facts: dict[str, Any],
    name: str,
) -> None:
    """Save the model, with the thresholds and the calibration of the run it comes from."""
    for rule in ("calibration", "decision", "budget"):
        if facts.get(rule) is not None:
            (record.directory / f"{rule}.json").write_text(json.dumps(facts[rule]), "utf-8")
    kept = record.directory / "predictions.parquet"
    if earlier.validation is not None:
        scores, positives = map(torch.from_numpy, earlier.validation)
        scored = {"val": (scores[:, None], positives.long())}
        write_predictions(kept, scored, ready.sizes.splits.classes)
    write_model(record.directory, cfg, ready.sizes.splits, ready.model, refit_of=name)
    kept.unlink(missing_ok=True)  # they are the earlier run's, and now part of the model


def _summary(record: Record, entry: Entry, earlier: Scorer) -> str:
    kept = "threshold" if earlier.validation is not None else "decision rule"
    return (
        f"the {kept} of {entry.name} is kept and unverified: no rows are left to test it on\n"
        f"{record.whereabouts()}"
    )

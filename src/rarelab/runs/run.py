"""One job from configuration to record: build, train, score the test rows, record everything."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import Tensor, nn

from rarelab.config import build
from rarelab.config.build import Model, Prepared
from rarelab.config.prepare import warn_before
from rarelab.data.splits import Splits
from rarelab.functional.threads import limited_threads
from rarelab.losses.members import each
from rarelab.metrics.table import AUCPR, best_key
from rarelab.models import Ensemble, Estimator, raw_scores
from rarelab.predict import write_model
from rarelab.processes.start import company_of
from rarelab.records.ensembles import name_members
from rarelab.runs.ensemble import assemble
from rarelab.runs.evaluation import evaluate_and_write
from rarelab.runs.folder import Record
from rarelab.runs.importance import write_importance
from rarelab.runs.interruption import Interruption
from rarelab.runs.summary import test_table, trained_too_short
from rarelab.streams import drawing_from, generator, stream_seed
from rarelab.tracking.naming import experiment_name
from rarelab.training import Diverged, Trainer, Work
from rarelab.training.history import Listener
from rarelab.training.keeper import save
from rarelab.training.loop import real_rows, validation_row
from rarelab.training.progress import epoch_lines, round_lines
from rarelab.training.rounds import RoundWork, fit_rounds
from rarelab.training.selection import Selection

log = logging.getLogger("rarelab")


@dataclass(frozen=True)
class Outcome:
    """The result of a run: its id (MLflow's, if tracked), status, metrics and folder."""

    run_id: str
    status: str
    metrics: dict[str, float] = field(repr=False)
    directory: Path


def run(
    cfg: DictConfig,
    choices: Mapping[str, str | None],
    *,
    parent: str | None = None,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    numbers: Mapping[str, float] | None = None,
    opened: Callable[[str, Path], None] | None = None,
    listener: Listener | None = None,
) -> Outcome:
    """Train and record the run that a composed configuration describes.

    Args:
        cfg: the composed configuration (``conf/train.yaml`` and overrides).
        choices: the option chosen in each group, for the run's readable name.
        parent: the id of the parent run, if any.
        name: the run's name in MLflow; None: the name of its folder.
        tags: additional tags.
        numbers: swept numeric values by key, recorded as metrics ``hp/<key>``.
        opened: called with the run's id and folder once its record is open.
        listener: called with each row of the history; may end the run by raising.

    Raises:
        RequestError: the configuration is invalid; nothing was written.
        Diverged: the loss stopped being finite; the run is recorded as ``diverged``.
        Pruned: the listener ended it; the run is recorded as ``pruned``.
        Deserted: another process of the run is gone; it is recorded as ``error``.
    """
    build.check(cfg)
    experiment_name(cfg.tracking.experiment)
    name_members(cfg, lambda: build.dataset(cfg).identity())
    trainer = build.trainer(cfg)
    interruption = Interruption()
    with (
        limited_threads(trainer.threads),
        interruption.listening(),
        company_of(cfg, trainer.devices) as company,
    ):
        ready = build.prepared(cfg)
        company.start()
        splits, model, work = ready.sizes.splits, ready.model, ready.work
        if isinstance(model, Ensemble):
            assemble(model, cfg, splits)
        warn_before(ready.sizes, work, model)
        whose = {"parent": parent, "name": name, "tags": tags or {}}
        record = Record(cfg, choices, ready.data, splits, **whose, stop=interruption)
        with record:
            if opened is not None:
                opened(record.run_id, record.directory)
            log.info("%s", record.introduction())
            if listener is not None:
                record.listen(listener)
            if numbers and not record.history:
                record.append(0, {f"hp/{key}": value for key, value in numbers.items()})
            diverged = None
            if isinstance(work, RoundWork):
                with interruption.deferred(), company.joined(splits.digest) as work.team:
                    diverged = _fit_rounds(trainer, work, record)
            elif work is not None:
                with interruption.deferred(), company.joined(splits.digest) as work.team:
                    diverged = _fit(cfg.seed, trainer, work, record)
            elif isinstance(model, Estimator):
                _fit_estimator(cfg.seed, model, ready, record, trainer.select_by)
            metrics = conclude(cfg, trainer, ready, record)
            if diverged is not None:
                raise diverged
    return told(trainer, ready, record, metrics)


def conclude(
    cfg: DictConfig, trainer: Trainer, ready: Prepared, record: Record
) -> dict[str, float]:
    """Evaluate a trained run, and leave its model; the test metrics."""
    metrics = _evaluate(cfg, trainer, ready, record)
    _leave_model(cfg, ready.sizes.splits, ready.model, record)
    _leave_importance(cfg, trainer, ready, record)
    return metrics


def told(trainer: Trainer, ready: Prepared, record: Record, metrics: dict[str, float]) -> Outcome:
    """The outcome of a run whose record is closed, after its table is shown."""
    rounds = ready.work.model.rounds if isinstance(ready.work, RoundWork) else None
    note = trained_too_short(
        record.metrics, rounds or trainer.max_epochs, rounds=rounds is not None
    )
    table = test_table(metrics, ready.sizes.splits, ready.budgets, ready.rule)
    log.info("\n%s\n%s%s", table, note, record.whereabouts())
    return Outcome(record.run_id, record.status, record.metrics, record.directory)


def _fit(seed: int, trainer: Trainer, work: Work, record: Record) -> Diverged | None:
    """Train and load the selected weights; the divergence that cut training short, if any.

    Raises:
        Diverged: before any weights were selected or checkpointed.
    """
    final_weight = getattr(each(work.loss)[0], "final_main_weight", 1.0)
    record.listen(epoch_lines(trainer.max_epochs, final_weight, trainer.select_by))
    batches = generator(seed, "batches")
    try:
        with drawing_from(seed, "model"):
            ended = trainer.fit(work, record.history, batches, record.checkpoints)
    except Diverged as error:
        ended = error
    return keep_selected(ended, work, record)


def keep_selected(ended: Selection | Diverged, work: Work, record: Record) -> Diverged | None:
    """Load and keep the selected weights; the divergence that cut training short, if any.

    Raises:
        Diverged: before any weights were selected or checkpointed.
    """
    diverged = None
    if isinstance(ended, Diverged):
        state, best = _last_finite(ended, record)
        log.warning("diverged: %s; scoring epoch %d", ended, best["best/epoch"])
        diverged = ended
    else:
        state, best = ended.best_state, ended.metrics()
    assert state is not None
    work.model.load_state_dict(state)
    record.append(int(best["best/epoch"]), best)
    save(record.directory / "checkpoint.pt", model=state, **best)
    return diverged


def _fit_rounds(trainer: Trainer, work: RoundWork, record: Record) -> Diverged | None:
    """The same for a model grown in rounds."""
    final_weight = getattr(work.loss, "final_main_weight", 1.0)
    by = trainer.select_by
    record.listen(round_lines(work.model.rounds, final_weight, work.per_epoch, by))
    diverged = None
    try:
        selection = fit_rounds(trainer, work, record.history, record.checkpoints)
        state, best = selection.best_state, selection.metrics()
    except Diverged as error:
        state, best = _last_finite(error, record)
        log.warning("diverged: %s; scoring round %d", error, best["best/epoch"])
        diverged = error
    assert state is not None
    work.model.keep(state["steps"])
    record.append(int(best["best/epoch"]), best)
    return diverged


def _last_finite(error: Diverged, record: Record) -> tuple[dict[str, Any], dict[str, float]]:
    """The weights to score after a divergence: the selected epoch's, else the last checkpoint's."""
    selection = error.selection
    if selection is not None and selection.best_state is not None:
        return selection.best_state, selection.metrics()
    kept = record.checkpoints.newest(len(record.history))
    if kept is None:
        raise error
    # Between two epochs the position is that of the next one; rounds are always between two.
    position = kept["position"]
    epoch = position["epoch"] - (not position.get("step"))
    return kept["model"], {best_key(AUCPR): math.nan, "best/epoch": float(epoch)}


def _fit_estimator(
    seed: int, model: Estimator, ready: Prepared, record: Record, select_by: str
) -> None:
    splits = ready.sizes.splits
    model.fit(splits.train, splits.val, stream_seed(seed, "model"))
    scores = raw_scores(model, splits.val.x, splits.num_outputs)
    row = validation_row(scores, splits.val.y, select_by, ready.alerts)
    record.append(0, row)
    log.info("fitted  val AUCPR %.4f", row[AUCPR])
    best = {best_key(key): row[key] for key in (AUCPR, select_by)}
    record.append(0, best | {"best/epoch": 0.0})


def _evaluate(
    cfg: DictConfig, trainer: Trainer, ready: Prepared, record: Record
) -> dict[str, float]:
    splits = ready.sizes.splits
    scored = {
        name: real_rows(_scores(trainer, ready.model, table.x, splits.num_outputs), table.y)
        for name, table in (("val", splits.val), ("test", splits.test))
    }
    metrics = evaluate_and_write(
        record.directory,
        scored,
        splits.classes,
        seed=stream_seed(cfg.seed, "bootstrap"),
        calibration=cfg.calibration,
        costs=ready.costs,
        rule=ready.rule,
        figures=cfg.tracking.get("figures", True),
        origins={"val": splits.val.origin, "test": splits.test.origin},
        budgets=ready.budgets,
        days={"val": splits.val.days, "test": splits.test.days},
    )
    record.append(int(record.metrics["best/epoch"]), metrics)
    return metrics


def _leave_model(cfg: DictConfig, splits: Splits, model: Model, record: Record) -> None:
    """Save the model for scoring new rows; a failure is logged and does not fail the run."""
    try:
        reason = write_model(record.directory, cfg, splits, model)
        if reason is not None and splits.train.y.ndim == 1:
            log.warning("note: `rarelab predict` will not work on this run: %s", reason)
    except Exception as error:
        log.warning("warning: no model was saved for `rarelab predict`: %s", error)


def _leave_importance(cfg: DictConfig, trainer: Trainer, ready: Prepared, record: Record) -> None:
    """Draw the importance of the columns, if asked for; a failure does not fail the run."""
    if not (cfg.tracking.get("figures", True) and cfg.tracking.get("importance", False)):
        return
    splits = ready.sizes.splits
    try:
        write_importance(
            record.directory,
            splits,
            lambda x: _scores(trainer, ready.model, x, splits.num_outputs),
            ready.alerts,
        )
    except Exception as error:
        log.warning("warning: tracking.importance: nothing was drawn: %s", error)


def _scores(trainer: Trainer, model: Model, x: Tensor, num_outputs: int) -> Tensor:
    if isinstance(model, nn.Module):
        return trainer.scores(model, x)
    return raw_scores(model, x, num_outputs) if isinstance(model, Estimator) else model.scores(x)

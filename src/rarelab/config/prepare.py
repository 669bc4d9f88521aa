"""Checks a run before it trains: errors, and warnings about foreseeable problems."""

import logging
import os
from collections.abc import Iterable

import torch
from torch import nn

from rarelab.boosting.boosted import Boosted
from rarelab.boosting.gradient import ranks
from rarelab.config.sizes import Sizes
from rarelab.data.splits import Splits
from rarelab.errors import RequestError
from rarelab.losses.members import each
from rarelab.losses.prior import PriorCorrected
from rarelab.metrics.bootstrap import FEWEST_POSITIVES
from rarelab.metrics.table import AUCPR
from rarelab.models import Estimator
from rarelab.models.layers import drawing, mixing_rows
from rarelab.training import Trainer, Work
from rarelab.training.rounds import RoundWork

log = logging.getLogger("rarelab")

_SHOWN = 3


def check_shared(trainer: Trainer, model: nn.Module | Estimator | Boosted, rows: int) -> None:
    """Refuse a model or device that several processes cannot train as one process would.

    ``rows``: of training, of which each process grows a booster on its part, on the CPU.
    """
    asked = f"trainer.devices={trainer.devices}"
    if isinstance(model, Boosted) and model.shares_rows:
        if rows < trainer.devices:
            raise RequestError(f"{asked}: expected at most one process per training row, of {rows}")
        return
    if not isinstance(model, nn.Module):
        raise RequestError(
            f"{asked}: {type(model).__name__} fits all rows at once, in one process; leave it at 1"
        )
    if mixing := list(mixing_rows(model)):
        raise RequestError(
            f"{asked}: {_listed(mixing)} of the model would see only part of each batch, which "
            "changes the training; leave it at 1 or use a model without such layers"
        )
    device = trainer.torch_device().type
    if device not in ("cpu", "cuda") or ":" in trainer.device:
        raise RequestError(
            f"trainer.device={trainer.device}: {trainer.devices} processes need one GPU each or "
            "the CPU; use auto, cuda or cpu"
        )
    here = int(os.environ.get("LOCAL_WORLD_SIZE", trainer.devices))
    if device == "cuda" and here > torch.cuda.device_count():
        raise RequestError(
            f"{asked}: {here} processes need one GPU each, but {torch.cuda.device_count()} are "
            "available here; use fewer, or trainer.device=cpu"
        )


def warn_before(sizes: Sizes, work: Work | RoundWork | None, model: object = None) -> None:
    """Log warnings about foreseeable problems. ``model`` fits itself where there is no work."""
    for note in sizes.splits.notes:
        log.warning("note: %s", note)
    _warn_of_the_interval(sizes.splits)
    by = sizes.trainer.select_by
    if by != AUCPR:
        log.info("note: %s", _of_steps(by, sizes.splits) if work else _of_own_stop(by, model))
    if isinstance(work, RoundWork):
        _note_whole_table(work)
    elif work is not None:
        _warn_of_batches(sizes, work)
        _warn_of_draws(sizes.trainer, work)


def _warn_of_the_interval(splits: Splits) -> None:
    """Warn if test has too few positives for the interval of the average precision."""
    counts = torch.bincount(splits.test.labels(), minlength=len(splits.classes)).tolist()
    rare = {name: n for name, n in zip(splits.classes, counts, strict=True) if n}
    if splits.task == "binary":
        rare.pop(splits.classes[0], None)
    name = min(rare, key=rare.__getitem__, default=None)
    if name is not None and rare[name] < FEWEST_POSITIVES:
        log.warning(
            "note: test has %d rows of class %s: fewer than %d are too few for an interval of the "
            "AUCPR, so none will be given",
            rare[name],
            name,
            FEWEST_POSITIVES,
        )


def _of_steps(by: str, splits: Splits) -> str:
    """How coarse a recall on validation is. A macro average moves most with the rarest class."""
    counts = torch.bincount(splits.val.labels(), minlength=len(splits.classes)).tolist()
    counts = dict(zip(splits.classes, counts, strict=True))
    if splits.task == "binary":
        positives = counts[splits.classes[1]]
        step, whose = 1 / max(1, positives), f"{positives} validation positives"
    else:
        present = {name: n for name, n in counts.items() if n}
        name = min(present, key=present.__getitem__)
        step = 1 / (present[name] * len(present))
        whose = f"{present[name]} validation rows of class {name}, one of {len(present)} averaged"
    upto = "" if splits.task == "binary" else "up to "
    return f"{by} moves in steps of {upto}{step:.2g} ({whose}); ties go to the higher AUCPR"


def _of_own_stop(by: str, model: object) -> str:
    return (
        f"{type(model).__name__} fits itself and stops by a rule of its own: {by} is recorded, but "
        "trainer.select_by does not choose where it stops"
    )


def _note_whole_table(work: RoundWork) -> None:
    main = getattr(work.loss, "main_loss", work.loss)
    queue = getattr(main, "queue_size", 0)
    if ranks(main) and queue:
        log.info(
            "note: loss.queue_size=%d has no effect: every round ranks all %d training rows",
            queue,
            len(work.train),
        )


def _warn_of_draws(trainer: Trainer, work: Work) -> None:
    if trainer.devices > 1 and (layers := list(drawing(work.model))):
        log.warning(
            "note: %s of the model draws random numbers independently in every process, so the "
            "result matches single-process training only in distribution",
            _listed(layers),
        )


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more layers" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _warn_of_batches(sizes: Sizes, work: Work) -> None:
    """Warn, with a remedy, of too few rare rows per batch and of a shifted prevalence."""
    passes = sizes.trainer.passes(len(sizes.splits.train))
    if passes > 1:
        log.info(
            "note: every epoch makes %d passes over the %s training rows, %s steps in all "
            "(trainer.min_steps=%d)",
            *(passes, f"{len(sizes.splits.train):,}", f"{sizes.total_steps:,}"),
            sizes.trainer.min_steps,
        )
    drawn = sizes.drawn_counts[work.rare_class].item()
    expected = passes * drawn / sizes.steps_per_epoch
    if expected < 1:
        log.warning(
            "warning: a batch of %d rows is expected to hold %.2f rows of the rarest class; "
            "use sampler=stratified or raise trainer.batch_size",
            sizes.trainer.batch_size,
            expected,
        )
    shift = sizes.prior_shift()
    if shift is None or shift.abs().max() < 0.05:  # 5 % in the odds is not worth a line
        return
    loss = each(work.loss)[0]
    main = getattr(loss, "main_loss", loss)
    log.warning(
        "note: the sampler shows the rarest class at %.3g %% instead of %.3g %%; %s",
        100 * drawn / sizes.drawn_counts.sum().item(),
        100 * (sizes.class_counts()[work.rare_class] / sizes.class_counts().sum()).item(),
        "the loss is corrected for it, so scores fit the natural rate"
        if isinstance(main, PriorCorrected)
        else f"{type(main).__name__} is not a likelihood and is not corrected, so its scores are "
        "not log-odds at the natural rate",
    )

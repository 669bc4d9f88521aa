"""What can be foreseen of a run before it trains: what is refused, and what is warned of."""

import logging
import os
from collections.abc import Iterable

import torch
from torch import nn

from rarelab.config.sizes import Sizes
from rarelab.errors import RequestError
from rarelab.losses.prior import PriorCorrected
from rarelab.models import Estimator
from rarelab.models.layers import drawing, mixing_rows
from rarelab.training import Trainer, Work

log = logging.getLogger("rarelab")

_SHOWN = 3


def check_shared(trainer: Trainer, model: nn.Module | Estimator) -> None:
    """Refuse what several processes would not train as one does."""
    asked = f"trainer.devices={trainer.devices}"
    if isinstance(model, Estimator):
        raise RequestError(
            f"{asked}: {type(model).__name__} fits all rows at once, in one process; leave it at 1"
        )
    if mixing := list(mixing_rows(model)):
        raise RequestError(
            f"{asked}: {_listed(mixing)} of the model would see a part of each batch alone, so "
            "that it would be another training; leave it at 1 or take a model without"
        )
    device = trainer.torch_device().type
    if device not in ("cpu", "cuda") or ":" in trainer.device:
        raise RequestError(
            f"trainer.device={trainer.device}: {trainer.devices} processes train on a GPU each or "
            "on the CPU; use auto, cuda or cpu"
        )
    here = int(os.environ.get("LOCAL_WORLD_SIZE", trainer.devices))
    if device == "cuda" and here > torch.cuda.device_count():
        raise RequestError(
            f"{asked}: {here} processes need as many GPUs, and {torch.cuda.device_count()} can be "
            "had here; take fewer, or trainer.device=cpu"
        )


def warn_before(sizes: Sizes, work: Work | None) -> None:
    """Say what can be foreseen."""
    for note in sizes.splits.notes:
        log.warning("note: %s", note)
    if work is not None:
        _warn_of_batches(sizes, work)
        _warn_of_draws(sizes.trainer, work)


def _warn_of_draws(trainer: Trainer, work: Work) -> None:
    if trainer.devices > 1 and (layers := list(drawing(work.model))):
        log.warning(
            "note: %s of the model draws random numbers in every process of its own, so that this "
            "is not the training of one process, bit for bit or nearly; it is the same in "
            "distribution",
            _listed(layers),
        )


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more layers" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _warn_of_batches(sizes: Sizes, work: Work) -> None:
    """Too few rare rows a batch, or another prevalence than nature's: say so, and the remedy."""
    drawn = sizes.drawn_counts[work.rare_class].item()
    expected = drawn / sizes.steps_per_epoch
    if expected < 1:
        log.warning(
            "warning: a batch of %d rows is expected to hold %.2f rows of the rarest class; "
            "take sampler=stratified or raise trainer.batch_size",
            sizes.trainer.batch_size,
            expected,
        )
    shift = sizes.prior_shift()
    if shift is None or shift.abs().max() < 0.05:  # a twentieth in the odds is not worth a line
        return
    main = getattr(work.loss, "main_loss", work.loss)
    log.warning(
        "note: the sampler shows the rarest class at %.3g %% instead of %.3g %%; %s",
        100 * drawn / sizes.drawn_counts.sum().item(),
        100 * (sizes.class_counts()[work.rare_class] / sizes.class_counts().sum()).item(),
        "the loss is corrected for it, so scores fit the natural rate"
        if isinstance(main, PriorCorrected)
        else f"{type(main).__name__} is no likelihood and is not corrected, so its scores are no "
        "log-odds at the natural rate",
    )

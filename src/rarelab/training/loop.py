"""The one training loop: every loss, model and data set goes through it unchanged."""

import copy
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from rarelab.data.splits import IGNORE_INDEX, Table
from rarelab.errors import RarelabError, RequestError
from rarelab.losses.protocols import EpochAware, Indexed, Pooled, Scheduled, StepAware
from rarelab.metrics import validation_metrics
from rarelab.training.health import Health
from rarelab.training.history import History
from rarelab.training.sampling import Natural, Sampler, row_kinds
from rarelab.training.selection import METRIC, Selection


class Diverged(RarelabError):
    """The loss stopped being finite."""


@dataclass
class Work:
    """What one run trains: built once, moved to the trainer's device, then stepped."""

    model: nn.Module
    loss: nn.Module
    optimizer: Optimizer
    lr_schedule: LRScheduler | None
    train: Table
    val: Table
    rare_class: int
    sampler: Sampler = field(default_factory=Natural)

    @cached_property
    def kinds(self) -> Tensor:
        """What the sampler tells the training rows apart by, int64 [N] on the CPU."""
        return row_kinds(self.train.y)


class Batch(NamedTuple):
    """Rows of one step: their positions in the training table, and what stands there."""

    rows: Tensor
    x: Tensor
    y: Tensor
    weight: Tensor | None
    has_positive: Tensor


@dataclass(frozen=True)
class Trainer:
    """How a run is trained.

    Args:
        max_epochs: passes over the training rows.
        batch_size: rows of a step; the last batch of an epoch may be smaller.
        eval_batch_size: rows scored at once on validation and test.
        threads: torch's intra-operation threads; part of a run's identity, since sums change in
            their last bits with it.
        device: ``auto`` (a GPU if there is one), or any name torch knows (``cpu``, ``cuda:0``).
        precision: ``32``, or ``bf16`` for an autocast forward pass (losses compute in float32).
        gradient_clip_norm: largest L2 norm of the gradient; null does not clip.
        select: which epochs may be chosen by ``val/aucpr``: ``main`` (those at the loss's final
            main weight) or ``any``.
        patience: selectable epochs without improvement before training stops; null never stops.
    """

    max_epochs: int = 15
    batch_size: int = 512
    eval_batch_size: int = 8192
    threads: int = 1
    device: str = "auto"
    precision: Literal["32", "bf16"] = "32"
    gradient_clip_norm: float | None = None
    select: Literal["main", "any"] = "main"
    patience: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_epochs", "batch_size", "eval_batch_size", "threads", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.gradient_clip_norm is not None and not self.gradient_clip_norm > 0:
            raise ValueError(f"gradient_clip_norm must be positive, got {self.gradient_clip_norm}")

    def steps_per_epoch(self, rows: int) -> int:
        return math.ceil(rows / self.batch_size)

    def torch_device(self) -> torch.device:
        """The device that ``device`` names.

        Raises:
            RequestError: torch does not know it, or it is not on this machine.
        """
        if self.device != "auto":
            try:
                return torch.empty(0, device=self.device).device
            except (RuntimeError, AssertionError) as error:
                reason = str(error).splitlines()[0][:80]
                raise RequestError(
                    f"trainer.device={self.device}: not to be had here ({reason}); use auto or cpu"
                ) from error
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")

    def fit(self, work: Work, history: History, batches: torch.Generator) -> Selection:
        """Train, appending one row per epoch; ``batches`` orders the rows."""
        selection = Selection(self.select, self.patience)
        for epoch in range(self.max_epochs):
            metrics, main = self._train_epoch(work, epoch, batches)
            metrics |= validation_row(self.scores(work.model, work.val.x), work.val.y)
            selection.see(epoch, metrics[METRIC], work.model, main=main)
            history.append(epoch, metrics)
            if selection.exhausted:
                break
        return selection

    def scores(self, model: nn.Module, x: Tensor) -> Tensor:
        """Raw float32 scores of every row, in evaluation mode, on the CPU."""
        model.eval()
        with torch.inference_mode(), self._autocast():
            parts = [model(rows.to(self.torch_device())) for rows in x.split(self.eval_batch_size)]
        return torch.cat(parts).float().cpu()

    def _train_epoch(
        self, work: Work, epoch: int, batches: torch.Generator
    ) -> tuple[dict[str, float], bool]:
        """One pass: the epoch's metrics, and whether all of it was at the final main weight."""
        work.model.train()
        work.loss.train()
        clock, pool = Clock(work.loss), _PoolWatch(work)
        clock.epoch(epoch)
        first_step = epoch * self.steps_per_epoch(len(work.train.y))
        health, losses, main = Health(), [], True
        for step, batch in enumerate(self._batches(work, batches)):
            clock.step(first_step + step)
            clock.rows(batch.rows, batch.y)
            main = main and (step > 0 or clock.at_final_weight)
            logits, loss = self._forward(work, batch.x, batch.y, batch.weight)
            losses.append(loss.detach())
            if not math.isfinite(loss.item()):
                raise Diverged(_divergence(epoch, step, loss, logits, batch.y, work))
            self._update(work, loss)
            assert logits.grad is not None
            health.step(logits.grad, batch.has_positive, pool.has_positive(batch.has_positive))
        mean = torch.stack(losses).double().mean().item()
        return {"train/loss": mean, **clock.metrics(), **health.metrics()}, main

    def _forward(
        self, work: Work, x: Tensor, y: Tensor, weight: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        with self._autocast():
            logits = work.model(x)
        logits, y = logits.flatten(0, -2), y.flatten()
        logits.retain_grad()
        if weight is None:
            return logits, work.loss(logits, y)
        return logits, work.loss(logits, y, sample_weight=weight)

    def _update(self, work: Work, loss: Tensor) -> None:
        work.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.gradient_clip_norm is not None:
            nn.utils.clip_grad_norm_(work.model.parameters(), self.gradient_clip_norm)
        work.optimizer.step()
        if work.lr_schedule is not None:
            work.lr_schedule.step()

    def _batches(self, work: Work, batches: torch.Generator) -> Iterator[Batch]:
        table, device = work.train, work.train.x.device
        order = work.sampler.order(work.kinds, self.batch_size, batches).to(device)
        holds_rare = self._any_per_batch(_rows_with(table.y, work.rare_class)[order])
        for rows, has_positive in zip(order.split(self.batch_size), holds_rare, strict=True):
            weight = None
            if table.sample_weight is not None:
                weight = table.sample_weight.index_select(0, rows)
            x, y = table.x.index_select(0, rows), table.y.index_select(0, rows)
            yield Batch(rows, x, y, weight, has_positive)

    def _any_per_batch(self, flags: Tensor) -> tuple[Tensor, ...]:
        """Is any flag [N] of a batch set? All batches of an epoch at once, a scalar for each."""
        padded = nn.functional.pad(flags, (0, -len(flags) % self.batch_size))
        return padded.view(-1, self.batch_size).any(1).unbind()

    def _autocast(self) -> AbstractContextManager[object]:
        if self.precision == "32":
            return nullcontext()
        return torch.autocast(self.torch_device().type, torch.bfloat16)


def real_rows(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Flatten sequences to rows [N, C] and [N], and leave the padding out."""
    logits, y = logits.flatten(0, -2), y.flatten().cpu()
    kept = y != IGNORE_INDEX
    return (logits, y) if bool(kept.all()) else (logits[kept], y[kept])


def _step_ids(rows: Tensor, steps: int) -> Tensor:
    """Sequences [B] as the positions of their steps in the flattened targets, [B · T]."""
    return (rows.unsqueeze(1) * steps + torch.arange(steps, device=rows.device)).flatten()


def _rows_with(y: Tensor, label: int) -> Tensor:
    return (y == label).reshape(len(y), -1).any(-1)


def validation_row(logits: Tensor, y: Tensor) -> dict[str, float]:
    """The validation metrics of one epoch from raw scores and targets, padding left out."""
    return validation_metrics(*real_rows(logits, y))


class Clock:
    """Tells a loss the time, if it asks for it, and reads its schedule back."""

    def __init__(self, loss: nn.Module) -> None:
        self._loss = loss
        self._scheduled = loss if isinstance(loss, Scheduled) else None
        self._on_epoch = loss.on_train_epoch_start if isinstance(loss, EpochAware) else None
        self._on_step = loss.on_train_batch_start if isinstance(loss, StepAware) else None
        self._on_rows = loss.on_train_batch_rows if isinstance(loss, Indexed) else None

    def epoch(self, epoch: int) -> None:
        if self._on_epoch is not None:
            self._on_epoch(epoch)

    def step(self, global_step: int) -> None:
        if self._on_step is not None:
            self._on_step(global_step)

    def rows(self, rows: Tensor, y: Tensor) -> None:
        if self._on_rows is not None:
            self._on_rows(rows if y.ndim == 1 else _step_ids(rows, y.shape[1]))

    @property
    def at_final_weight(self) -> bool:
        return self._scheduled is None or self._scheduled.at_final_weight

    def metrics(self) -> dict[str, float]:
        """``train/ap_weight`` (1 without a schedule) and, where there is one, the temperature."""
        if self._scheduled is not None:
            weight, temperature = self._scheduled.ap_weight, self._scheduled.current_temperature
        else:
            weight, temperature = 1.0, getattr(self._loss, "temperature", None)
        state = {"train/ap_weight": float(weight)}
        return state if temperature is None else state | {"train/temperature": float(temperature)}


class _PoolWatch:
    """Did the rows that the loss ranked include one of the rarest class?"""

    def __init__(self, work: Work) -> None:
        self._loss = work.loss if isinstance(work.loss, Pooled) else None
        self._rare_class = work.rare_class

    def has_positive(self, batch_positive: Tensor) -> Tensor:
        per_class = None if self._loss is None else self._loss.pool_has_positive
        if per_class is None:
            return batch_positive
        return per_class[0 if len(per_class) == 1 else self._rare_class]


def reaches_main(trainer: Trainer, work: Work) -> bool:
    """Will any whole epoch be trained at the final main weight? Asked of a copy of the loss."""
    clock = Clock(copy.deepcopy(work.loss))
    steps = trainer.steps_per_epoch(len(work.train.y))
    for epoch in range(trainer.max_epochs):
        clock.epoch(epoch)
        clock.step(epoch * steps)
        if clock.at_final_weight:
            return True
    return False


def _divergence(epoch: int, step: int, loss: Tensor, logits: Tensor, y: Tensor, work: Work) -> str:
    return (
        f"the loss is {loss.item()} at epoch {epoch}, step {step} (batch of {len(y)} rows, "
        f"{int((y == work.rare_class).sum())} of the rarest class, largest |logit| "
        f"{logits.detach().abs().max().item():.3g}); lower optimizer.lr or set "
        "trainer.gradient_clip_norm"
    )

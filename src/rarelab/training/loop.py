"""The training loop, shared unchanged by every loss, model and data set."""

import copy
import itertools
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from rarelab.data.splits import IGNORE_INDEX
from rarelab.errors import RarelabError, RequestError
from rarelab.metrics import validation_metrics
from rarelab.metrics.rankings import selecting
from rarelab.metrics.table import AUCPR
from rarelab.models import Members
from rarelab.training.clock import Clock, PoolWatch
from rarelab.training.course import Course, Work
from rarelab.training.history import History
from rarelab.training.keeper import Cadence, Keeper
from rarelab.training.selection import Selection

# Upper limits. OpenMP crashes if asked for more threads than it can start.
MOST = {
    "max_epochs": math.inf,
    "min_steps": math.inf,
    "batch_size": 2**31 - 1,
    "eval_batch_size": 2**31 - 1,
    "threads": 1024,
    "devices": 1024,
    "patience": math.inf,
}


class Diverged(RarelabError):
    """The loss is no longer finite. ``selection`` holds the best epoch until then."""

    selection: Selection | None = None


class Batch(NamedTuple):
    """The rows of one step: their positions in the training table, and their values.

    ``x`` holds only the rows that this process scores, in the order of ``rows``.
    """

    rows: Tensor
    x: Tensor
    y: Tensor
    weight: Tensor | None
    has_positive: Tensor


@dataclass(frozen=True)
class Trainer:
    """How a run is trained.

    Args:
        max_epochs: passes over the training rows, or over several repetitions of them: see
            ``min_steps``.
        batch_size: rows per step, over all processes; the last batch of an epoch may be smaller.
        eval_batch_size: rows scored at once on validation and test.
        threads: torch's intra-operation threads; part of a run's identity, since sums change in
            their last bits with it.
        devices: processes that train together, each on part of every batch; with one GPU each, or
            on the CPU. Part of a run's identity, like ``threads``.
        device: ``auto`` (a GPU if there is one), or any torch device name (``cpu``, ``cuda:0``).
        precision: ``32``, or ``bf16`` for an autocast forward pass (losses compute in float32).
        gradient_clip_norm: maximum L2 norm of the gradient; null disables clipping.
        select: the epochs that may be selected: ``main`` (those at the loss's final main weight) or
            ``any``.
        patience: selectable epochs without improvement before training stops; null never stops.
        checkpoint_every: ``auto`` (using up to 3 % of the time), ``2 epochs`` or ``500 steps``.
        resume: ``auto`` resumes an unfinished run of the same job whose process is gone, ``never``
            starts afresh.
        min_steps: optimiser steps that ``max_epochs`` must at least amount to. If one pass per
            epoch gives fewer, as on a small table, every epoch makes several passes, so that
            schedules in epochs keep their proportions; null: one pass.
        select_by: the validation metric that selects the epoch, recorded at each: ``val/aucpr``,
            ``val/recall_at_q/LEVEL`` for a level in (0, 1), or ``val/recall_at_budget`` if there is
            a budget. Equal values go to the higher AUCPR.
    """

    max_epochs: int = 15
    batch_size: int = 512
    eval_batch_size: int = 8192
    threads: int = 1
    devices: int = 1
    device: str = "auto"
    precision: Literal["32", "bf16"] = "32"
    gradient_clip_norm: float | None = None
    select: Literal["main", "any"] = "main"
    patience: int | None = None
    checkpoint_every: str = "auto"
    resume: Literal["auto", "never"] = "auto"
    min_steps: int | None = None
    select_by: str = AUCPR

    def __post_init__(self) -> None:
        for name, most in MOST.items():
            value = getattr(self, name)
            if value is not None and not 1 <= value <= most:
                limits = "at least 1" if most == math.inf else f"1 to {most}"
                raise ValueError(f"{name} is {value}, expected {limits}")
        try:
            selecting(self.select_by)
        except ValueError as error:
            raise RequestError(f"trainer.select_by={self.select_by}: {error}") from None
        Cadence.parse(self.checkpoint_every)
        if self.gradient_clip_norm is not None and not self.gradient_clip_norm > 0:
            raise ValueError(
                f"gradient_clip_norm is {self.gradient_clip_norm}, expected a positive number"
            )

    def steps_per_epoch(self, rows: int) -> int:
        return self.passes(rows) * math.ceil(rows / self.batch_size)

    def passes(self, rows: int) -> int:
        """Passes over the training rows in an epoch."""
        steps = self.max_epochs * math.ceil(rows / self.batch_size)
        return math.ceil((self.min_steps or 1) / steps)

    def torch_device(self) -> torch.device:
        """The device named by ``device``.

        Raises:
            RequestError: torch does not know it, or it is unavailable on this machine.
        """
        if self.device != "auto":
            try:
                return torch.empty(0, device=self.device).device
            except (RuntimeError, AssertionError) as error:
                reason = str(error).splitlines()[0][:80]
                raise RequestError(
                    f"trainer.device={self.device}: not available here ({reason}); use auto or cpu"
                ) from error
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")

    def fit(
        self,
        work: Work,
        history: History,
        batches: torch.Generator,
        keeper: Keeper | None = None,
        epochs: int | None = None,
    ) -> Selection:
        """Train, appending one row per epoch; ``batches`` determines the order of the rows.

        ``epochs`` ends the training after so many of the ``max_epochs``, which stay what the
        passes of an epoch and the schedules follow from.

        If ``keeper`` has a checkpoint, training resumes from it and ends with the same bits. In a
        team of several processes, all of them call this and take over the first one's state.

        Raises:
            Diverged: a loss is not finite.
        """
        keeper = keeper or Keeper()
        selection = Selection(self.select, self.patience, self.select_by)
        course = Course(work, selection, history, batches)
        keeper.restore(course)
        work.team.share(course)
        try:
            while course.epoch < (epochs or self.max_epochs) and not course.selection.exhausted:
                self.end_epoch(course, self._train_epoch(course, keeper))
                keeper.between_steps(course)
        except Diverged as error:
            error.selection = course.selection
            raise
        return course.selection

    def end_epoch(self, course: Course, metrics: dict[str, float]) -> None:
        """Validate, consider the epoch, and append its row, which begins with ``metrics``."""
        work = course.work
        scores = self._validate(work)
        metrics |= validation_row(scores, work.val.y, self.select_by, work.alerts)
        course.selection.see(course.epoch, metrics, work.model, main=course.main)
        course.history.append(course.epoch, metrics)
        course.next_epoch()

    def scores(self, model: nn.Module, x: Tensor) -> Tensor:
        """Raw float32 scores of every row, in evaluation mode, on the CPU."""
        model.eval()
        with torch.inference_mode(), self.autocast():
            parts = [model(rows.to(self.torch_device())) for rows in x.split(self.eval_batch_size)]
        return _columns(torch.cat(parts)).float().cpu()

    def _validate(self, work: Work) -> Tensor:
        x = work.val.x
        return work.team.gathered(self.scores(work.model, work.team.mine(x)), len(x))

    def _train_epoch(self, course: Course, keeper: Keeper) -> dict[str, float]:
        """Train the rest of the epoch (all of it unless resumed within); its metrics."""
        work = course.work
        work.model.train()
        work.loss.train()
        clock, pool = Clock(work.loss), PoolWatch(work)
        if course.step == 0:
            clock.epoch(course.epoch)
        first_step = course.epoch * self.steps_per_epoch(len(work.train.y))
        for batch in self._batches(work, course.batches, course.step):
            clock.step(first_step + course.step)
            clock.rows(batch.rows, batch.y)
            course.main = course.main and (course.step > 0 or clock.at_final_weight)
            logits, loss = self._forward(work, batch.x, batch.y, batch.weight)
            course.losses.append(loss.detach())
            if not math.isfinite(loss.item()):
                raise Diverged(divergence(course, loss, logits, batch.y))
            self._update(work, loss)
            assert logits.grad is not None
            in_pool = pool.has_positive(batch.has_positive)
            members = len(logits) // batch.y.numel()  # of which each has a share of the loss
            course.health.step(members * logits.grad, batch.has_positive, in_pool)
            course.step += 1
            keeper.between_steps(course)
        mean = torch.stack(course.losses).double().mean().item()
        return {"train/loss": mean, **clock.metrics(), **course.health.metrics()}

    def _forward(
        self, work: Work, x: Tensor, y: Tensor, weight: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        model = work.model.member_logits if isinstance(work.model, Members) else work.model
        with self.autocast():
            logits = _columns(work.team.scores(model, x, len(y)))
        logits, y = logits.flatten(0, -2), y.flatten()
        logits.retain_grad()
        if weight is None:
            return logits, work.loss(logits, y)
        return logits, work.loss(logits, y, sample_weight=weight)

    def _update(self, work: Work, loss: Tensor) -> None:
        work.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        work.team.average_gradients(p for g in work.optimizer.param_groups for p in g["params"])
        if self.gradient_clip_norm is not None:
            nn.utils.clip_grad_norm_(work.model.parameters(), self.gradient_clip_norm)
        work.optimizer.step()
        if work.lr_schedule is not None:
            work.lr_schedule.step()

    def _batches(self, work: Work, batches: torch.Generator, done: int = 0) -> Iterator[Batch]:
        """The batches of an epoch after the first ``done``, in an order drawn from ``batches``."""
        table = work.train
        for rows, has_positive in itertools.islice(self.steps(work, batches), done, None):
            weight = None
            if table.sample_weight is not None:
                weight = table.sample_weight.index_select(0, rows)
            x, y = table.x.index_select(0, work.team.mine(rows)), table.y.index_select(0, rows)
            yield Batch(rows, x, y, weight, has_positive)

    def steps(self, work: Work, batches: torch.Generator) -> list[tuple[Tensor, Tensor]]:
        """The rows of every step of an epoch, and whether they include the rarest class."""
        table, device = work.train, work.train.x.device
        found: list[tuple[Tensor, Tensor]] = []
        for _ in range(self.passes(len(table.y))):
            order = work.sampler.order(work.kinds, self.batch_size, batches).to(device)
            holds_rare = self._any_per_batch(_rows_with(table.y, work.rare_class)[order])
            found += zip(order.split(self.batch_size), holds_rare, strict=True)
        return found

    def _any_per_batch(self, flags: Tensor) -> tuple[Tensor, ...]:
        """Whether any flag [N] is set in each batch of an epoch, one scalar per batch."""
        size = min(self.batch_size, len(flags))
        padded = nn.functional.pad(flags, (0, -len(flags) % size))
        return padded.view(-1, size).any(1).unbind()

    def autocast(self) -> AbstractContextManager[object]:
        if self.precision == "32":
            return nullcontext()
        return torch.autocast(self.torch_device().type, torch.bfloat16)


def _columns(logits: Tensor) -> Tensor:
    """Logits [N] of a model with one output as [N, 1]."""
    return logits.unsqueeze(1) if logits.ndim == 1 else logits


def real_rows(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Flatten sequences to rows [N, C] and [N], without the padding."""
    logits, y = logits.flatten(0, -2), y.flatten().cpu()
    kept = y != IGNORE_INDEX
    return (logits, y) if bool(kept.all()) else (logits[kept], y[kept])


def _rows_with(y: Tensor, label: int) -> Tensor:
    return (y == label).reshape(len(y), -1).any(-1)


def validation_row(
    logits: Tensor, y: Tensor, select_by: str, alerts: int | None = None
) -> dict[str, float]:
    """The validation metrics of one epoch from raw scores and targets, without the padding; those
    at the budget if so many rows may alert."""
    return validation_metrics(*real_rows(logits, y), select_by, alerts)


def reaches_main(trainer: Trainer, work: Work) -> bool:
    """Whether any full epoch trains at the final main weight, tried on a copy of the loss."""
    clock = Clock(copy.deepcopy(work.loss))
    steps = trainer.steps_per_epoch(len(work.train.y))
    for epoch in range(trainer.max_epochs):
        clock.epoch(epoch)
        clock.step(epoch * steps)
        if clock.at_final_weight:
            return True
    return False


def divergence(course: Course, loss: Tensor, logits: Tensor, y: Tensor) -> str:
    return (
        f"the loss is {loss.item()} at epoch {course.epoch}, step {course.step} (batch of {len(y)} "
        f"rows, {int((y == course.work.rare_class).sum())} of the rarest class, largest |logit| "
        f"{logits.detach().abs().max().item():.3g}); lower optimizer.lr or set "
        "trainer.gradient_clip_norm"
    )

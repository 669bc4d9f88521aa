"""Several runs of one configuration trained as one: the same steps, on stacked weights.

A loop of its own beside :meth:`rarelab.training.loop.Trainer.fit`, which is about one run on
several processes that can be resumed within an epoch; here K runs share a process, each can diverge
or stop by itself, and a killed batch is trained again. Both take batches, clocks, validation and
selection from the same places.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from rarelab.data.splits import Table
from rarelab.losses.together import LossesTogether
from rarelab.models.stacked import Stack
from rarelab.training.clock import Clock, PoolWatch
from rarelab.training.course import Course, Work
from rarelab.training.health import Health
from rarelab.training.history import History
from rarelab.training.loop import Diverged, Trainer, divergence
from rarelab.training.selection import Selection

Stop = Callable[[], BaseException | None]
Ended = Selection | Diverged


@dataclass
class Joint:
    """K runs that train as one: ``works`` are their own parts, of which the network is a view of
    ``network`` and the optimizer and its schedule are unused."""

    works: Sequence[Work]
    network: Stack
    loss: LossesTogether
    optimizer: Optimizer
    lr_schedule: LRScheduler | None


def fit_together(
    trainer: Trainer,
    joint: Joint,
    histories: Sequence[History],
    batches: Sequence[torch.Generator],
    stop: Stop = lambda: None,
) -> list[Ended]:
    """Train K runs as :meth:`rarelab.training.loop.Trainer.fit` trains one, up to rounding.

    A run that diverges, or stops early, stays in the stack and is ignored from then on.

    Args:
        trainer: how each is trained; one process, no checkpoints.
        joint: the runs.
        histories, batches: of each run, as for ``fit``.
        stop: called between steps; an exception that it returns ends the training.

    Returns:
        The selection of each run, or its divergence.
    """
    settings = (trainer.select, trainer.patience, trainer.select_by)
    courses = [
        Course(work, Selection(*settings), history, order)
        for work, history, order in zip(joint.works, histories, batches, strict=True)
    ]
    batch = _Batch(trainer, joint, courses, stop)
    for epoch in range(trainer.max_epochs):
        if not batch.live:
            break
        batch.train_epoch(epoch)
    return batch.ended()


class _Batch:
    """K runs while they train. ``live`` are those that still do, by their position."""

    def __init__(
        self, trainer: Trainer, joint: Joint, courses: Sequence[Course], stop: Stop
    ) -> None:
        self._trainer, self._joint, self._courses, self._stop = trainer, joint, courses, stop
        self._rows = _Rows([work.train for work in joint.works])
        self._pools = [PoolWatch(work) for work in joint.works]
        self._diverged: dict[int, Diverged] = {}
        self.live = list(range(len(courses)))

    def ended(self) -> list[Ended]:
        return [self._diverged.get(i, course.selection) for i, course in enumerate(self._courses)]

    def train_epoch(self, epoch: int) -> None:
        """Train an epoch, then validate and record each run that is still live."""
        joint, trainer = self._joint, self._trainer
        joint.network.train()
        joint.loss.train()
        clocks = [Clock(work.loss) for work in joint.works]
        for clock, course in zip(clocks, self._courses, strict=True):
            clock.epoch(epoch)
            course.epoch, course.step = epoch, 0
        steps = [trainer.steps(course.work, course.batches) for course in self._courses]
        seen: list[tuple[Tensor, ...]] = []
        for rows, has_positive in map(_of_all, zip(*steps, strict=True)):
            self._tick(clocks, rows)
            seen.append(self._step(rows, has_positive))
            if (error := self._stop()) is not None:
                raise error
        losses, *counted = (torch.stack(values) for values in zip(*seen, strict=True))
        for i in self.live:
            health = Health()
            names = ("gradients", "batches", "pools")
            own = {name: values[:, i] for name, values in zip(names, counted, strict=True)}
            health.load_state_dict(own, losses.device)
            mean = losses[:, i].double().mean().item()
            metrics = {"train/loss": mean, **clocks[i].metrics(), **health.metrics()}
            trainer.end_epoch(self._courses[i], metrics)
        self.live = [i for i in self.live if not self._courses[i].selection.exhausted]

    def _tick(self, clocks: Sequence[Clock], rows: Tensor) -> None:
        """Tell the losses of the step, and the courses whether it is at the final main weight."""
        first = self._courses[0]
        step = first.epoch * self._trainer.steps_per_epoch(len(first.work.train.y)) + first.step
        for clock, course, own in zip(clocks, self._courses, rows, strict=True):
            clock.step(step)
            clock.rows(own, course.work.train.y)
            course.main = course.main and (course.step > 0 or clock.at_final_weight)

    def _step(self, rows: Tensor, has_positive: Tensor) -> tuple[Tensor, ...]:
        """One step on rows [K, N] of each run: losses, largest gradients at a logit, and whether
        batch and pool hold a row of the rarest class, [K] each."""
        joint = self._joint
        x, y, weight = self._rows.take(rows)
        with self._trainer.autocast():
            logits = joint.network(x)
        logits.retain_grad()
        losses = joint.loss(logits, y, weight)
        self._drop_diverged(losses.detach(), logits, y)
        joint.optimizer.zero_grad(set_to_none=True)
        losses.backward(self._counted(losses))
        if self._trainer.gradient_clip_norm is not None:
            self._clip(self._trainer.gradient_clip_norm)
        joint.optimizer.step()
        if joint.lr_schedule is not None:
            joint.lr_schedule.step()
        assert logits.grad is not None
        steepest = logits.grad.abs().amax((1, 2))
        in_pool = [w.has_positive(own) for w, own in zip(self._pools, has_positive, strict=True)]
        for course in self._courses:
            course.step += 1
        return losses.detach(), steepest, has_positive, torch.stack(in_pool)

    def _counted(self, losses: Tensor) -> Tensor:
        """1 for each run that is live, else 0."""
        counted = torch.zeros_like(losses)
        counted[self.live] = 1
        return counted

    def _drop_diverged(self, losses: Tensor, logits: Tensor, y: Tensor) -> None:
        """Leave out the runs whose loss is no longer finite."""
        if bool(losses.isfinite().all()):
            return
        for i in [i for i in self.live if not bool(losses[i].isfinite())]:
            error = Diverged(divergence(self._courses[i], losses[i], logits[i], y[i]))
            error.selection = self._courses[i].selection
            self._diverged[i] = error
            self.live.remove(i)

    def _clip(self, most: float) -> None:
        """Clip the gradient of each network by its own norm."""
        for _, part in self._joint.network.parts():
            grads = [weight.grad for weight in part.weights if weight.grad is not None]
            squares = torch.stack([grad.flatten(1).square().sum(1) for grad in grads])
            scale = (most / (squares.sum(0).sqrt() + 1e-6)).clamp(max=1.0)
            for grad in grads:
                grad.mul_(scale.view(-1, *[1] * (grad.ndim - 1)))


class _Rows:
    """The training rows of K runs, in one table: theirs if they share it, else one below the other.

    The tables are of the same length.
    """

    def __init__(self, tables: Sequence[Table]) -> None:
        first = tables[0]
        shared = all(table.x is first.x for table in tables)
        kept = [first] if shared else tables
        self._x, self._y = torch.cat([t.x for t in kept]), torch.cat([t.y for t in kept])
        weights = [t.sample_weight for t in kept if t.sample_weight is not None]
        self._weight = torch.cat(weights) if weights else None
        starts = [0] * len(tables) if shared else [i * len(first) for i in range(len(tables))]
        self._starts = torch.tensor(starts, device=first.x.device).unsqueeze(1)

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """x [K, N, F], y [K, N] and weights [K, N] of the rows [K, N] of each run."""
        at, shape = (rows + self._starts).flatten(), rows.shape
        x, y = self._x.index_select(0, at), self._y.index_select(0, at)
        weight = None if self._weight is None else self._weight.index_select(0, at).view(shape)
        return x.unflatten(0, shape), y.view(shape), weight


def _of_all(steps: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The rows of one step [K, N], and whether they hold a row of the rarest class [K]."""
    rows, has_positive = zip(*steps, strict=True)
    return torch.stack(rows), torch.stack(has_positive)

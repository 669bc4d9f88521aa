"""All state that changes while a run trains, as plain data, so that the run can be resumed."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from rarelab.data.splits import Table
from rarelab.streams import global_state, set_global_state
from rarelab.training.health import Health
from rarelab.training.history import History
from rarelab.training.sampling import Natural, Sampler, row_kinds
from rarelab.training.selection import Selection
from rarelab.training.team import Team


@dataclass
class Work:
    """The parts of a training run: built once, moved to the device, then trained by a team.

    ``alerts`` is how many validation rows may alert, if there is a budget.
    """

    model: nn.Module
    loss: nn.Module
    optimizer: Optimizer
    lr_schedule: LRScheduler | None
    train: Table
    val: Table
    rare_class: int
    sampler: Sampler = field(default_factory=Natural)
    team: Team = field(default_factory=Team)
    alerts: int | None = None

    @cached_property
    def kinds(self) -> Tensor:
        """The kinds by which the sampler distinguishes training rows, int64 [N] on the CPU."""
        return row_kinds(self.train.y)


@dataclass
class Course:
    """The state of a run between two steps: the parts, the best epoch so far, and the position.

    ``step`` counts the steps done in ``epoch``; ``order`` is the batch generator's state at the
    start of the epoch, which determines the epoch's order. ``losses``, ``health`` and ``main``
    (whether every step was at the final main weight) cover the epoch so far.
    """

    work: Work
    selection: Selection
    history: History
    batches: Generator
    epoch: int = 0
    step: int = 0
    main: bool = True
    losses: list[Tensor] = field(default_factory=list)
    health: Health = field(default_factory=Health)

    def __post_init__(self) -> None:
        self.order = self.batches.get_state()

    def next_epoch(self) -> None:
        """Move to the start of the next epoch."""
        self.epoch, self.step, self.main = self.epoch + 1, 0, True
        self.losses, self.health = [], Health()
        self.order = self.batches.get_state()

    @property
    def stepped(self) -> bool:
        return self.step > 0

    @property
    def finite(self) -> bool:
        """Whether every weight of the model is finite."""
        return all(bool(p.isfinite().all()) for p in self.work.model.parameters())

    def state_dict(self) -> dict[str, Any]:
        """The full state as tensors and plain values."""
        schedule = self.work.lr_schedule
        return {
            "model": self.work.model.state_dict(),
            "loss": self.work.loss.state_dict(),
            "optimizer": self.work.optimizer.state_dict(),
            "lr_schedule": None if schedule is None else schedule.state_dict(),
            "selection": self.selection.state_dict(),
            "history": len(self.history),
            "position": {"epoch": self.epoch, "step": self.step, "main": self.main},
            "losses": torch.stack(self.losses) if self.losses else None,
            "health": self.health.state_dict(),
            "order": self.order,
            "random": global_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state``; the history must already be cut to its length."""
        self.work.model.load_state_dict(state["model"])
        self.work.loss.load_state_dict(state["loss"])
        self.work.optimizer.load_state_dict(state["optimizer"])
        if self.work.lr_schedule is not None:
            self.work.lr_schedule.load_state_dict(state["lr_schedule"])
        self.selection.load_state_dict(state["selection"])
        for name, value in state["position"].items():
            setattr(self, name, value)
        device = self.work.train.x.device
        losses = state["losses"]
        self.losses = [] if losses is None else list(losses.to(device).unbind())
        self.health.load_state_dict(state["health"], device)
        self.order = state["order"]
        self.batches.set_state(self.order)
        set_global_state(state["random"])

"""The loop of a model that is grown in rounds: a round is a step on all training rows."""

import copy
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from rarelab.boosting.boosted import Boosted
from rarelab.boosting.gradient import Slope, Slopes, shares
from rarelab.data.splits import Table
from rarelab.metrics import validation_metrics
from rarelab.training.clock import Clock
from rarelab.training.health import DEAD_GRADIENT
from rarelab.training.history import History
from rarelab.training.keeper import Keeper
from rarelab.training.loop import Diverged, Trainer
from rarelab.training.selection import Selection
from rarelab.training.team import Team


@dataclass
class RoundWork:
    """The parts of such a run: built once, then trained. ``per_epoch`` is the number of rounds that
    a schedule in epochs takes for one; ``seed`` determines what the model draws; ``alerts`` is how
    many validation rows may alert, if there is a budget."""

    model: Boosted
    loss: nn.Module
    train: Table
    val: Table
    rare_class: int
    per_epoch: int
    seed: int
    alerts: int | None = None
    team: Team = field(default_factory=Team)

    def position(self, done: int) -> tuple[int, int]:
        """Epoch and step within it, after ``done`` rounds."""
        return divmod(done, self.per_epoch)


@dataclass
class RoundCourse:
    """The state of a run between two rounds; ``grown`` [N, C] is what the rounds so far have added
    to the scores of the validation rows, ``rare`` the training rows of the rarest class, ``text``
    the model to go on with, until :meth:`begin`."""

    work: RoundWork
    selection: Selection
    history: History
    done: int = 0
    text: str | None = None
    grown: Tensor = field(init=False)
    slopes: Slopes = field(init=False)
    rare: Tensor = field(init=False)

    def __post_init__(self) -> None:
        train = self.work.train
        self.slopes = Slopes(train.y, train.sample_weight)
        self.rare = (train.y == self.work.rare_class).nonzero().squeeze(1)
        outputs = len(self.work.model.start)
        self.grown = torch.zeros(len(self.work.val), outputs, dtype=torch.float64)

    @property
    def epoch(self) -> int:
        return self.work.position(self.done)[0]

    @property
    def step(self) -> int:
        return self.work.position(self.done)[1]

    @property
    def stepped(self) -> bool:
        return True  # a round is a step, whether it ends an epoch of the schedule or not

    @property
    def finite(self) -> bool:
        return True  # a loss that is not finite ends the run before a tree is grown on it

    def begin(self) -> None:
        """Prepare the model to grow from here."""
        self.work.model.begin(self.work.train, self.work.seed, self.done, self.text)
        self.text = None

    def state_dict(self) -> dict[str, Any]:
        """The full state as tensors and plain values."""
        begun = self.done and self.text is None
        return {
            "model": self.counted().state_dict(),
            "text": self.work.model.text() if begun else self.text,
            "grown": self.grown,
            "loss": self.work.loss.state_dict(),
            "selection": self.selection.state_dict(),
            "history": len(self.history),
            "position": {"epoch": self.done},  # a round is a row of the history
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state``, before :meth:`begin`; the history must already be cut to its
        length."""
        self.done, self.grown = state["position"]["epoch"], state["grown"]
        self.text = state["text"]
        self.work.loss.load_state_dict(state["loss"])
        self.selection.load_state_dict(state["selection"])

    def counted(self) -> "_Counted":
        return _Counted(self.work.model.steps)


class _Counted:
    """What a selection keeps of a model that only ever grows: how far it had come."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self._steps}


def fit_rounds(
    trainer: Trainer, work: RoundWork, history: History, keeper: Keeper | None = None
) -> Selection:
    """Grow the model, appending one row for each round.

    The epochs of a schedule count ``per_epoch`` rounds each, its steps one. The selection looks at
    every round, and its patience counts rounds. If ``keeper`` has a checkpoint, growing resumes
    from it and ends with the same bits.

    Every process of a team grows the same model, on its part of the training rows. Their scores are
    gathered, and each process evaluates the loss on the whole table; so are those of validation.

    Raises:
        Diverged: the loss or its gradient is not finite.
        Deserted: another process of the team is gone.
    """
    keeper = keeper or Keeper()
    selection = Selection(trainer.select, work.model.patience, trainer.select_by)
    course = RoundCourse(work, selection, history)
    keeper.restore(course)
    work.team.share(course)
    work.loss.train()
    try:
        with work.model.among(work.team):
            course.begin()
            _rounds(trainer, course, keeper)
    except Diverged as error:
        error.selection = course.selection
        raise
    return course.selection


def _rounds(trainer: Trainer, course: RoundCourse, keeper: Keeper) -> None:
    work = course.work
    clock = Clock(work.loss)
    while course.done < work.model.rounds and not course.selection.exhausted:
        if course.step == 0:
            clock.epoch(course.epoch)
        clock.step(course.done)
        metrics = _grow(course) | clock.metrics()
        scores = (work.model.start + course.grown).float()
        metrics |= validation_metrics(scores, work.val.y, trainer.select_by, work.alerts)
        counted, main = course.counted(), clock.at_final_weight
        course.selection.see(course.done, metrics, counted, main=main)
        course.history.append(course.done, metrics)
        course.done += 1
        keeper.between_steps(course)


def rounds_reach_main(work: RoundWork) -> bool:
    """Whether any round is at the final main weight, tried on a copy of the loss."""
    clock, last = Clock(copy.deepcopy(work.loss)), work.model.rounds - 1
    clock.epoch(work.position(last)[0])
    clock.step(last)
    return clock.at_final_weight


def _grow(course: RoundCourse) -> dict[str, float]:
    """Add one round; the loss before it, and the share of the rarest class's rows that the last
    loss of the blend hardly moves (in units of log-loss)."""
    work, team, found = course.work, course.work.team, []

    def objective(scores: Tensor) -> Slope:
        scores = team.gathered(scores, len(work.train)).double()
        rows = course.slopes.at(scores, shares(work.loss))
        if not math.isfinite(rows.value + float(rows.gradient.sum())):
            raise Diverged(_divergence(course, rows, scores))
        found.append(rows)
        gradient, curvature = team.mine(rows.gradient), team.mine(rows.curvature)
        return rows._replace(gradient=gradient, curvature=curvature)

    work.model.grow(objective)
    step = work.model.last_step(team.mine(work.val.x))
    if step is not None:
        course.grown = course.grown + team.gathered(step, len(work.val))
    if not found:  # the model follows an objective of its own
        return {}
    (rows,) = found
    moved = rows.last[course.rare].abs().amax(1)
    dead = (moved < DEAD_GRADIENT).double().mean().item()
    return {"train/loss": rows.value, "train/zero_grad_frac": dead}


def _divergence(course: RoundCourse, rows: Slope, scores: Tensor) -> str:
    return (
        f"the loss is {rows.value} at round {course.done} (largest |score| "
        f"{scores.abs().max().item():.3g}); lower model.learning_rate or raise "
        "model.lambda_l2 (XGBoost: model.reg_lambda)"
    )

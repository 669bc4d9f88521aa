"""A study's results as plain rows: its trials, the best one, and the importance of dimensions."""

import csv
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rarelab.search.space import Space

if TYPE_CHECKING:
    import optuna

_STATUS = {"COMPLETE": "done", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}
_ENOUGH = 4
"""Completed trials needed for a meaningful importance."""


@dataclass(frozen=True)
class Trial:
    """One row. ``value`` is the mean over seeds, or a pruned trial's last value; ``overrides`` are
    the searched ones."""

    number: int
    status: str
    value: float | None
    overrides: tuple[str, ...]


def trials(study: "optuna.Study", space: Space) -> list[Trial]:
    """All trials of a study in order."""
    return [
        Trial(
            trial.number,
            _STATUS.get(trial.state.name, trial.state.name.lower()),
            None if trial.state.name in ("FAIL", "RUNNING") else trial.value,
            tuple(space.overrides(trial.params)),
        )
        for trial in study.get_trials(deepcopy=False)
    ]


def best(rows: Sequence[Trial]) -> Trial | None:
    """The completed trial with the highest value; the first of any ties."""
    done = [row for row in rows if row.status == "done" and row.value is not None]
    return max(done, key=lambda row: row.value or 0.0, default=None)


def command(space: Space, trial: Trial) -> str:
    """The command that retrains a trial as a single run."""
    return shlex.join(["rarelab", "train", *space.fixed, *trial.overrides])


def importance(study: "optuna.Study") -> dict[str, float]:
    """Share of the value's variance explained by each dimension (functional ANOVA over a random
    forest, Hutter et al. 2014), most important first; empty with too few trials or no variance."""
    import optuna
    from optuna.trial import TrialState

    done = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    if len(done) < _ENOUGH or len({trial.value for trial in done}) == 1:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def write_trials(path: Path, rows: Sequence[Trial]) -> None:
    """The trials as CSV: number, status, value, and one column per dimension."""
    keys = [line.partition("=")[0] for line in rows[0].overrides] if rows else []
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["trial", "status", "value", *keys])
        for row in rows:
            values: list[Any] = [line.partition("=")[2] for line in row.overrides]
            table.writerow([row.number, row.status, row.value, *values])

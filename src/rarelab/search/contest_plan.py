"""The plan of a contest: its trials, all known in advance, and the runs that follow from them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from json import dumps
from pathlib import PurePath
from typing import Any

from rarelab.dashboard.arms import TRIALS as TRIALS_GROUP
from rarelab.dashboard.view import ARM
from rarelab.errors import RequestError
from rarelab.metrics.table import best_key
from rarelab.records.load import arm_of
from rarelab.records.names import labels
from rarelab.records.searched import TAG, TRIAL, TRIALS, as_arm, searched
from rarelab.search.cells import Cell
from rarelab.search.points import points
from rarelab.search.space import SEED, Space
from rarelab.search.trials import Trial, best
from rarelab.sweep.job import Job, Result, parameters, selects_by
from rarelab.sweep.overrides import key_of
from rarelab.sweep.plan import Planner, sweep_id
from rarelab.sweep.settings import Search


@dataclass(frozen=True)
class Searched:
    """A cell with its trials.

    Args:
        cell: the arm on a split.
        label: the arm, as ``rarelab compare`` names it.
        split: key -> value of what tells its split from those of the other cells.
        tried: the overrides of each trial; a single empty one if there is nothing to choose.
        trials: the job of each.
        metric: the validation metric that decides.
        tags: the tags of the runs with the chosen values.
    """

    cell: Cell
    label: str
    split: Mapping[str, str]
    tried: Sequence[tuple[str, ...]]
    trials: Sequence[Job]
    metric: str
    tags: Mapping[str, str]

    def rows(self, results: Mapping[int, Result]) -> list[Trial]:
        """How the trials ended; one that has not ended is ``waiting``, without a finite value
        ``failed``."""
        if not self.cell.dimensions:
            return [Trial(0, "given", None, ())]
        found = []
        for number, (job, overrides) in enumerate(zip(self.trials, self.tried, strict=True)):
            result = results.get(job.number)
            value = result.metrics.get(best_key(self.metric), math.nan) if result else math.nan
            good = result is not None and not result.failed and math.isfinite(value)
            status = "waiting" if result is None else "done" if good else "failed"
            found.append(Trial(number, status, value if good else None, overrides))
        return found

    def choice(self, results: Mapping[int, Result]) -> Trial | None:
        """The trial with the highest value, the first one on a tie; None if all of them failed."""
        rows = self.rows(results)
        return best(rows) if self.cell.dimensions else rows[0]

    def expected(self) -> list[Job]:
        """Its runs before their values are known: the first trial's, with the study's seeds."""
        first = self.trials[0]
        seeds = [int(line.partition("=")[2]) for line in self.cell.seeds]
        configs = [{**first.config, SEED: seed} for seed in seeds] or [first.config]
        return [replace(first, config=config, tags=dict(self.tags)) for config in configs]


@dataclass(frozen=True)
class Plan:
    """A contest before its first trial.

    Args:
        sweep: its id.
        searched: the cells with their trials.
        trials: the different jobs among these, numbered from 0.
    """

    sweep: str
    searched: Sequence[Searched]
    trials: Sequence[Job]

    def chosen(self, planner: Planner, results: Mapping[int, Result]) -> list[Job]:
        """The runs with the chosen values, numbered after the trials; none for a cell whose trials
        all failed."""
        lines, tags = [], []
        for one in self.searched:
            choice = one.choice(results)
            for seed in [(line,) for line in one.cell.seeds] or [()]:
                if choice is not None:
                    lines.append((*one.cell.lines, *choice.overrides, *seed))
                    tags.append(dict(one.tags))
        frozen = planner.frozen(lines)
        tagged = [replace(job, tags=own) for job, own in zip(frozen, tags, strict=True)]
        first = len(self.trials)
        return [replace(j, number=first + j.number) for j in planner.named(tagged, self.sweep)]


def plan_contest(planner: Planner, cells: Sequence[Cell], search: Search) -> Plan:
    """Compose and check all trials, both ends of every range, every choice, and the seeds.

    Raises:
        RequestError: one of them is invalid, or the trials' seed is one of the study's.
    """
    assert search.trials is not None
    trial_seed = f"{SEED}={search.seed}"
    tried = [_tried(cell, search.trials, search.seed) for cell in cells]
    lines = [(*c.lines, *t, trial_seed) for c, own in zip(cells, tried, strict=True) for t in own]
    composed = iter([_as_trial(job) for job in planner.frozen(lines)])
    each = [list(islice(composed, len(own))) for own in tried]
    _check_seeds(planner, cells, tried[0][0], search.seed)
    seeds = [f"{jobs[0].signature} {cell.seeds}" for cell, jobs in zip(cells, each, strict=True)]
    sweep = sweep_id([*(job.signature for jobs in each for job in jobs), *seeds])
    to_train = [j for cell, jobs in zip(cells, each, strict=True) if cell.dimensions for j in jobs]
    trials = planner.named(to_train, sweep)
    numbered = {job.signature: job for job in trials}
    tags = _tags(planner, cells, search)
    names = labels([_arm(jobs[0], tags[c.arm]) for c, jobs in zip(cells, each, strict=True)])
    of_cells = [
        Searched(
            *(cell, name, split, own, [numbered.get(job.signature, job) for job in jobs]),
            *(_metric(jobs), tags[cell.arm]),
        )
        for cell, name, split, own, jobs in zip(
            cells, names, _splits(cells), tried, each, strict=True
        )
    ]
    return Plan(sweep, of_cells, trials)


def _tried(cell: Cell, trials: int, seed: int) -> list[tuple[str, ...]]:
    data = sorted(_portable(line) for line in cell.data)
    found = points(cell.dimensions, trials, seed, data)
    return [tuple(d.override(values[d.key]) for d in cell.dimensions) for values in found]


def _portable(line: str) -> str:
    """The override without the folder of a table, which may move between machines."""
    key, _, value = line.partition("=")
    return f"{key}={PurePath(value).name}" if key == "dataset.path" else line


def _as_trial(job: Job) -> Job:
    """The job as a trial's, without figures, at which nobody looks."""
    tracking = job.config["tracking"]
    figures = {"figures": False} if "figures" in tracking else {}
    config = {**job.config, "tracking": {**tracking, **figures}}
    return replace(job, config=config, tags={"rarelab.kind": TRIAL, ARM: TRIALS_GROUP})


def _check_seeds(
    planner: Planner, cells: Sequence[Cell], first: Sequence[str], trial_seed: int
) -> None:
    seeds = dict.fromkeys((line,) for cell in cells for line in cell.seeds) or [()]
    runs = planner.frozen([(*cells[0].lines, *first, *seed) for seed in seeds])
    if trial_seed in {run.config[SEED] for run in runs}:
        raise RequestError(
            f"sweep.search.seed={trial_seed}: expected none of the study's seeds, so that no run "
            "has the randomness by which its values were chosen"
        )


def _tags(
    planner: Planner, cells: Sequence[Cell], search: Search
) -> dict[tuple[Any, ...], dict[str, str]]:
    """The tags of each arm's chosen runs: what was chosen from, and what else follows from it."""
    found: dict[tuple[Any, ...], dict[str, str]] = {}
    for cell in cells:
        if cell.arm not in found:
            corners = Space(cell.dimensions, (), ()).corners() if cell.dimensions else []
            jobs = planner.frozen([(*cell.lines, *corner) for corner in corners])
            known = [parameters(job) for job in jobs]
            moved = {k for one in known for k in one if len({o.get(k) for o in known}) > 1}
            named = {key_of(key): space for key, space in cell.chosen_from.items()}
            chosen_from = dict.fromkeys(moved) | named | {TRIALS: str(search.trials)}
            found[cell.arm] = {TAG: dumps(chosen_from, sort_keys=True)}
    return found


def _arm(job: Job, tags: Mapping[str, str]) -> dict[str, str]:
    return arm_of(as_arm(parameters(job), searched(tags)))


def _splits(cells: Sequence[Cell]) -> list[dict[str, str]]:
    """The values of the data's keys that differ between cells."""
    every = [{key_of(line): line.partition("=")[2] for line in cell.data} for cell in cells]
    keys = dict.fromkeys(key for one in every for key in one)
    swept = [key for key in keys if len({one.get(key) for one in every}) > 1]
    return [{key: one.get(key, "") for key in swept} for one in every]


def _metric(trials: Sequence[Job]) -> str:
    found = {selects_by(job) for job in trials}
    if len(found) > 1:
        raise RequestError(
            f"trainer.select_by={','.join(sorted(found))}: it decides between an arm's trials, so "
            "it cannot be searched"
        )
    return found.pop()

"""Studies that are contests: each arm is searched on every split, then run with what it chose.

The trials are committed as a CSV, from which the runs follow again.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rarelab.errors import RarelabError
from rarelab.metrics.table import best_key
from rarelab.records.load import Run
from rarelab.records.searched import TRIAL
from rarelab.search import contest_tables
from rarelab.search.cells import read_cells
from rarelab.search.contest_plan import Plan, plan_contest
from rarelab.sweep.job import Job, Result
from rarelab.sweep.plan import Planner
from rarelab.sweep.settings import Settings

TRIALS = "trials.csv"


@dataclass(frozen=True)
class Planned:
    """A contest before its first trial, with the planner of the runs that follow."""

    planner: Planner
    plan: Plan

    def runs(self, text: str) -> list[Job]:
        """The runs with the values that the trials of a CSV choose.

        Raises:
            RarelabError: they are not the trials of this contest.
        """
        values = [float(line["value"] or "nan") for line in csv.DictReader(io.StringIO(text))]
        tried = [(one, job) for one in self.plan.searched for job in one.trials]
        results = {
            job.number: Result(job.number, "done", metrics={best_key(one.metric): value})
            for (one, job), value in zip(tried, values, strict=False)
            if one.cell.dimensions
        }
        if _as_csv(self.plan, results) != text:
            raise RarelabError(f"{TRIALS}: not the trials that the study plans now")
        return self.plan.chosen(self.planner, results)

    def trials(self, runs: Sequence[Run]) -> str:
        """The trials as a CSV: arm, split, ending, validation metric, the values tried."""
        known = {run.tags.get("rarelab.signature"): run for run in runs if is_trial(run)}
        results = {
            job.number: Result(job.number, "done", metrics=dict(known[job.signature].metrics))
            for job in self.plan.trials
            if job.signature in known
        }
        return _as_csv(self.plan, results)


def planned(
    planner: Planner, grid: Mapping[str, Any], lines: Sequence[str], chosen: Settings
) -> Planned:
    """The contest of a study: its grid, the overrides of its sweep, and the settings of that."""
    cells = read_cells(planner.composer.parser, grid, lines, chosen)
    return Planned(planner, plan_contest(planner, cells, chosen.contest))


def is_trial(run: Run) -> bool:
    """Whether a run only served to choose an arm's values."""
    return run.tags.get("rarelab.kind") == TRIAL


def _as_csv(plan: Plan, results: Mapping[int, Result]) -> str:
    text = io.StringIO()
    rows = contest_tables.rows(plan.searched, results)
    csv.writer(text, lineterminator="\n").writerows(contest_tables.table(rows))
    return text.getvalue()

"""A fair contest: every arm searched with the same number of trials on every split, then trained.

All trials are known before the first one starts, and a choice depends on the trials of its own arm
and split alone. So both phases are plain sweeps, which resume, skip and retry on any launcher, and
the same request ends with the same table however often it was killed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rarelab.runs.interruption import sigterm_raises
from rarelab.search import contest_tables as tables
from rarelab.search.cells import read_cells
from rarelab.search.contest_plan import plan_contest
from rarelab.sweep.conduct import Ending, Sweep
from rarelab.sweep.display import closing_table, show
from rarelab.sweep.duration import estimate
from rarelab.sweep.job import Job, Result, is_trial
from rarelab.sweep.parent import Parent, is_open
from rarelab.sweep.table import arms, table_text


class Contest:
    """One contest while it runs.

    Args:
        sweep: plans and runs the jobs.
        study: the study's own grid (``hydra.sweeper.params``).
        arguments: the command line's overrides.

    Raises:
        RequestError: the request is invalid; nothing ran and nothing was written.
    """

    def __init__(self, sweep: Sweep, study: Mapping[str, Any], arguments: Sequence[str]) -> None:
        self._sweep = sweep
        cells = read_cells(sweep.composer.parser, study, arguments, sweep.settings)
        self._plan = plan_contest(sweep.planner, cells, sweep.settings.contest)
        self._expected = [job for one in self._plan.searched for job in one.expected()]
        self._jobs: list[Job] = []
        self._results: dict[int, Result] = {}
        self._stopped = False

    def run(self) -> list[Result]:
        """Show the plan, then search and train, unless this is a dry run.

        Returns:
            How each job ended, the trials first; one done before is ``skipped``, with its metrics.
            Empty for a dry run.
        """
        sweep, plan = self._sweep, self._plan
        trials, missing, self._results = sweep.look(plan.trials)
        chosen = [] if missing else plan.chosen(sweep.planner, self._results)
        runs, to_train, done = sweep.look(chosen) if chosen else ([], [], {})
        to_do = [*missing, *(to_train if chosen else self._expected)]
        time = estimate(to_do, sweep.folder, sweep.settings.n_jobs)
        where = sweep.planner.availability
        text = tables.plan_text(plan, trials, runs, sweep.settings, time, where)
        show(f"{text}{sweep.batches([*plan.trials, *chosen])}")
        if sweep.settings.dry_run:
            return []
        if to_do or is_open(sweep.folder, plan.sweep):
            sweep.planner.require_data(to_do)
            self._carry_out()
        else:
            self._jobs, self._results = [*plan.trials, *chosen], self._results | done
            show(f"nothing to run\n\n{self._found()}")
        return [self._results[job.number] for job in self._jobs if job.number in self._results]

    def _carry_out(self) -> None:
        """Search, then train with what was chosen."""
        sweep, plan = self._sweep, self._plan
        sweep.note_other(plan.sweep)
        self._results = {}
        arms_in_all = len({one.cell.arm for one in plan.searched})
        kept = {"search": plan.sweep, "name": f"contest of {arms_in_all} arms"}
        self._parent = Parent(sweep.cfg, plan.trials, sweep.folder, sweep.sink(), **kept)
        with sigterm_raises(), self._parent:
            try:
                self._train(plan.trials, later=len(self._expected))
                if not self._stopped:
                    chosen = plan.chosen(sweep.planner, self._results)
                    self._parent.plan_arms(chosen)
                    self._train(chosen)
            finally:
                self._tell()

    def _train(self, jobs: Sequence[Job], later: int = 0) -> None:
        """Run the missing jobs among these, and keep the results of all."""
        sweep, parent = self._sweep, self._parent
        _, missing, done = sweep.look(jobs)
        self._jobs += jobs
        self._results |= done
        parent.plan(self._jobs)
        ending = Ending(self._jobs, self._results, parent, sweep.settings, sweep.home, later)
        try:
            sweep.rounds([replace(job, parent=parent.run_id) for job in missing], ending)
        finally:
            self._results = dict(ending.results)
            self._stopped = ending.stopped

    def _tell(self) -> None:
        """Show how it ended, and write it to the contest's record."""
        parent, plan = self._parent, self._plan
        skipped = {j.number: Result(j.number, "skipped", reason="not started") for j in self._jobs}
        ended = skipped | self._results
        shown = [job for job in self._jobs if not is_trial(job) or ended[job.number].failed]
        if shown:
            show(closing_table(shown, {job.number: ended[job.number] for job in shown}))
        rows = tables.rows(plan.searched, self._results)
        parent.keep(lambda: tables.write(parent.directory / "trials.csv", rows))
        left = sum(job.number not in self._results for job in plan.trials)
        if left:
            show(f"\n{left} of {len(plan.trials)} trials have not ended: nothing is chosen yet")
            parent.note(self._results)
        else:
            told = tables.chosen(plan.searched, self._results)
            parent.keep(lambda: tables.write(parent.directory / "chosen.csv", told))
            show(f"\n{self._found()}")
            parent.conclude(ended)
        show(f"\n{parent.whereabouts()}")
        if any(result.failed for result in self._results.values()):
            parent.status = "error"

    def _found(self) -> str:
        """What was chosen, and the table of the arms."""
        trials = self._sweep.settings.contest.trials
        choices = tables.choices_text(self._plan.searched, self._results, trials)
        found = arms(self._jobs, self._results)
        return f"{choices}\n\n{table_text(found)}" if found else choices

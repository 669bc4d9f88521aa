"""A sweep from request to table: plan, skip what is done, run, retry, report."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig

from rarelab import paths
from rarelab.config import build
from rarelab.config.compose_many import Composer
from rarelab.runs.interruption import sigterm_raises
from rarelab.sweep.batches import apart, batches_line, gathered
from rarelab.sweep.display import Progress, closing_table, plan_text, show
from rarelab.sweep.done import Standing, last_metrics, standings
from rarelab.sweep.duration import estimate
from rarelab.sweep.job import Job, Result
from rarelab.sweep.launcher import JobLauncher
from rarelab.sweep.overrides import expand
from rarelab.sweep.parent import Parent, is_open, under_way
from rarelab.sweep.plan import Planner
from rarelab.sweep.settings import Settings, settings
from rarelab.sweep.table import arms, table_text
from rarelab.tracking import MlflowSink, close_dead_runs, owner
from rarelab.tracking.naming import experiment_name


class Ending:
    """Keeps, shows and records how the jobs have ended so far."""

    def __init__(
        self,
        jobs: Sequence[Job],
        done: dict[int, Result],
        parent: Parent,
        chosen: Settings,
        home: Path,
        later: int = 0,
    ) -> None:
        self._jobs, self._parent, self._settings, self._home = jobs, parent, chosen, home
        self.results = dict(done)
        self._progress = Progress([job for job in jobs if job.number not in done], later)
        self.stopped = False

    def ended(self, result: Result, *, final: bool) -> bool:
        """Add a result; whether further jobs may start."""
        if result.status == "killed":
            if result.directory:
                owner.wait_for_end(Path(result.directory))
            close_dead_runs(self._home)  # the run's own process cannot do it any more
        self.results[result.number] = result
        self._progress.ended(result, final=final)
        self._parent.note(self.results)
        self.stopped |= final and result.failed and self._settings.on_error == "stop"
        return not self.stopped

    def tell(self) -> None:
        """Show the tables, and write them to the sweep's record."""
        reason = "not started: sweep.on_error=stop" if self.stopped else "not started"
        for job in self._jobs:
            self.results.setdefault(job.number, Result(job.number, "skipped", reason=reason))
        found = arms(self._jobs, self.results)
        show(f"{closing_table(self._jobs, self.results)}\n\n{table_text(found)}")
        self._parent.conclude(self.results)
        show(f"\n{self._parent.whereabouts()}")
        if any(result.failed for result in self.results.values()):
            self._parent.status = "error"

    def in_order(self) -> list[Result]:
        return [self.results[job.number] for job in self._jobs]


class Sweep:
    """One sweep while it runs.

    Args:
        cfg: the configuration of the sweep itself, including Hydra's node.
        loader: composes the jobs.
        launcher: runs them.
    """

    def __init__(self, cfg: DictConfig, loader: ConfigLoader, launcher: JobLauncher) -> None:
        self.cfg, self._launcher = cfg, launcher
        self.composer = Composer(loader)
        self._sink: Any = None
        self.settings: Settings = settings(cfg)
        self.home = paths.home(cfg.paths.home)
        study = cfg.hydra.runtime.choices.get("experiments")
        self._experiment = experiment_name(cfg.tracking.experiment, study)
        if self.settings.contest.trials is not None and cfg.tracking.experiment is None:
            # The study without a search asks another question, of arms with the same names.
            self._experiment += "_contest"
        self.folder = self.home / "runs" / self._experiment
        where = str(self.home), self._experiment
        self.planner = Planner(self.composer, *where, self.settings.batch)

    def grid(self, study: dict[str, Any], arguments: Sequence[str]) -> list[Result]:
        """Run a grid; ``study`` is the study file's own grid (``hydra.sweeper.params``).

        Raises:
            RequestError: the request is invalid; nothing ran and nothing was written.
        """
        lines = expand(self.composer.parser, study, arguments, self.settings)
        return self.run(self.planner.jobs(lines))

    def run(self, jobs: Sequence[Job]) -> list[Result]:
        """Show the plan, then run the missing jobs unless this is a dry run.

        Returns:
            How each job ended, in plan order; a job done before is ``skipped``, with its metrics.
            Empty for a dry run.
        """
        stand, missing, done = self.look(jobs)
        show(self._plan(stand, missing))
        if self.settings.dry_run:
            return []
        if not missing:
            show(f"nothing to run\n\n{table_text(arms(jobs, done))}")
            if is_open(self.folder, jobs[0].sweep):
                # Another process ran the last jobs: mark this sweep's record as done as well.
                with Parent(self.cfg, jobs, self.folder, self.sink()) as parent:
                    parent.conclude(done)
            return [done[job.number] for job in jobs]
        self.planner.require_data(missing)
        self.note_other(jobs[0].sweep)
        parent = Parent(self.cfg, jobs, self.folder, self.sink())
        ending = Ending(jobs, done, parent, self.settings, self.home)
        with sigterm_raises(), parent:
            try:
                self.rounds([replace(job, parent=parent.run_id) for job in missing], ending)
            finally:
                ending.tell()
        return ending.in_order()

    def note_other(self, sweep: str) -> None:
        """Say so if another process is running the same sweep."""
        other = under_way(self.folder, sweep)
        if other is not None:
            show(
                f"note: the same sweep is already running in another process ({other}); its "
                "unfinished jobs will be trained twice. To avoid this, stop this sweep and run it "
                "again later"
            )

    def look(self, jobs: Sequence[Job]) -> tuple[list[Standing], list[Job], dict[int, Result]]:
        """The state of every job, the jobs still to run, and the results of the others."""
        sink = self.sink()
        uri, warn = None, None
        if isinstance(sink, MlflowSink):
            uri, warn = sink.uri, sink.warn
        stand = standings(jobs, self.home, self._experiment, uri, warn)
        missing = [s.job for s in stand if s.found is None or self.settings.force]
        done = {s.job.number: self._skipped(s, uri) for s in stand if s.job not in missing}
        return stand, missing, done

    def _skipped(self, standing: Standing, uri: str | None) -> Result:
        run = standing.found
        assert run is not None
        return Result(
            standing.job.number,
            "skipped",
            run_id=run.run_id,
            directory=str(run.directory or ""),
            metrics=last_metrics(run, self.home, uri),
            reason="done before",
        )

    def sink(self) -> Any:
        """The tracker, one instance, which warns only once about an unavailable store."""
        if self._sink is None:
            facts = {"experiment": self._experiment, "home": str(self.home)}
            self._sink = build.instantiate(self.cfg, "tracking", facts)
        return self._sink

    def _plan(self, stand: Sequence[Standing], missing: Sequence[Job]) -> str:
        text = plan_text(
            stand,
            self.planner.availability,
            force=self.settings.force,
            estimate=estimate(missing, self.folder, self.settings.n_jobs),
            all_jobs=self.settings.dry_run,
        )
        return f"{text}{self.batches([standing.job for standing in stand])}"

    def batches(self, jobs: Sequence[Job]) -> str:
        """The plan's line about batches, if they were asked for."""
        return "" if self.settings.batch == "off" else f"\n{batches_line(jobs)}"

    def rounds(self, jobs: Sequence[Job], ending: Ending) -> None:
        """Run the jobs, then run the failed ones again together while retries are left."""
        waiting = list(jobs)
        for left in range(self.settings.retries, -1, -1):
            again: set[int] = set()

            sent = gathered(waiting)
            by_number = {job.number: job for job in sent}

            def report(
                result: Result,
                left: int = left,
                again: set[int] = again,
                by_number: dict[int, Job] = by_number,
            ) -> bool:
                for one in self._each(by_number[result.number], result):
                    if left and one.may_be_retried:
                        again.add(one.number)
                    ending.ended(one, final=one.number not in again)
                return not ending.stopped

            self._launcher.run_jobs(sent, report)
            waiting = [job for job in waiting if job.number in again]
            if not waiting or ending.stopped:
                break

    def _each(self, job: Job, result: Result) -> list[Result]:
        """The results of a job and its companions. Of a batch whose process died, some runs may
        have been done before."""
        if not job.companions or result.companions:
            return [*apart(job, result)]
        _, _, done = self.look([job, *job.companions])
        ended = {number: replace(one, status="done", reason="") for number, one in done.items()}
        return [ended.get(one.number, one) for one in apart(job, result)]

"""A search from request to best trial: check the corners, then ask, train and tell in a loop."""

import contextlib
import math
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from rarelab.config import build
from rarelab.errors import RequestError, nearest
from rarelab.metrics.table import AUCPR, best_key
from rarelab.runs.interruption import sigterm_raises
from rarelab.search.display import closing, in_words, plan, trial_line
from rarelab.search.method import Asked, Method, StudyAddress, Told, ask, tell, unfinished
from rarelab.search.picture import draw
from rarelab.search.prune import PruneReport
from rarelab.search.space import SEED, Space
from rarelab.search.trials import best, importance, trials, write_trials
from rarelab.sweep.conduct import Ending, Sweep
from rarelab.sweep.display import show
from rarelab.sweep.job import Job, Result, selects_by
from rarelab.sweep.parent import Parent
from rarelab.sweep.plan import sweep_id
from rarelab.sweep.table import arms, write_table
from rarelab.tracking import owner

if TYPE_CHECKING:
    import optuna

JOURNAL = "study.journal"


@dataclass(frozen=True)
class Options:
    """How a search chooses, when it stops, and where it is stored.

    Args:
        method: how values are chosen and runs pruned.
        n_trials: total number of trials, including earlier ones of the same search.
        timeout: seconds after which no trial starts; None for no limit.
        trials_at_once: trials chosen together, without knowing each other's values.
        storage: a database URL; None for a journal in the search's folder.
        metric: the validation metric to maximise; None for the one that selects the epochs.
    """

    method: Method
    n_trials: int
    timeout: float | None
    trials_at_once: int
    storage: str | None
    metric: str | None = None


class Search:
    """One search while it runs.

    A trial first trains with its first seed, watched by the pruner; the other seeds follow unless
    it is pruned. Trials are asked for and told in batches and in order, so the choices do not
    depend on which job ends first.

    Args:
        sweep: plans and runs jobs.
        space: the dimensions to search.
        options: how to search, and for how long.
    """

    def __init__(self, sweep: Sweep, space: Space, options: Options) -> None:
        self._sweep, self._space, self._options = sweep, space, options
        if sweep.settings.batch != "off":
            show("note: sweep.batch has no effect: the jobs of a search run alone")
            sweep.planner.batch = "off"
        self._jobs: list[Job] = []
        self._results: dict[int, Result] = {}
        self._stopped = False

    def run(self) -> list[Result]:
        """Check the corners, then search; the results of this call's jobs.

        Raises:
            RequestError: a corner of the space is invalid; nothing ran.
        """
        # One seed for each corner, then the other seeds at the first corner.
        each = [self._lines(corner) for corner in self._space.corners()]
        corners = self._sweep.planner.jobs([lines[0] for lines in each])
        seeds = self._sweep.planner.jobs(each[0])
        selecting = {selects_by(job) for job in [*corners, *seeds]}
        self._metric = objective(self._options.metric, selecting)
        # The metric that selects is part of the jobs' signatures.
        other = [] if selecting == {self._metric} else [self._metric]
        jobs = [*map(_identity, [*corners, *seeds]), *other]
        self._id = sweep_id([repr(self._space.dimensions), *jobs])
        known = find_alone(self._sweep.folder, f"sweep-{self._id}")
        planner, dry = self._sweep.planner, self._sweep.settings.dry_run
        if not dry:
            planner.require_data([*corners, *seeds])
        if known is None:  # a dry run fetches nothing
            _rehearse([job for job in corners if not dry or planner.has_data(job)])
        trials_in_all = self._options.n_trials
        show(plan(self._id, self._space, trials_in_all, len(corners), known, self._metric))
        if self._sweep.settings.dry_run:
            return []
        if self._options.storage:
            self._address_in(Path()).open()  # an unreachable database fails before any writing
        self._parent = Parent(
            self._sweep.cfg, [], self._sweep.folder, self._sweep.sink(), search=self._id
        )
        self._address = self._address_in(self._parent.directory)
        with sigterm_raises(), self._parent:
            study = self._address.open()
            try:
                self._search(study)
            finally:
                self._tell(study)
        return [self._results[job.number] for job in self._jobs if job.number in self._results]

    def _address_in(self, directory: Path) -> StudyAddress:
        storage = self._options.storage or str(directory / JOURNAL)
        return StudyAddress(storage, f"rarelab-{self._id}", self._options.method)

    def _lines(self, overrides: Sequence[str]) -> list[list[str]]:
        """The overrides of a trial's jobs, one list per seed."""
        seeds = [[f"{SEED}={seed}"] for seed in self._space.seeds] or [[]]
        return [[*self._space.fixed, *overrides, *seed] for seed in seeds]

    def _search(self, study: "optuna.Study") -> None:
        began = monotonic()
        limit = self._options.timeout
        batch = unfinished(study)
        while not self._stopped and (limit is None or monotonic() - began < limit):
            batch = batch or self._next(study)
            if not batch:
                return
            self._train(study, batch)
            batch = []

    def _next(self, study: "optuna.Study") -> list[Asked]:
        left = self._options.n_trials - len(study.get_trials(deepcopy=False))
        count = min(left, self._options.trials_at_once)
        return [ask(study, self._options.method, self._space) for _ in range(count)]

    def _train(self, study: "optuna.Study", batch: Sequence[Asked]) -> None:
        planned = {asked.number: self._planned(asked) for asked in batch}
        self._carry_out([jobs[0] for jobs in planned.values()])
        alive = [jobs for jobs in planned.values() if self._alive(jobs[0])]
        self._carry_out([job for jobs in alive for job in jobs[1:]])
        for asked in batch:
            told = self._told(asked.number, planned[asked.number])
            if told is not None:
                tell(study, told)
                self._show(study, asked.number)

    def _alive(self, job: Job) -> bool:
        result = self._results.get(job.number)
        return result is not None and math.isfinite(self._value(result))

    def _value(self, result: Result) -> float:
        return result.metrics.get(best_key(self._metric), math.nan)

    def _planned(self, asked: Asked) -> list[Job]:
        """The jobs of a trial; the first is the one watched by the pruner."""
        overrides = self._space.overrides(asked.values)
        jobs = self._sweep.planner.jobs(self._lines(overrides), self._id)
        seeds = [[f"{SEED}={seed}"] for seed in self._space.seeds] or [[]]
        watched = None
        if self._options.method.pruner != "none":
            watched = PruneReport(self._address, asked.number, self._metric)
        return [
            replace(
                job,
                number=asked.number * len(jobs) + place,
                name=" ".join([*overrides, *seed]),
                numbers=_numbers([*overrides, *seed, f"trial={asked.number}"]),
                listener=None if place else watched,
            )
            for place, (job, seed) in enumerate(zip(jobs, seeds, strict=True))
        ]

    def _carry_out(self, jobs: Sequence[Job]) -> None:
        """Run the missing jobs among these, and keep the results of all."""
        if self._stopped or not jobs:
            return
        _, missing, done = self._sweep.look(jobs)
        self._jobs += jobs
        self._results |= done
        for job in jobs:
            if job.number in done and isinstance(job.listener, PruneReport):
                job.listener.replay(Path(done[job.number].directory))
        self._parent.plan(self._jobs)
        sweep, parent = self._sweep, self._parent
        ending = Ending(self._jobs, self._results, parent, sweep.settings, sweep.home)
        try:
            self._sweep.rounds(
                [replace(job, parent=self._parent.run_id) for job in missing], ending
            )
        finally:
            self._results = dict(ending.results)
            self._stopped = ending.stopped

    def _told(self, number: int, jobs: Sequence[Job]) -> Told | None:
        """The outcome of a trial; None if it is unfinished and will be resumed later."""
        found = [self._results[job.number] for job in jobs if job.number in self._results]
        if any(result.status == "pruned" for result in found):
            return Told(number, "pruned")
        values = [self._value(result) for result in found]
        if any(result.failed for result in found) or not all(map(math.isfinite, values)):
            return Told(number, "failed")
        if len(found) < len(jobs):
            return None
        return Told(number, "done", statistics.fmean(values))

    def _show(self, study: "optuna.Study", number: int) -> None:
        rows = trials(study, self._space)
        show(trial_line(rows, number, max(self._options.n_trials, len(rows))))
        top = best(rows)
        if top is not None and top.value is not None:
            self._parent.append({"search/best": top.value, "search/trials": number + 1.0})

    def _tell(self, study: "optuna.Study") -> None:
        """Show how the search ended, and write it to its record."""
        rows, folder = trials(study, self._space), self._parent.directory
        write_trials(folder / "trials.csv", rows)
        write_table(folder / "table.csv", arms(self._jobs, self._results))
        picture = folder / "figures" / "search.png"
        draw(rows, importance(study), picture, in_words(self._metric))
        if any(result.failed for result in self._results.values()):
            self._parent.status = "error"
        show(closing(self._id, self._space, rows, folder, self._metric))


def _rehearse(corners: Sequence[Job]) -> None:
    """Build everything each corner would train, with one seed.

    Raises:
        RequestError: a corner cannot be built.
    """
    for job in corners:
        try:
            build.prepared(OmegaConf.create(job.config))
        except RequestError as error:
            raise RequestError(f"at {' '.join(job.overrides)}: {error}") from None


def objective(asked: str | None, selecting: Collection[str]) -> str:
    """The validation metric that a search maximises, at the selected epoch of every run.

    Args:
        asked: the metric asked for; None for the one that selects the epochs.
        selecting: the metrics that select the epochs of its runs.

    Raises:
        RequestError: not every run records it, or its runs select by several.
    """
    key = "hydra.sweeper.metric"
    if asked is None and len(selecting) > 1:
        raise RequestError(
            f"trainer.select_by={','.join(sorted(selecting))}: the trials of a search are compared "
            f"by one metric, found {len(selecting)}; set {key}={AUCPR}"
        )
    recorded = {AUCPR, *(selecting if len(selecting) == 1 else ())}
    found = next(iter(selecting)) if asked is None else asked
    if found not in recorded:
        raise RequestError(
            f"{key}={found}: expected {AUCPR} or the metric of trainer.select_by, the only ones "
            f"recorded at the selected epoch; {nearest(found, recorded)}"
        )
    return found


def _identity(job: Job) -> str:
    return f"{job.signature} {job.code} {job.data}"


def _numbers(lines: Sequence[str]) -> dict[str, float]:
    """The numeric values among ``key=value`` lines, by key."""
    found = {}
    for line in lines:
        key, _, value = line.partition("=")
        with contextlib.suppress(ValueError):
            found[key.lstrip("+")] = float(value)
    return found


def find_alone(folder: Path, name: str) -> Path | None:
    """The folder of an earlier search to resume; None for a new one.

    Raises:
        RequestError: another process is running this search.
    """
    for directory in sorted(folder.glob(f"{name}-*")) if folder.is_dir() else []:
        if owner.alive(directory):
            raise RequestError(f"this search is already running in another process ({directory})")
        return directory
    return None

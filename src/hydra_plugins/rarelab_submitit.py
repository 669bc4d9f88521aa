"""``hydra/launcher=submitit_slurm``: the jobs of a sweep as an array of Slurm jobs, by submitit.

Hydra imports every module here at startup, so submitit is imported only when used. The published
launcher recomposes each job on its node, perhaps hours later, from files that may have changed by
then; this one runs the jobs as the plan froze them.
"""

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rarelab import paths
from rarelab.errors import RequestError, one_line
from rarelab.sweep.in_flight import run_in_flight
from rarelab.sweep.job import Job, Result
from rarelab.sweep.launcher import JobLauncher, Report
from rarelab.sweep.settings import at_least


class SubmititLauncher(JobLauncher):
    """Runs jobs with submitit, on Slurm or in local processes (to test the setup).

    Args:
        cluster: ``slurm`` or ``local``.
        folder: submitit's own files (job, log and result); null = ``submitit/`` in the home of the
            records. Must be visible to every node.
        jobs_at_once: jobs of the array running at once; null = no limit.
        timeout_min, cpus_per_task, gpus_per_node, mem_gb: what each job requests.
        max_timeouts: how often a job that ran out of time is requeued to resume.
        slurm: further ``sbatch`` options under submitit's names, ``{partition: gpu}``.
    """

    def __init__(
        self,
        cluster: Literal["slurm", "local"] = "slurm",
        folder: str | None = None,
        jobs_at_once: int | None = None,
        timeout_min: int = 240,
        cpus_per_task: int = 1,
        gpus_per_node: int = 0,
        mem_gb: float | None = None,
        max_timeouts: int = 3,
        slurm: Mapping[str, Any] | None = None,
    ) -> None:
        self._cluster = cluster
        self._folder = folder
        self._jobs_at_once = jobs_at_once
        self._max_timeouts = max_timeouts
        self._asks = {
            "timeout_min": timeout_min,
            "cpus_per_task": cpus_per_task,
            "gpus_per_node": gpus_per_node,
            "mem_gb": mem_gb,
        }
        self._slurm = dict(slurm or {})
        at_least("hydra.launcher.jobs_at_once", jobs_at_once, 1)
        at_least("hydra.launcher.max_timeouts", max_timeouts, 0)
        for name, least in (("timeout_min", 1), ("cpus_per_task", 1), ("gpus_per_node", 0)):
            at_least(f"hydra.launcher.{name}", self._asks[name], least)
        if mem_gb is not None and not 0 < mem_gb < math.inf:
            raise RequestError(f"hydra.launcher.mem_gb={mem_gb}: expected more than 0")

    def run_jobs(self, jobs: Sequence[Job], report: Report) -> list[Result]:
        folder = Path(self._folder or paths.home(self.config.paths.home) / "submitit").absolute()
        executor = self._executor(folder)
        local = self._cluster == "local"
        room = (self._jobs_at_once if local else None) or len(jobs)  # Slurm limits the array itself
        return run_in_flight(_Queue(executor, folder, room, local=local), jobs, report)

    def _executor(self, folder: Path) -> Any:
        try:
            import submitit
        except ImportError as error:
            needed = "pip install 'rarelab[slurm]'"
            raise RequestError(f"hydra/launcher=submitit_slurm: needs {needed}") from error
        logging.getLogger("submitit").setLevel(logging.ERROR)
        further = {f"slurm_{key}": value for key, value in self._slurm.items()}
        if self._jobs_at_once is not None:
            further["slurm_array_parallelism"] = self._jobs_at_once
        asks = {key: value for key, value in self._asks.items() if value is not None}
        try:
            executor = submitit.AutoExecutor(
                folder, self._cluster, slurm_max_num_timeout=self._max_timeouts
            )
            executor.update_parameters(name="rarelab", **asks, **further)
        except (RuntimeError, NameError, ValueError, TypeError, AssertionError) as error:
            raise RequestError(f"hydra.launcher: {one_line(error)}") from error
        return executor


class _Queue:
    """submitit as a :class:`rarelab.sweep.in_flight.Engine`; a handle is submitit's own job."""

    def __init__(self, executor: Any, folder: Path, room: int, *, local: bool) -> None:
        self._local = local
        self._executor = executor
        self._folder = folder
        self._room = room
        self._poll = 0.2 if local else 5.0

    def room(self) -> int:
        return self._room

    def submit(self, jobs: Sequence[Job]) -> list[Any]:
        work = _Work(str(self._folder))
        # On Slurm these become one job array.
        with self._executor.batch():
            return [self._executor.submit(work, job) for job in jobs]

    def ended(self, handles: Sequence[Any], seconds: float) -> list[Any]:
        deadline = time.monotonic() + max(seconds, self._poll)
        while True:
            found = [handle for handle in handles if handle.done()]
            if found or not handles or time.monotonic() >= deadline:
                return found
            time.sleep(self._poll)

    def result(self, handle: Any, job: Job) -> Result:
        from submitit.core.utils import FailedJobError, UncompletedJobError

        note = _note(self._folder, job)
        try:
            if self._local and not handle.paths.result_pickle.exists():
                # submitit would first wait for a slow file system.
                raise UncompletedJobError("its process is gone")
            return handle.result()
        except FailedJobError as error:
            reason = f"the job could not run on its node; see {handle.paths.stderr}"
            run_id, directory = _read(note)
            return Result(
                job.number, "error", run_id, directory, {}, "FailedJobError", reason, str(error)
            )
        except UncompletedJobError as error:
            reason = f"its process left no result; see {handle.paths.stderr}"
            run_id, directory = _read(note)
            return Result(job.number, "killed", run_id, directory, {}, "killed", reason, str(error))
        finally:
            note.unlink(missing_ok=True)

    def withdraw(self, handles: Sequence[Any]) -> list[Any]:
        pending = [handle for handle in handles if handle.state == "PENDING"]
        self.interrupt(pending)
        return pending

    def interrupt(self, handles: Sequence[Any]) -> None:
        for handle in handles:
            handle.cancel(check=False)


class _Work:
    """What submitit pickles. A job that is preempted or runs out of time is requeued unchanged; it
    finds its unfinished run and resumes from the last checkpoint."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __call__(self, job: Job) -> Result:
        from rarelab.sweep.work import run_job

        def opened(run_id: str, directory: str) -> None:
            _note(Path(self._folder), job).write_text(json.dumps([run_id, directory]))

        return run_job(job, opened)

    def checkpoint(self, job: Job) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, job)


def _note(folder: Path, job: Job) -> Path:
    """The file that remembers a job's run, in case its worker dies."""
    return folder / f"opened-{job.signature[:16]}.json"


def _read(note: Path) -> tuple[str, str]:
    try:
        run_id, directory = json.loads(note.read_text())
    except (OSError, ValueError):
        return "", ""
    return run_id, directory

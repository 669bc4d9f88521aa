"""The interface between a sweep and an engine: run these jobs, report each as it ends."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from rarelab.errors import RequestError
from rarelab.sweep.job import Job, Result

Report = Callable[[Result], bool]
"""Called with each job's result as it ends; returning False means: start no further job."""


class JobLauncher(Launcher):
    """A Hydra launcher for frozen jobs, which are not composed a second time.

    An engine subclasses it in ``hydra_plugins`` and implements :meth:`run_jobs`: send a
    :class:`~rarelab.sweep.job.Job` to a worker, call :func:`~rarelab.sweep.work.run_job` there
    and return the :class:`~rarelab.sweep.job.Result`. The sweep itself skips finished jobs,
    retries and makes the tables, in the same way for every engine.
    """

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep the sweep's base configuration: ``self.config.sweep``, ``.hydra.launcher``."""
        self.config = config

    def warm_up(self) -> None:
        """Start slow preparations (imports, connecting to a cluster) while the plan is made.

        Must have no lasting effect: the plan may be refused, or the user may want only the plan.
        """

    def cool_down(self) -> None:
        """Undo :meth:`warm_up` if no job was run: the sweep is over, or was refused."""

    @abstractmethod
    def run_jobs(self, jobs: Sequence[Job], report: Report) -> list[Result]:
        """Run the jobs, ``report`` each result as it arrives, and return all results.

        - A job that fails, or whose worker dies (status ``killed``), does not affect the others.
        - Once ``report`` has returned False, no further job starts; running jobs may finish. A job
          that never started has no result.
        - On KeyboardInterrupt or :class:`~rarelab.errors.Terminated`, every job is ended and its
          record closed before the exception propagates.
        """

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Any:
        """Hydra's entry point for other sweepers, which is not supported.

        Raises:
            RequestError: always.
        """
        raise RequestError(
            f"hydra/launcher: {type(self).__name__} works only with hydra/sweeper=rarelab or optuna"
        )

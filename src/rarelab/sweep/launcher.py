"""What a sweep asks of an engine: run these jobs, tell about each when it ends."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from rarelab.errors import RequestError
from rarelab.sweep.job import Job, Result

Report = Callable[[Result], bool]
"""Called with a job's result as soon as it is there; False means: start no further job."""


class JobLauncher(Launcher):
    """A Hydra launcher that runs frozen jobs, so that nothing is composed a second time.

    An engine subclasses it in ``hydra_plugins`` and writes :meth:`run_jobs`; most of that is to
    carry a :class:`~rarelab.sweep.job.Job` to a worker, call
    :func:`~rarelab.sweep.work.run_job` there and bring the
    :class:`~rarelab.sweep.job.Result` back. What is done before, retries and tables are the
    sweep's business, the same for every engine.
    """

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep the sweep's base configuration: ``self.config.sweep``, ``.hydra.launcher``."""
        self.config = config

    def warm_up(self) -> None:
        """Begin what takes long (importing libraries, reaching a cluster) while the plan is made.

        Must have no lasting effect: the plan may be refused, or be all that was asked for.
        """

    @abstractmethod
    def run_jobs(self, jobs: Sequence[Job], report: Report) -> list[Result]:
        """Run the jobs, ``report`` each result as it comes, and return them all.

        - A job that fails, or whose worker dies (status ``killed``), does not disturb the others.
        - Once ``report`` returned False no further job is started; those that run are waited for.
          A job that never started has no result.
        - KeyboardInterrupt and :class:`~rarelab.errors.Terminated` end every job and close its
          record before they are passed on.
        """

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Any:
        """Not for sweepers that know nothing of jobs.

        Raises:
            RequestError: always.
        """
        raise RequestError(
            f"hydra/launcher: {type(self).__name__} runs the jobs of hydra/sweeper=rarelab or "
            "optuna, not those of another sweeper"
        )

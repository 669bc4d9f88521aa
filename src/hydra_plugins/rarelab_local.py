"""Jobs on this machine: ``hydra/launcher=rarelab_local``, the default."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rarelab.sweep.job import Job, Result
from rarelab.sweep.launcher import JobLauncher, Report

if TYPE_CHECKING:
    from rarelab.sweep.shelf import SharedFolder


class RarelabLocal(JobLauncher):
    """Runs ``sweep.n_jobs`` processes at once, at most ``sweep.jobs_per_device`` on one GPU. A data
    set is read and prepared by the first job that needs it, for all of them."""

    _folder: "SharedFolder | None" = None

    def warm_up(self) -> None:
        """Let a fork server import torch and MLflow while the plan is made."""
        from rarelab.processes.fork import start_fork_server

        start_fork_server()

    def cool_down(self) -> None:
        """Remove what the jobs have shared, and end a fork server that none has needed."""
        from rarelab.processes.fork import end_unused_fork_server

        end_unused_fork_server()
        if self._folder is not None:
            self._folder.remove()
            self._folder = None

    def run_jobs(self, jobs: Sequence[Job], report: Report) -> list[Result]:
        """See :class:`~rarelab.sweep.launcher.JobLauncher`."""
        from rarelab.sweep.local import Pool, Slots, visible_devices
        from rarelab.sweep.shelf import SharedFolder

        # One for all calls: those of retries, and of the trials of a search.
        self._folder = self._folder or SharedFolder()
        chosen = self.config.sweep
        slots = Slots(chosen.n_jobs, visible_devices(), chosen.jobs_per_device)
        with self._folder.named():
            return Pool(slots).run(jobs, report)

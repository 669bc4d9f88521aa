"""Jobs on this machine: ``hydra/launcher=rarelab_local``, the default."""

from collections.abc import Sequence

from rarelab.sweep.job import Job, Result
from rarelab.sweep.launcher import JobLauncher, Report


class RarelabLocal(JobLauncher):
    """Runs ``sweep.n_jobs`` processes at once, at most ``sweep.jobs_per_device`` on one GPU."""

    def warm_up(self) -> None:
        """Let a fork server import torch and MLflow while the plan is made."""
        from rarelab.processes.fork import start_fork_server

        start_fork_server()

    def cool_down(self) -> None:
        """End a fork server that no job has needed."""
        from rarelab.processes.fork import end_unused_fork_server

        end_unused_fork_server()

    def run_jobs(self, jobs: Sequence[Job], report: Report) -> list[Result]:
        """See :class:`~rarelab.sweep.launcher.JobLauncher`."""
        from rarelab.sweep.local import Pool, Slots, visible_devices

        chosen = self.config.sweep
        slots = Slots(chosen.n_jobs, visible_devices(), chosen.jobs_per_device)
        return Pool(slots).run(jobs, report)

"""Jobs on a remote engine: how many at once, which have ended, when to give up."""

import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol, TypeVar

from rarelab.errors import Terminated
from rarelab.sweep.job import Job, Result
from rarelab.sweep.launcher import Report

Handle = TypeVar("Handle")
"""An engine's own reference to a submitted job."""

_GRACE = 60.0
"""Seconds that interrupted jobs have to close their records."""


class Engine(Protocol[Handle]):
    """What a cluster must implement."""

    def room(self) -> int:
        """How many jobs may be running or queued at once."""
        ...

    def submit(self, jobs: Sequence[Job]) -> list[Handle]:
        """Submit jobs; their handles, in the same order."""
        ...

    def ended(self, handles: Sequence[Handle], seconds: float) -> list[Handle]:
        """The handles that have ended, waiting up to ``seconds`` for one."""
        ...

    def result(self, handle: Handle, job: Job) -> Result:
        """The result of an ended job; ``killed`` if its worker left none."""
        ...

    def withdraw(self, handles: Sequence[Handle]) -> list[Handle]:
        """Cancel the jobs that have not started; their handles."""
        ...

    def interrupt(self, handles: Sequence[Handle]) -> None:
        """Ask running jobs to stop, as on Ctrl-C."""
        ...


def run_in_flight(engine: Engine[Handle], jobs: Sequence[Job], report: Report) -> list[Result]:
    """Run jobs on an engine as :meth:`rarelab.sweep.launcher.JobLauncher.run_jobs` promises."""
    waiting, running = deque(jobs), {}
    results: list[Result] = []
    try:
        while waiting or running:
            batch = [waiting.popleft() for _ in range(_free(engine, waiting, running))]
            running |= dict(zip(engine.submit(batch), batch, strict=True)) if batch else {}
            for handle in engine.ended(list(running), 1.0):
                results.append(engine.result(handle, running.pop(handle)))
                if not report(results[-1]):
                    waiting.clear()
                    for never_started in engine.withdraw(list(running)):
                        del running[never_started]
    except (KeyboardInterrupt, Terminated):
        for result in _interrupted(engine, running):
            report(result)
        raise
    return results


def _free(engine: Engine[Handle], waiting: deque[Job], running: dict[Handle, Job]) -> int:
    """How many jobs to submit; at least one if none is running, so the sweep always advances."""
    if not waiting:
        return 0
    return min(len(waiting), max(engine.room() - len(running), 0 if running else 1))


def _interrupted(engine: Engine[Handle], running: dict[Handle, Job]) -> list[Result]:
    """Stop all jobs; the results of those that were running."""
    for handle in engine.withdraw(list(running)):
        del running[handle]
    engine.interrupt(list(running))
    deadline, results = time.monotonic() + _GRACE, []
    while running and time.monotonic() < deadline:
        for handle in engine.ended(list(running), 1.0):
            results.append(engine.result(handle, running.pop(handle)))
    unheard = "the sweep was interrupted, and the job's worker did not respond"
    return results + [Result(job.number, "interrupted", reason=unheard) for job in running.values()]

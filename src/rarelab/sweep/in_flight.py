"""Jobs on an engine that is somewhere else: how many at once, who has ended, when to give up."""

import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol, TypeVar

from rarelab.errors import Terminated
from rarelab.sweep.job import Job, Result
from rarelab.sweep.launcher import Report

Handle = TypeVar("Handle")
"""An engine's own name for a job that was handed to it."""

_GRACE = 60.0
"""Seconds that interrupted jobs are given to close their records."""


class Engine(Protocol[Handle]):
    """What a cluster must be able to do."""

    def room(self) -> int:
        """How many jobs may be there at once, running or queued."""
        ...

    def submit(self, jobs: Sequence[Job]) -> list[Handle]:
        """Hand jobs over; their handles, in the same order."""
        ...

    def ended(self, handles: Sequence[Handle], seconds: float) -> list[Handle]:
        """Those that have ended; waits for one, at most so long."""
        ...

    def result(self, handle: Handle, job: Job) -> Result:
        """How a job that has ended did; ``killed`` when its worker left no result."""
        ...

    def withdraw(self, handles: Sequence[Handle]) -> list[Handle]:
        """Take back the jobs that have not started; which these were."""
        ...

    def interrupt(self, handles: Sequence[Handle]) -> None:
        """Ask running jobs to stop as after Ctrl-C."""
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
    """How many jobs to hand over; one where none runs, so that no engine is asked in vain."""
    if not waiting:
        return 0
    return min(len(waiting), max(engine.room() - len(running), 0 if running else 1))


def _interrupted(engine: Engine[Handle], running: dict[Handle, Job]) -> list[Result]:
    """Let go of all jobs; the results of those that ran."""
    for handle in engine.withdraw(list(running)):
        del running[handle]
    engine.interrupt(list(running))
    deadline, results = time.monotonic() + _GRACE, []
    while running and time.monotonic() < deadline:
        for handle in engine.ended(list(running), 1.0):
            results.append(engine.result(handle, running.pop(handle)))
    unheard = "the sweep was interrupted, and its worker did not answer"
    return results + [Result(job.number, "interrupted", reason=unheard) for job in running.values()]

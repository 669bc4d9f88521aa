"""Jobs on this machine: one process each, forked from a server with everything imported."""

import faulthandler
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from time import monotonic
from typing import Any

from rarelab.processes.fork import death, start
from rarelab.sweep.job import Job, Result
from rarelab.sweep.launcher import Report

_PATIENCE = 30.0
"""Seconds that a job has to close its record before it is killed."""


@dataclass
class Slots:
    """How many jobs may run at once, and on which GPUs.

    Args:
        n_jobs: jobs running at once, in total.
        devices: the GPUs, as named in ``CUDA_VISIBLE_DEVICES``; empty if there are none.
        jobs_per_device: jobs running at once on each GPU.
    """

    n_jobs: int
    devices: Sequence[str] = ()
    jobs_per_device: int = 1
    _taken: list[str | None] = field(default_factory=list)

    def free(self, device: str = "auto", count: int = 1) -> bool:
        """Whether a job with ``trainer.device=device`` and ``trainer.devices=count`` may start."""
        if len(self._taken) >= self.n_jobs:
            return False
        return not self._needs_any(device) or bool(self._least_used(count))

    def take(self, device: str = "auto", count: int = 1) -> str | None:
        """Take a slot; the GPUs visible to the job, None for all."""
        chosen = ",".join(self._least_used(count)) if self._needs_any(device) else None
        self._taken.append(chosen)
        return chosen

    def give_back(self, device: str | None) -> None:
        self._taken.remove(device)

    def _needs_any(self, device: str) -> bool:
        return bool(self.devices) and device in ("auto", "cuda")

    def _least_used(self, count: int) -> list[str]:
        """``count`` GPUs with a free slot, or an empty list. A job that wants more GPUs than exist
        gets all of them, and reports the shortage itself."""
        taken = [device for group in self._taken if group for device in group.split(",")]
        open_ = [device for device in self.devices if taken.count(device) < self.jobs_per_device]
        count = min(count, len(self.devices))
        return sorted(open_, key=taken.count)[:count] if len(open_) >= count else []


class Worker:
    """One job in its own process, as seen by the sweep."""

    def __init__(self, job: Job, device: str | None) -> None:
        self.job, self.device = job, device
        self._began = monotonic()
        self._seen = Result(job.number, "killed")
        self._ended = self._asked = False
        self.messages, theirs = multiprocessing.Pipe(duplex=False)
        environment = dict(os.environ)
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        self.process: ForkServerProcess = multiprocessing.get_context("forkserver").Process(
            target=_work, args=(job, theirs, environment), name=job.name, daemon=False
        )
        start(self.process)
        theirs.close()

    def listen(self) -> None:
        """Read what the job has sent so far."""
        try:
            while not self.messages.closed and self.messages.poll():
                message = self.messages.recv()
                if isinstance(message, Result):
                    self._seen, self._ended = message, True
                else:
                    run_id, directory = message
                    self._seen = replace(self._seen, run_id=run_id, directory=directory)
        except (EOFError, OSError):
            self.messages.close()  # the job closed its end: nothing more will arrive

    @property
    def over(self) -> bool:
        return self.process.exitcode is not None

    @property
    def sources(self) -> list[Any]:
        """What to wait on for news of the job."""
        return [self.process.sentinel, *([] if self.messages.closed else [self.messages])]

    def result(self) -> Result:
        """How the job ended; ``killed`` if its process died without sending a result."""
        self.listen()
        self.process.join()
        self.messages.close()
        if self._ended:
            return self._seen
        seen = replace(self._seen, seconds=monotonic() - self._began)
        if self._asked:
            return replace(seen, status="interrupted", reason="the sweep was interrupted")
        return replace(seen, error="Killed", reason=death(self.process.exitcode or 0))

    def end(self) -> None:
        """Ask the job to close its record and exit."""
        self._asked = True
        self.process.terminate()


class Pool:
    """Runs jobs, as many at once as there are slots."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._running: list[Worker] = []

    def run(self, jobs: Sequence[Job], report: Report) -> list[Result]:
        """See :meth:`rarelab.sweep.launcher.JobLauncher.run_jobs`."""
        waiting, results, going = deque(jobs), [], True
        try:
            while self._running or (waiting and going):
                while going and waiting and self._slots.free(*_devices(waiting[0])):
                    job = waiting.popleft()
                    self._running.append(Worker(job, self._slots.take(*_devices(job))))
                for worker in self._finished():
                    results.append(worker.result())
                    going = report(results[-1]) and going
        except BaseException:
            for result in self._end_all():
                report(result)
            raise
        return results

    def _finished(self) -> list[Worker]:
        """Wait for news; the workers that have ended."""
        connection.wait([source for worker in self._running for source in worker.sources])
        for worker in self._running:
            worker.listen()
        over = [worker for worker in self._running if worker.over]
        for worker in over:
            self._running.remove(worker)
            self._slots.give_back(worker.device)
        return over

    def _end_all(self) -> list[Result]:
        for worker in self._running:
            worker.end()
        deadline = monotonic() + _PATIENCE
        for worker in self._running:
            while not worker.over and monotonic() < deadline:
                connection.wait(worker.sources, timeout=deadline - monotonic())
                worker.listen()
            if not worker.over:
                worker.process.kill()
        return [worker.result() for worker in self._running]


def _devices(job: Job) -> tuple[str, int]:
    trainer = job.config["trainer"]
    return str(trainer.get("device")), trainer.get("devices", 1)


def _work(job: Job, messages: connection.Connection, environment: Mapping[str, str]) -> None:
    """The process of one job."""
    from rarelab.sweep.work import run_job  # imports all of training, unlike the sweep

    # Ctrl-C reaches every process in the group: the sweep decides when jobs end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.clear()
    os.environ.update(environment)
    threading.Thread(target=_leave_with_the_sweep, daemon=True).start()

    def opened(run_id: str, directory: str) -> None:
        _write_to(Path(directory) / "train.log")
        messages.send((run_id, directory))

    messages.send(run_job(job, opened))


def _leave_with_the_sweep() -> None:
    """End as on SIGTERM when the sweep's process is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _write_to(log: Path) -> None:
    """Also send what libraries and crashes write outside Python's streams to the job's log."""
    with log.open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    faulthandler.enable(file=2)


def visible_devices() -> list[str]:
    """The GPUs of this process, as named in ``CUDA_VISIBLE_DEVICES``."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return named.split(",")[:count] if named else [str(index) for index in range(count)]

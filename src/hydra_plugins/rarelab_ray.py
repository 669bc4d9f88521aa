"""``hydra/launcher=ray``: the jobs of a sweep as tasks on a Ray cluster.

Hydra imports every module here at startup, so Ray is imported only when used. The published
launcher recomposes each job on the cluster, from files that may have changed and without the plan's
checks; this one runs the jobs as the plan froze them.
"""

import contextlib
import logging
import os
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra_plugins.rarelab_ray_nodes import Nodes, processes
from rarelab.errors import RequestError, Terminated, one_line
from rarelab.sweep.in_flight import run_in_flight
from rarelab.sweep.job import Job, Result
from rarelab.sweep.launcher import JobLauncher, Report
from rarelab.sweep.settings import at_least

_KNOCK = 10.0

Opened = tuple[str, str]
"""The id and the folder of a run."""


class RayLauncher(JobLauncher):
    """Runs jobs on a Ray cluster, or on this machine if there is none.

    Args:
        address: the cluster's head, ``HOST:PORT``; null uses ``RAY_ADDRESS``, a cluster running on
            this machine, or one started for the sweep.
        cpus_per_job, gpus_per_job: what a job occupies, fractions allowed; both may be 0 only with
            ``jobs_at_once``.
        resources: custom resources that a job occupies, name -> amount.
        jobs_at_once: null = as many as the cluster's resources allow.
        runtime_env: Ray's runtime environment, e.g. ``{working_dir: .}`` to ship your own modules.
        spread: each process of a job with ``trainer.devices=K`` gets a node of its own, and there
            what a job occupies; otherwise a job starts them all where it runs.
    """

    def __init__(
        self,
        address: str | None = None,
        cpus_per_job: float = 1,
        gpus_per_job: float = 0,
        resources: Mapping[str, float] | None = None,
        jobs_at_once: int | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        spread: bool = False,
    ) -> None:
        demand = {"cpus_per_job": cpus_per_job, "gpus_per_job": gpus_per_job}
        demand |= {f"resources.{name}": amount for name, amount in (resources or {}).items()}
        for name, amount in demand.items():
            at_least(f"hydra.launcher.{name}", amount, 0)
        at_least("hydra.launcher.jobs_at_once", jobs_at_once, 1)
        if jobs_at_once is None and not any(demand.values()):
            raise RequestError(
                "hydra.launcher.cpus_per_job=0: a job without resources needs "
                "hydra.launcher.jobs_at_once"
            )
        self._address = address
        self._demand = {"CPU": cpus_per_job, "GPU": gpus_per_job, **(resources or {})}
        self._jobs_at_once = jobs_at_once
        self._runtime_env = runtime_env
        self._spread = spread

    def run_jobs(self, jobs: Sequence[Job], report: Report) -> list[Result]:
        with _connected(self._address, self._runtime_env), _Sigterm() as sigterm:
            spread = jobs if self._spread else ()
            cluster = _Cluster(self._demand, self._jobs_at_once, sigterm, spread)
            return run_in_flight(cluster, jobs, report)


@contextlib.contextmanager
def _connected(address: str | None, runtime_env: Mapping[str, Any] | None) -> Iterator[None]:
    """A connection to the cluster while the jobs run."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise RequestError("hydra/launcher=ray: needs pip install 'rarelab[ray]'") from error
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        _knock(address or os.environ.get("RAY_ADDRESS"))
        ray.init(
            address,
            runtime_env=_startable(runtime_env),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise RequestError(f"hydra.launcher.address={address}: {one_line(error)}") from error
    try:
        # Ray installs its own handler, under which SIGTERM would leave records open.
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGTERM, on_sigterm)
        yield
    finally:
        ray.shutdown()


def _startable(runtime_env: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Ray's runtime environment, with Python's path quoted if it needs quoting; None for none.

    Given a runtime environment, Ray (2.60) starts its workers through bash and quotes every word
    except Python's path; with a space in it, no worker starts and the command hangs.
    """
    asked = dict(runtime_env or {})
    if asked and not asked.keys() & {"py_executable", "pip", "uv", "conda", "container"}:
        quoted = shlex.quote(sys.executable)
        asked |= {} if quoted == sys.executable else {"py_executable": quoted}
    return asked or None


class _Sigterm:
    """Defers SIGTERM until it can be raised safely: an exception raised in the signal handler would
    pass through Ray's compiled code, which turns it into a different one."""

    def __enter__(self) -> "_Sigterm":
        self._received = False
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._before = signal.signal(signal.SIGTERM, self._keep)
        return self

    def __exit__(self, *_: object) -> None:
        if self._main:
            signal.signal(signal.SIGTERM, self._before)

    def raise_if_received(self) -> None:
        received, self._received = self._received, False
        if received:
            raise Terminated

    def _keep(self, *_: object) -> None:
        self._received = True


def _knock(address: str | None) -> None:
    """Raise OSError if nothing listens at ``HOST:PORT``; Ray would keep trying for five minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit() and "://" not in host:
        socket.create_connection((host, int(port)), timeout=_KNOCK).close()


class _Cluster:
    """Ray as a :class:`rarelab.sweep.in_flight.Engine`; a handle is a reference to a result.

    ``spread`` are the jobs, if their processes go to several nodes.
    """

    def __init__(
        self,
        demand: Mapping[str, float],
        jobs_at_once: int | None,
        sigterm: "_Sigterm",
        spread: Sequence[Job],
    ) -> None:
        import ray

        self._ray, self._sigterm = ray, sigterm
        self._demand = {name: amount for name, amount in demand.items() if amount}
        self._jobs_at_once = jobs_at_once
        self._notes = ray.remote(_Notes).options(num_cpus=0).remote()
        further = {k: v for k, v in self._demand.items() if k not in ("CPU", "GPU")}
        self._task = ray.remote(_work).options(
            num_cpus=demand["CPU"], num_gpus=demand["GPU"], resources=further, max_retries=0
        )
        self._processes = max(map(processes, spread), default=1)
        self._nodes = Nodes(self._demand, _work, self._notes, spread)

    def room(self) -> int:
        if self._jobs_at_once is not None:
            return self._jobs_at_once
        there = self._ray.cluster_resources()
        job = {k: amount * self._processes for k, amount in self._demand.items()}
        return max(1, min(int(there.get(k, 0) // amount) for k, amount in job.items()))

    def submit(self, jobs: Sequence[Job]) -> list[Any]:
        return [
            self._nodes.start(job)
            if self._processes > 1 and processes(job) > 1
            else self._task.remote(job, self._notes)
            for job in jobs
        ]

    def ended(self, handles: Sequence[Any], seconds: float) -> list[Any]:
        ready: list[Any] = []
        if handles:
            ready = self._ray.wait(list(handles), num_returns=1, timeout=seconds)[0]
        self._sigterm.raise_if_received()
        return [*ready, *(handle for handle in self._nodes.broken() if handle not in ready)]

    def result(self, handle: Any, job: Job) -> Result:
        try:
            return self._result(handle, job)
        finally:
            self._nodes.end(handle)

    def _result(self, handle: Any, job: Job) -> Result:
        from ray.exceptions import RayError, RayTaskError

        try:
            if not self._ray.wait([handle], timeout=0)[0]:
                raise self._nodes.broken()[handle]
            return self._ray.get(handle)
        except RayTaskError as error:
            run_id, directory = self._opened(job)
            text, cause = str(error), error.cause or error
            reason = f"the job could not run on its node: {one_line(cause)}"
            return Result(
                job.number, "error", run_id, directory, {}, type(cause).__name__, reason, text
            )
        except RayError as error:
            run_id, directory = self._opened(job)
            reason = one_line(error)
            return Result(job.number, "killed", run_id, directory, {}, type(error).__name__, reason)

    def withdraw(self, handles: Sequence[Any]) -> list[Any]:
        return []  # no job waits: only as many are submitted as can run

    def interrupt(self, handles: Sequence[Any]) -> None:
        for handle in handles:
            self._ray.cancel(handle, force=False)

    def _opened(self, job: Job) -> Opened:
        from ray.exceptions import RayError

        try:
            return self._ray.get(self._notes.of.remote(job.signature), timeout=10)
        except RayError:
            return "", ""  # the node with the notes is gone as well


class _Notes:
    """An actor that remembers each job's run, in case the job's worker dies."""

    def __init__(self) -> None:
        self._opened: dict[str, Opened] = {}

    def note(self, job: str, run_id: str, directory: str) -> None:
        self._opened[job] = (run_id, directory)

    def of(self, job: str) -> Opened:
        return self._opened.get(job, ("", ""))


def _work(job: Job, notes: Any) -> Result:
    from rarelab.sweep.work import run_job

    return run_job(job, lambda run_id, folder: notes.note.remote(job.signature, run_id, folder))

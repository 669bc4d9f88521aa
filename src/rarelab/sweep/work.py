"""Runs one job in this process, quietly, and returns how it ended."""

import contextlib
import io
import logging
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from omegaconf import OmegaConf

from rarelab.config import build
from rarelab.config.signature import code_fingerprint, targets_in
from rarelab.errors import Pruned, Terminated, one_line
from rarelab.runs.run import run
from rarelab.runs.together import Ending, Member, run_together
from rarelab.sweep.batches import own_values
from rarelab.sweep.failure import record_failure
from rarelab.sweep.job import Job, Result, Status
from rarelab.training import Diverged

Opened = Callable[[str, str], None]
"""Called with a run's id and folder as soon as they exist."""


def run_job(job: Job, opened: Opened = lambda run_id, directory: None) -> Result:
    """Run a job in this process, quietly; its failures are returned, not raised.

    The job's output goes to its own ``train.log``. Ctrl-C and SIGTERM end it as ``interrupted``,
    with its record closed.

    Args:
        job: the job.
        opened: called with the run's id and folder once the record is open.
    """
    if job.batch:
        return _run_batch(job, opened)
    began, seen = time.monotonic(), Result(job.number, "error")

    def note(run_id: str, directory: Path) -> None:
        nonlocal seen
        seen = replace(seen, run_id=run_id, directory=str(directory))
        opened(run_id, str(directory))

    try:
        with _into_the_log():
            cfg = OmegaConf.create(job.config)
            build.check(cfg)
            outcome = run(
                cfg,
                job.choices,
                parent=job.parent,
                name=job.name,
                tags=_tags(job),
                numbers=job.numbers,
                opened=note,
                listener=job.listener,
            )
        ended = replace(seen, status="done", metrics=outcome.metrics)
    except (KeyboardInterrupt, Terminated, Exception) as error:
        ended = _ended_by(error, seen)
    return replace(_recorded(job, ended), seconds=time.monotonic() - began)


def _run_batch(job: Job, opened: Opened) -> Result:
    """:func:`run_job` for a job and its companions, which train as one; ``opened`` hears of the
    job's own run."""
    jobs = sorted((job, *job.companions), key=lambda one: one.number)
    began, seen = time.monotonic(), [Result(one.number, "error") for one in jobs]
    waiting = set(range(len(jobs)))

    def note(index: int, run_id: str, directory: Path) -> None:
        seen[index] = replace(seen[index], run_id=run_id, directory=str(directory))
        if jobs[index].number == job.number:
            opened(run_id, str(directory))

    def ended(index: int, ending: Ending) -> None:
        waiting.discard(index)
        if isinstance(ending, Exception):
            seen[index] = _ended_by(ending, seen[index])
        else:
            seen[index] = replace(seen[index], status="done", metrics=ending.metrics)

    members = [
        Member(
            own_values(one),
            one.choices,
            parent=one.parent,
            name=one.name,
            tags=_tags(one),
            numbers=one.numbers,
            opened=partial(note, index),
        )
        for index, one in enumerate(jobs)
    ]
    try:
        with _into_the_log():
            run_together(OmegaConf.create(job.config), job.batch, members, ended)
    except (KeyboardInterrupt, Terminated, Exception) as error:
        for index in waiting:
            seen[index] = _ended_by(error, seen[index])
    seconds = (time.monotonic() - began) / len(jobs)
    results = {
        one.number: replace(_recorded(one, result), seconds=seconds)
        for one, result in zip(jobs, seen, strict=True)
    }
    return replace(results.pop(job.number), companions=tuple(results.values()))


def _ended_by(error: BaseException, seen: Result) -> Result:
    """The result of a job that an exception ended."""
    if isinstance(error, Pruned):
        return replace(seen, status="pruned", reason=one_line(error))
    if isinstance(error, KeyboardInterrupt | Terminated):
        return _failure(seen, "interrupted", error)
    return _failure(seen, "diverged" if isinstance(error, Diverged) else "error", error)


def _recorded(job: Job, ended: Result) -> Result:
    """The result, with a record of the failure if the job failed before it had one."""
    if ended.directory or ended.status in ("interrupted", "pruned"):
        return ended
    run_id, directory = record_failure(job, ended.error, ended.traceback)
    return replace(ended, run_id=run_id, directory=directory)


def _tags(job: Job) -> dict[str, str]:
    """The sweep's id, the job's own tags and, if the code changed since the plan, a code tag that
    matches no plan."""
    now = code_fingerprint(targets_in(job.config))
    edited = {} if now == job.code else {"rarelab.code": f"{now} (edited while the sweep ran)"}
    return {"rarelab.sweep": job.sweep, **job.tags, **edited}


def _failure(seen: Result, status: Status, error: BaseException) -> Result:
    return replace(
        seen,
        status=status,
        error=type(error).__name__,
        reason=one_line(error),
        traceback="".join(traceback.format_exception(error)),
    )


@contextlib.contextmanager
def _into_the_log() -> Iterator[None]:
    """Send everything printed to the run's log, so that jobs do not mix on the console."""
    log = logging.getLogger("rarelab")
    console = log.handlers
    # The record adds its file handler; without any handler, Python prints warnings itself.
    log.handlers = [logging.NullHandler()]
    log.setLevel(logging.INFO)
    log.propagate = False
    stream = _LogStream(log)
    try:
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
            yield
    finally:
        stream.flush_line()
        log.handlers = console


class _LogStream(io.TextIOBase):
    """A text stream that sends its lines to a logger."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._line = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._log.info("%s", line)
        return len(text)

    def flush_line(self) -> None:
        if self._line:
            self._log.info("%s", self._line)
            self._line = ""

"""Runs one job in this process, quietly, and returns how it ended."""

import contextlib
import io
import logging
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from omegaconf import OmegaConf

from rarelab.config import build
from rarelab.config.signature import code_fingerprint, targets_in
from rarelab.errors import Pruned, Terminated, one_line
from rarelab.runs.run import run
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
    except (KeyboardInterrupt, Terminated) as error:
        ended = _failure(seen, "interrupted", error)
    except Pruned as error:
        ended = replace(seen, status="pruned", reason=one_line(error))
    except Diverged as error:
        ended = _failure(seen, "diverged", error)
    except Exception as error:
        ended = _failure(seen, "error", error)
    if not ended.directory and ended.status != "interrupted":
        run_id, directory = record_failure(job, ended.error, ended.traceback)
        ended = replace(ended, run_id=run_id, directory=directory)
    return replace(ended, seconds=time.monotonic() - began)


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
        traceback=traceback.format_exc(),
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

"""One job of a sweep: all that any process on any machine needs to run it, and what came of it."""

import contextlib
import io
import logging
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rarelab.sweep.signature import code_fingerprint, targets_in

if TYPE_CHECKING:
    from rarelab.training.history import Listener

Status = Literal["done", "pruned", "diverged", "error", "interrupted", "killed", "skipped"]


@dataclass(frozen=True)
class Job:
    """A job as the plan froze it; plain data, so that it pickles to wherever it is to run.

    Args:
        number: its place in the plan.
        name: what is swept, ``loss=bce seed=3``; the run's name.
        overrides: what tells the jobs apart and what they share, as typed.
        config: the resolved configuration, plain containers; nothing is composed again later.
        choices: the option chosen in each group.
        signature, code, data: what makes it the same job as one that was run before.
        modules: the parts of ``code``: module -> digest.
        numbers: the swept numbers by key, recorded as metrics ``hp/<key>``.
        sweep: the sweep's id.
        parent: the id of the sweep's own run, once that is open.
        listener: hears the rows of the run's history where it is trained, and may end the run by
            raising :class:`~rarelab.errors.Pruned`.
    """

    number: int
    name: str
    overrides: tuple[str, ...]
    config: dict[str, Any] = field(repr=False)
    choices: dict[str, str | None] = field(repr=False)
    signature: str
    code: str
    data: str
    modules: dict[str, str] = field(default_factory=dict, repr=False)
    numbers: dict[str, float] = field(default_factory=dict)
    sweep: str = ""
    parent: str | None = None
    listener: "Listener | None" = None


@dataclass(frozen=True)
class Result:
    """How a job ended; plain data.

    ``error`` is the exception's type, ``reason`` one line (also why a job was skipped),
    ``traceback`` the whole text; ``directory`` the run's folder, "" if it never had one.
    """

    number: int
    status: Status
    run_id: str = ""
    directory: str = ""
    metrics: dict[str, float] = field(default_factory=dict, repr=False)
    error: str = ""
    reason: str = ""
    traceback: str = field(default="", repr=False)
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        return self.status not in ("done", "skipped", "pruned")

    @property
    def may_be_retried(self) -> bool:
        return self.status in ("error", "killed") and self.error != "RequestError"


def parameters(job: Job) -> dict[str, str]:
    """The job's choices and values, as its run's parameters have them."""
    from rarelab.record import run_parameters

    return run_parameters(job.config, job.choices)


Opened = Callable[[str, str], None]
"""Told a run's id and folder as soon as it has them."""


def run_job(job: Job, opened: Opened = lambda run_id, directory: None) -> Result:
    """Run a job in this process, quietly, and never raise for what goes wrong in it.

    What the job prints goes to its own ``train.log``. Ctrl-C and SIGTERM end it as
    ``interrupted``, with its record closed.

    Args:
        job: the job.
        opened: called with the run's id and folder when the record is open.
    """
    from omegaconf import OmegaConf

    from rarelab import build
    from rarelab.errors import Pruned, Terminated
    from rarelab.run import run
    from rarelab.sweep.failure import record_failure
    from rarelab.training import Diverged

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
    """The sweep's id; and if the code is no longer what was planned, a code that no plan has."""
    now = code_fingerprint(targets_in(job.config))
    edited = {} if now == job.code else {"rarelab.code": f"{now} (edited while the sweep ran)"}
    return {"rarelab.sweep": job.sweep, **edited}


def _failure(seen: Result, status: Status, error: BaseException) -> Result:
    return replace(
        seen,
        status=status,
        error=type(error).__name__,
        reason=one_line(error),
        traceback=traceback.format_exc(),
    )


def one_line(error: BaseException) -> str:
    """What an exception says, in one line; its type where it says nothing."""
    text = " ".join(str(error).split())
    return text or type(error).__name__


@contextlib.contextmanager
def _into_the_log() -> Iterator[None]:
    """Whatever is printed becomes a line of the run's log instead of one among other jobs'."""
    log = logging.getLogger("rarelab")
    console = log.handlers
    # The record adds its file; without any handler Python would print warnings itself.
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
    """A text stream whose lines go to a logger."""

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

"""What the processes other than rank 0 do: train along, and exit with rank 0."""

import logging
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from rarelab.config import build
from rarelab.errors import one_line
from rarelab.functional.threads import limited_threads
from rarelab.processes.group import Company, Launched, Member
from rarelab.processes.place import Place
from rarelab.streams import drawing_from, generator
from rarelab.training import Diverged
from rarelab.training.history import History
from rarelab.training.rounds import RoundWork, fit_rounds
from rarelab.training.team import Deserted


def follow_torchrun(cfg: DictConfig, place: Place) -> None:
    """Train along as a process started by torchrun."""
    follow(cfg, Launched(cfg), place.local_rank)


def follow_from(
    plain: dict[str, Any], rank: int, store: str, messages: Connection, environment: Mapping
) -> None:
    """Entry point of a process started by rank 0."""
    os.environ.clear()
    os.environ.update(environment)
    threading.Thread(target=_leave_with_the_first, daemon=True).start()
    cfg = OmegaConf.create(plain)
    try:
        follow(cfg, Member(cfg, rank, store), rank, ready=lambda: messages.send(""))
    except Exception as error:
        messages.send(f"{type(error).__name__}: {one_line(error)}")
        raise SystemExit(1) from None


def follow(
    cfg: DictConfig, company: Company, gpu: int, ready: Callable[[], None] = lambda: None
) -> None:
    """Build what rank 0 builds, call ``ready``, and train with it.

    Nothing is recorded or printed, and signals are ignored: rank 0 handles them, and ends the run
    by exiting. It also reports what all processes arrive at, such as divergence.
    """
    with _quiet(), _deaf():
        if gpu < torch.cuda.device_count() and cfg.trainer.device != "cpu":
            torch.cuda.set_device(gpu)
        build.check(cfg)
        trainer = build.trainer(cfg)
        with limited_threads(trainer.threads):
            prepared = build.prepared(cfg)
            work, unkept = prepared.work, History(Path(os.devnull))
            assert work is not None
            ready()
            with (
                suppress(Diverged, Deserted),
                company.joined(prepared.sizes.splits.digest) as work.team,
                drawing_from(cfg.seed, "model"),
            ):
                if isinstance(work, RoundWork):
                    fit_rounds(trainer, work, unkept)
                else:
                    trainer.fit(work, unkept, generator(cfg.seed, "batches"))


@contextmanager
def _quiet() -> Iterator[None]:
    log = logging.getLogger("rarelab")
    before = log.handlers
    log.handlers = [logging.NullHandler()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.handlers = before


@contextmanager
def _deaf() -> Iterator[None]:
    """Ignore SIGTERM and Ctrl-C: they reach every process, and rank 0 needs the others to finish
    the current step."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _leave_with_the_first() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)

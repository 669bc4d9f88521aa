"""Start and end the processes of one run, unless torchrun does."""

import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import connection
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Self, final

from omegaconf import DictConfig, OmegaConf

from rarelab.data.shared import FOLDER
from rarelab.processes.follow import follow_from
from rarelab.processes.fork import death, start, start_fork_server
from rarelab.processes.group import Company, Launched, open_team
from rarelab.processes.place import Place
from rarelab.training.team import Deserted, Team

_NEWS = 2.0
"""Seconds to wait for a process's exit code after its connection is lost."""


@final
class Starter(Company):
    """Rank 0, which starts the other processes on this machine and ends them.

    What it reads it leaves in a folder (:mod:`rarelab.data.shared`) until the others have mapped
    it: they read nothing again, and a machine holds the rows once.
    """

    def __init__(self, cfg: DictConfig, size: int) -> None:
        self._cfg, self._size = cfg, size
        self._others: list[_Other] = []

    def __enter__(self) -> Self:
        start_fork_server()
        self._folder = tempfile.TemporaryDirectory(prefix="rarelab-")
        self._store = str(Path(self._folder.name) / "store")
        self._shared = None
        if FOLDER not in os.environ:  # as it is in a sweep
            self._shared = Path(self._folder.name) / "splits"
            self._shared.mkdir(mode=0o700)
            os.environ[FOLDER] = str(self._shared)
        return self

    def __exit__(self, *_: object) -> None:
        for other in self._others:
            other.end()
        self._others = []
        self._stop_sharing()
        self._folder.cleanup()

    def _stop_sharing(self) -> None:
        """Remove the folder; whoever has mapped its files keeps them."""
        if self._shared is not None:
            os.environ.pop(FOLDER, None)
            shutil.rmtree(self._shared, ignore_errors=True)
            self._shared = None

    def start(self) -> None:
        for rank in range(1, self._size):
            self._others.append(_Other(self._cfg, rank, self._size, self._store))

    @contextmanager
    def joined(self, data: str) -> Iterator[Team]:
        while not all(other.ready for other in self._others):
            self._listen()
            if ended := self._ended():
                raise Deserted(ended)
        self._stop_sharing()
        with open_team(self._cfg, data, rank=0, store=self._store, missing=self._missing) as team:
            yield team

    def _missing(self) -> str | None:
        """Which process is gone and why, waiting briefly for the news."""
        deadline = monotonic() + _NEWS
        self._listen(0)
        while not (ended := self._ended()) and monotonic() < deadline:
            sleep(0.05)
            self._listen(0)
        return ended

    def _listen(self, timeout: float | None = None) -> None:
        connection.wait([source for o in self._others for source in o.sources], timeout)
        for other in self._others:
            other.listen()

    def _ended(self) -> str | None:
        return next((text for other in self._others if (text := other.ended())), None)


class _Other:
    """Another process of the run, as rank 0 sees it."""

    def __init__(self, cfg: DictConfig, rank: int, size: int, store: str) -> None:
        self._name = f"process {rank} of {size} (counted from 0)"
        self.ready, self._error = False, ""
        self._messages, theirs = multiprocessing.Pipe(duplex=False)
        plain = OmegaConf.to_container(cfg, resolve=True)
        self._process = multiprocessing.get_context("forkserver").Process(
            target=follow_from,
            args=(plain, rank, store, theirs, dict(os.environ)),
            name=f"rarelab-{rank}",
            daemon=True,
        )
        start(self._process)
        theirs.close()

    @property
    def sources(self) -> list[Any]:
        """Handles to wait on: the process and, while open, its messages."""
        return [self._process.sentinel, *([] if self._messages.closed else [self._messages])]

    def listen(self) -> None:
        """Read its messages: empty when it is ready to train, otherwise an error."""
        try:
            while not self._messages.closed and self._messages.poll():
                self._error = self._messages.recv()
                self.ready = True
        except (EOFError, OSError):
            self._messages.close()

    def ended(self) -> str | None:
        """How it failed, if it did; None for one that stopped because it lost the others."""
        if self._error:
            return f"{self._name} failed: {self._error}"
        code = self._process.exitcode
        return f"{self._name} is gone: {death(code)}" if code else None

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()
        self._messages.close()


def company_of(cfg: DictConfig, devices: int) -> Company:
    """The processes that this one, rank 0, trains with."""
    if devices == 1:
        return Company()
    return Launched(cfg) if Place.of_this_process() else Starter(cfg, devices)

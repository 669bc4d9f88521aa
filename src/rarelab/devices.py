"""The processes of one run: who starts them, and how they find each other.

With ``trainer.devices=N`` the process of the command starts N − 1 others; under torchrun all of
them are there already. Either way the first one (rank 0) does all that a single process does, and
records it; the others only train along (:mod:`rarelab.following`) and hold nothing to be lost.
"""

import multiprocessing
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from multiprocessing import connection
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Self, final

import torch
import torch.distributed as dist
from omegaconf import DictConfig, OmegaConf

from rarelab.launch import Place
from rarelab.processes import death, start, start_fork_server
from rarelab.sweep.signature import code_fingerprint, signature, targets_in
from rarelab.training.team import Deserted, Ranks, Team

PATIENCE = timedelta(minutes=10)
"""How long a process waits for one that lives but does not come."""

_NEWS = 2.0
"""Seconds in which the end of a process is told by the system, once its connection is lost."""


class Company:
    """A process that trains alone."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nobody behind."""

    def start(self) -> None:
        """Start the others, now that the request is known to be right."""

    @contextmanager
    def joined(self, data: str) -> Iterator[Team]:
        """The team while the block runs; ``data`` is the digest of the rows.

        Raises:
            Deserted: another process is gone.
            RarelabError: the processes do not train the same.
        """
        yield Team()


@final
class Launched(Company):
    """One of the processes that torchrun started."""

    def __init__(self, cfg: DictConfig) -> None:
        self._cfg = cfg

    @contextmanager
    def joined(self, data: str) -> Iterator[Team]:
        try:
            with _joined(self._cfg, data) as team:
                yield team
        except Deserted:
            # torchrun is about to end the others, this one with them; its record is closed first.
            with suppress(ValueError):
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            raise


@final
class Member(Company):
    """One of the processes that the first one started, at a place that it was told."""

    def __init__(self, cfg: DictConfig, rank: int, store: str) -> None:
        self._cfg, self._rank, self._store = cfg, rank, store

    @contextmanager
    def joined(self, data: str) -> Iterator[Team]:
        with _joined(self._cfg, data, rank=self._rank, store=self._store) as team:
            yield team


@final
class Starter(Company):
    """The first process, which starts the others on this machine and ends them."""

    def __init__(self, cfg: DictConfig, size: int) -> None:
        self._cfg, self._size = cfg, size
        self._others: list[_Other] = []

    def __enter__(self) -> Self:
        start_fork_server()
        self._folder = tempfile.TemporaryDirectory(prefix="rarelab-")
        self._store = str(Path(self._folder.name) / "store")
        return self

    def __exit__(self, *_: object) -> None:
        for other in self._others:
            other.end()
        self._others = []
        self._folder.cleanup()

    def start(self) -> None:
        for rank in range(1, self._size):
            self._others.append(_Other(self._cfg, rank, self._size, self._store))

    @contextmanager
    def joined(self, data: str) -> Iterator[Team]:
        while not all(other.ready for other in self._others):
            self._listen()
            if ended := self._ended():
                raise Deserted(ended)
        with _joined(self._cfg, data, rank=0, store=self._store, missing=self._missing) as team:
            yield team

    def _missing(self) -> str | None:
        """Which of the others is gone, and why, as soon as it is known."""
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
    """A process that trains along, seen from the first one."""

    def __init__(self, cfg: DictConfig, rank: int, size: int, store: str) -> None:
        from rarelab.following import follow_from

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
        """What becomes ready when there is news."""
        return [self._process.sentinel, *([] if self._messages.closed else [self._messages])]

    def listen(self) -> None:
        """Take what it has said: nothing when it is ready to train, else what went wrong."""
        try:
            while not self._messages.closed and self._messages.poll():
                self._error = self._messages.recv()
                self.ready = True
        except (EOFError, OSError):
            self._messages.close()

    def ended(self) -> str | None:
        """How it ended, if it did so badly; one that lost the others itself is not to blame."""
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
    """Who this process, the first one, trains with."""
    if devices == 1:
        return Company()
    return Launched(cfg) if Place.of_this_process() else Starter(cfg, devices)


@contextmanager
def _joined(cfg: DictConfig, data: str, **place: Any) -> Iterator[Ranks]:
    missing = place.pop("missing", lambda: None)
    try:
        _open_group(cfg.trainer.devices, **place)
    except RuntimeError as error:
        raise Deserted(missing() or f"the processes do not find each other ({error})") from error
    try:
        team = Ranks(missing)
        facts = {"configuration": signature(cfg), "data set": data}
        team.agree(facts | {"version of the code": code_fingerprint(targets_in(cfg))})
        yield team
    finally:
        dist.destroy_process_group()


def _open_group(size: int, rank: int | None = None, store: str | None = None) -> None:
    """Open torch's default group: at the meeting place in the environment, or in a file."""
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if rank is None or store is None:
        dist.init_process_group(backend, timeout=PATIENCE)
        return
    place = {"init_method": f"file://{store}", "rank": rank, "world_size": size}
    with _on_loopback():
        dist.init_process_group(backend, timeout=PATIENCE, **place)


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Processes of one machine listen on its loopback interface, where no other can reach them."""
    name = "GLOO_SOCKET_IFNAME"
    loopback = next(n for _, n in socket.if_nameindex() if n.startswith("lo"))
    before = os.environ.get(name)
    os.environ[name] = before or loopback
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before

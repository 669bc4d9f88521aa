"""The processes of one run: who starts them, and how they find each other.

With ``trainer.devices=N`` the command's process starts N − 1 others; under torchrun they all
exist already. Either way rank 0 does everything a single process would, including recording; the
others only train along (:mod:`rarelab.processes.follow`) and hold no state of their own.
"""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Self, final

import torch
import torch.distributed as dist
from omegaconf import DictConfig

from rarelab.config.signature import code_fingerprint, signature, targets_in
from rarelab.training.team import Deserted, Ranks, Team

PATIENCE = timedelta(minutes=10)
"""How long a process waits for one that is alive but does not respond."""

LOOPBACK = "127.0.0.1"


class Company:
    """A process that trains alone."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End every process that this one started."""

    def start(self) -> None:
        """Start the other processes, once the request has been checked."""

    @contextmanager
    def joined(self, data: str) -> Iterator[Team]:
        """The team while the block runs; ``data`` is the digest of the rows.

        Raises:
            Deserted: another process is gone.
            RarelabError: the processes disagree on configuration, data or code.
        """
        yield Team()


@final
class Launched(Company):
    """A process started by torchrun."""

    def __init__(self, cfg: DictConfig) -> None:
        self._cfg = cfg

    @contextmanager
    def joined(self, data: str) -> Iterator[Team]:
        try:
            with open_team(self._cfg, data) as team:
                yield team
        except Deserted:
            # torchrun is about to end all processes, this one included; close the record first.
            with suppress(ValueError):
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            raise


@final
class Member(Company):
    """A process started by rank 0, which also assigned its rank and meeting place."""

    def __init__(self, cfg: DictConfig, rank: int, store: str) -> None:
        self._cfg, self._rank, self._store = cfg, rank, store

    @contextmanager
    def joined(self, data: str) -> Iterator[Team]:
        with open_team(self._cfg, data, rank=self._rank, store=self._store) as team:
            yield team


@contextmanager
def open_team(cfg: DictConfig, data: str, **place: Any) -> Iterator[Ranks]:
    missing = place.pop("missing", lambda: None)
    # Without a store the processes may be on several machines, and a launcher says where.
    host = LOOPBACK if "store" in place else os.environ["MASTER_ADDR"]
    try:
        _open_group(cfg.trainer.devices, **place)
    except RuntimeError as error:
        raise Deserted(missing() or f"the processes cannot connect ({error})") from error
    try:
        team = Ranks(missing, host)
        facts = {"configuration": signature(cfg), "data set": data}
        team.agree(facts | {"version of the code": code_fingerprint(targets_in(cfg))})
        yield team
    finally:
        dist.destroy_process_group()


def _open_group(size: int, rank: int | None = None, store: str | None = None) -> None:
    """Open torch's default group, by the environment's rendezvous or through a file."""
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if rank is None or store is None:
        dist.init_process_group(backend, timeout=PATIENCE)
        return
    place = {"init_method": f"file://{store}", "rank": rank, "world_size": size}
    with _on_loopback():
        dist.init_process_group(backend, timeout=PATIENCE, **place)


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Have gloo listen on the loopback interface, out of reach of other machines."""
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

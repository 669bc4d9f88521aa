"""Which process is at work in a run's folder, and whether it still is.

On the same machine that is certain: a process is known by its number and the moment it started. A
process elsewhere (another host, another container) counts as alive while its file is touched.
"""

import json
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from rarelab.files import write_whole

OWNER = "owner.json"
BEAT = 20.0
"""Seconds between two signs of life."""

STALE = 120.0
"""Seconds without one after which a process elsewhere is taken for dead."""


@dataclass(frozen=True)
class Owner:
    """A process: ``place`` is host, boot and process namespace; ``started`` ticks since boot."""

    place: str
    pid: int
    started: int


def take(directory: Path) -> None:
    """Make this process the owner. The caller holds the lock that keeps others from doing so."""
    write_whole(directory / OWNER, json.dumps(asdict(_this_process())))


def release(directory: Path) -> None:
    """Nobody is at work here any more."""
    (directory / OWNER).unlink(missing_ok=True)


def alive(directory: Path) -> bool:
    """Whether the folder has an owner that still runs."""
    path = directory / OWNER
    try:
        owner = Owner(**json.loads(path.read_text(encoding="utf-8")))
        if owner.place == _place():
            return _start_of(owner.pid) == owner.started
        return _age(path) < STALE
    except (OSError, ValueError, TypeError):
        return False


@contextmanager
def beating(directory: Path) -> Iterator[None]:
    """Give a sign of life every :data:`BEAT` seconds while the block runs."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT):
            with suppress(OSError):
                os.utime(directory / OWNER)

    thread = threading.Thread(target=beat, name="rarelab-owner", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _this_process() -> Owner:
    return Owner(_place(), os.getpid(), _start_of(os.getpid()) or 0)


@cache
def _place() -> str:
    facts = [socket.gethostname()]
    with suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        facts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(facts)


def _start_of(pid: int) -> int | None:
    """When a process of this machine started; None if it is gone, 0 where nobody can tell."""
    if not Path("/proc/self/stat").exists():
        with suppress(PermissionError):
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return None
        return 0
    try:
        # What stands before the last parenthesis is the command's name, which may hold anything.
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else int(rest[18])


def _age(path: Path) -> float:
    """Seconds since a file was touched, by the clock of the file system that it lies on."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".clock-") as now:
        return os.stat(now.name).st_mtime - path.stat().st_mtime

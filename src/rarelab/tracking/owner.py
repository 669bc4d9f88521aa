"""Which process is at work in a run's folder, and whether it still is.

On the same machine that is certain: a process is known by its number and the moment it started,
whatever name the host goes by. A process elsewhere (another host, another container) counts as
alive while its file is touched, and whoever wants its folder waits for that sign of life.
"""

import json
import logging
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from rarelab.files import write_whole

OWNER = "owner.json"
_logger = logging.getLogger("rarelab")

BEAT = 20.0
"""Seconds between two signs of life."""

STALE = 120.0
"""Seconds without one after which a process elsewhere is taken for dead: six beats, as a network
file system may show a touch a minute late."""


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


def abandon(directory: Path) -> None:
    """Leave a folder whose run could not be closed to the next start, which takes it for dead.

    Done in place: this also works on a full disk.
    """
    path = directory / OWNER
    with suppress(OSError), path.open("r+b") as file:
        file.write(b" " * path.stat().st_size)


def alive(directory: Path) -> bool:
    """Whether the folder has an owner that still runs."""
    owner = _read(directory)
    if owner is None:
        return False
    if _is_here(owner):
        return _start_of(owner.pid) == owner.started
    try:
        return _age(directory / OWNER) < STALE
    except OSError:
        return False


def wait_for_sign(directory: Path, poll: float = 1.0) -> None:
    """Return when it is certain whether an owner elsewhere still runs.

    That is at its next sign of life, which takes :data:`BEAT` seconds, or after :data:`STALE`
    seconds without any: a container that is started again under another name finds the last sign
    of the one before it to be fresh.
    """
    owner, path = _read(directory), directory / OWNER
    if owner is None or _is_here(owner):
        return
    try:
        heard, left = path.stat().st_mtime_ns, STALE - _age(path)
        if left > 0:
            host = owner.place.partition(" ")[0]
            _logger.info(
                "note: %s belongs to a process on %s; waiting up to %.0f s for a sign of life",
                directory,
                host,
                left,
            )
        deadline = time.monotonic() + left
        while time.monotonic() < deadline and path.stat().st_mtime_ns == heard:
            time.sleep(poll)
    except OSError:
        return  # it has been released


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


def _read(directory: Path) -> Owner | None:
    try:
        return Owner(**json.loads((directory / OWNER).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _is_here(owner: Owner) -> bool:
    """Whether the owner's process number means something to this process."""
    there, here = owner.place.split(), _place().split()
    if len(there) == len(here) == 3:
        # The same boot and process namespace; a host may have been renamed since.
        return there[1:] == here[1:]
    return there == here


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

"""Which process owns a run's folder, and whether it is still alive.

On the same machine this is certain: a process is identified by its pid and start time, whatever the
hostname. A process elsewhere (another host or container) counts as alive while it keeps touching
its owner file; anyone who wants the folder waits for that heartbeat.
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
"""Seconds between heartbeats."""

STALE = 120.0
"""Seconds without a heartbeat after which a process elsewhere counts as dead: six beats, as a
network file system may show a touch a minute late."""


@dataclass(frozen=True)
class Owner:
    """A process: ``place`` is host, boot and pid namespace; ``started`` is in ticks since boot."""

    place: str
    pid: int
    started: int


def take(directory: Path) -> None:
    """Make this process the owner. The caller must hold the claim lock."""
    write_whole(directory / OWNER, json.dumps(asdict(_this_process())))


def release(directory: Path) -> None:
    """Remove the owner."""
    (directory / OWNER).unlink(missing_ok=True)


def abandon(directory: Path) -> None:
    """Mark a folder's owner as dead, so that the next start closes the run.

    Overwrites the file in place, which works even on a full disk.
    """
    path = directory / OWNER
    with suppress(OSError), path.open("r+b") as file:
        file.write(b" " * path.stat().st_size)


def alive(directory: Path) -> bool:
    """Whether the folder's owner is still running."""
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
    """Wait until it is certain whether an owner elsewhere is still running.

    That is at its next heartbeat, within :data:`BEAT` seconds, or after :data:`STALE` seconds
    without one. A recent heartbeat is not enough: it may be the last one of a container that has
    since been restarted under another name.
    """
    owner, path = _read(directory), directory / OWNER
    if owner is None or _is_here(owner):
        return
    try:
        heard, left = path.stat().st_mtime_ns, STALE - _age(path)
        if left > 0:
            host = owner.place.partition(" ")[0]
            _logger.info(
                "note: %s belongs to a process on %s; waiting up to %.0f s for its heartbeat",
                directory,
                host,
                left,
            )
        deadline = time.monotonic() + left
        while time.monotonic() < deadline and path.stat().st_mtime_ns == heard:
            time.sleep(poll)
    except OSError:
        return  # it has been released


def wait_for_end(directory: Path, seconds: float = 10.0, poll: float = 0.1) -> None:
    """Wait until a folder's owner on this machine has ended, at most ``seconds``.

    A killed process is reported as dead as soon as its connections close, but it stays in the
    process table until its memory is freed.
    """
    deadline = time.monotonic() + seconds
    while (owner := _read(directory)) is not None and _is_here(owner):
        if not alive(directory) or time.monotonic() > deadline:
            return
        time.sleep(poll)


@contextmanager
def beating(directory: Path) -> Iterator[None]:
    """Send a heartbeat every :data:`BEAT` seconds while the block runs."""
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
    """Whether the owner's pid is valid for this process: same boot and pid namespace."""
    there, here = owner.place.split(), _place().split()
    if len(there) == len(here) == 3:
        # The hostname is ignored: it may have been changed since.
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
    """When a process on this machine started; None if it is gone, 0 if unknown."""
    if not Path("/proc/self/stat").exists():
        with suppress(PermissionError):
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return None
        return 0
    try:
        # The command's name comes before the last parenthesis and may contain anything.
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else int(rest[18])


def _age(path: Path) -> float:
    """Seconds since a file was touched, by the clock of its file system."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".clock-") as now:
        return os.stat(now.name).st_mtime - path.stat().st_mtime

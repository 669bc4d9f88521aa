"""The folder in which the jobs of a sweep on this machine share what they have read.

It belongs to the sweep's process, which holds a lock on a file in it and removes it at the end. One
that was killed cannot: the next sweep removes every folder whose lock nobody holds.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rarelab.data.shared import FOLDER

_PREFIX = "rarelab-splits-"
_OWNER = "owner.lock"
_HOUR = 3600.0


class SharedFolder:
    """A temporary folder for the jobs of one sweep. Without one (a full disk) every job reads for
    itself."""

    def __init__(self) -> None:
        remove_left()
        self._path: Path | None = None
        with contextlib.suppress(OSError):
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
            try:
                self._lock = _locked(folder)
            except OSError:
                shutil.rmtree(folder, ignore_errors=True)
                return
            self._path = folder

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Name the folder to the processes that are started in the block."""
        if self._path is None:
            yield
            return
        before = os.environ.get(FOLDER)
        os.environ[FOLDER] = str(self._path)
        try:
            yield
        finally:
            os.environ.pop(FOLDER)
            if before is not None:
                os.environ[FOLDER] = before

    def remove(self) -> None:
        """Remove the folder; a job that still has its files mapped keeps their rows."""
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            os.close(self._lock)
            self._path = None


def _locked(folder: Path) -> int:
    """Lock the folder's owner file; its descriptor."""
    # Locked before it has its name, so that nobody ever finds it free.
    lock = os.open(folder / "new", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (folder / "new").rename(folder / _OWNER)
    except OSError:
        os.close(lock)
        raise
    return lock


def remove_left() -> None:
    """Remove the folders of this user's killed sweeps."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == os.getuid() and _is_left(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_left(folder: Path) -> bool:
    try:
        lock = os.open(folder / _OWNER, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:  # being made, unless its maker was killed at that moment
        return time.time() - folder.stat().st_mtime > _HOUR
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True

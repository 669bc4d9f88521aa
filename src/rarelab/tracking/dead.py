"""Close the runs whose process was killed before it could close them itself."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from rarelab.errors import RarelabError
from rarelab.tracking import owner, store
from rarelab.tracking.entry import RECORD, load_entry, read_status, write_status
from rarelab.tracking.replay import sync_run

_logger = logging.getLogger("rarelab")

_PATIENCE = 1.0
"""Seconds to wait for another process that is checking the same folders; the next start closes
what this one skips."""


def claim_lock(experiment: Path) -> Path:
    """The lock for changing the owner of any folder in ``runs/<experiment>/``."""
    return experiment.with_name(f".{experiment.name}.lock")


def close_dead_runs(home: Path) -> list[Path]:
    """Close every run of ``home`` whose process has died; returns the folders closed.

    A run without a status becomes ``interrupted``. ``status.json`` is written first, under the lock
    of the experiment's folder. Then MLflow is updated (KILLED) without a lock; if it cannot be
    reached, ``rarelab sync`` does so later. Folders locked by another process are skipped with a
    note.
    """
    closed: list[Path] = []
    for directory in _owned(home / "runs"):
        if owner.alive(directory):
            continue
        try:
            with store.lock(claim_lock(directory.parent), _PATIENCE):
                # Another process may have claimed it in the meantime.
                if (directory / owner.OWNER).exists() and not owner.alive(directory):
                    _close(directory)
                    closed.append(directory)
        except (store.LockBusy, OSError) as error:
            _logger.info("note: %s is left for the next start to close: %s", directory, error)
    _tell_mlflow(closed, home)
    return closed


def _owned(root: Path) -> Iterator[Path]:
    """The run folders that have an owner; experiment names may contain slashes."""
    for folder, inner, files in os.walk(root):
        if owner.OWNER in files:
            yield Path(folder)
        if owner.OWNER in files or RECORD in files:
            inner.clear()
        inner.sort()


def _close(directory: Path) -> None:
    if load_entry(directory) is not None and read_status(directory) is None:
        write_status(directory, "interrupted", ended=_last_sign_of_life(directory))
    owner.release(directory)


def _tell_mlflow(closed: list[Path], home: Path) -> None:
    for directory in closed:
        entry = load_entry(directory)
        # A process that has resumed the run updates MLflow itself.
        if entry is None or not entry.tracked or owner.alive(directory):
            continue
        try:
            sync_run(directory, home=home)
        except RarelabError:
            return


def _last_sign_of_life(directory: Path) -> int:
    times = []
    for name in (owner.OWNER, "history.jsonl", "train.log"):
        with contextlib.suppress(OSError):
            times.append((directory / name).stat().st_mtime_ns // 1_000_000)
    return max(times)

"""Runs whose process was killed: nobody was left to say so, so the next one does."""

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
"""Seconds to wait for another process that looks at the same folders; the next start closes what
this one leaves."""


def claim_lock(experiment: Path) -> Path:
    """The lock under which a folder of ``runs/<experiment>/`` gets an owner or loses a dead one."""
    return experiment.with_name(f".{experiment.name}.lock")


def close_dead_runs(home: Path) -> list[Path]:
    """End every run of ``home`` whose process is gone, as ``interrupted`` unless it had ended.

    ``status.json`` is written first, under the lock of the experiment's folder. Then, under no
    lock, MLflow hears of it, as KILLED; where it cannot be reached, ``rarelab sync`` tells it
    later. What another process is busy with is left to it, with a note. The folders that were
    closed.
    """
    closed: list[Path] = []
    for directory in _owned(home / "runs"):
        if owner.alive(directory):
            continue
        try:
            with store.lock(claim_lock(directory.parent), _PATIENCE):
                # It may have found a new owner in the meantime.
                if (directory / owner.OWNER).exists() and not owner.alive(directory):
                    _close(directory)
                    closed.append(directory)
        except (store.LockBusy, OSError) as error:
            _logger.info("note: %s is left to the next start: %s", directory, error)
    _tell_mlflow(closed, home)
    return closed


def _owned(root: Path) -> Iterator[Path]:
    """The run folders that have an owner, below experiments whose names may have slashes."""
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
        # Whoever goes on with the run by now tells MLflow themselves.
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

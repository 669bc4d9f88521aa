"""Runs whose process was killed: nobody was left to say so, so the next one does."""

import contextlib
from pathlib import Path

from rarelab.errors import RarelabError
from rarelab.tracking import owner, store
from rarelab.tracking.record import load_entry, read_status, write_status
from rarelab.tracking.replay import sync_run


def claim_lock(experiment: Path) -> Path:
    """The lock under which a folder of ``runs/<experiment>/`` gets an owner or loses a dead one."""
    return experiment.with_name(f".{experiment.name}.lock")


def close_dead_runs(home: Path) -> list[Path]:
    """End every run of ``home`` whose process is gone, as ``interrupted`` unless it had ended.

    ``status.json`` is written first. Then MLflow hears of it, as KILLED; where it cannot be
    reached, ``rarelab sync`` tells it later. The folders that were closed.
    """
    closed: list[Path] = []
    reachable = True
    for path in sorted((home / "runs").glob(f"*/*/{owner.OWNER}")):
        directory = path.parent
        if owner.alive(directory):
            continue
        with store.lock(claim_lock(directory.parent)):
            # It may have found a new owner in the meantime.
            if path.exists() and not owner.alive(directory):
                reachable = _close(directory, reachable)
                closed.append(directory)
    return closed


def _close(directory: Path, reachable: bool) -> bool:
    entry = load_entry(directory)
    if entry is not None and read_status(directory) is None:
        write_status(directory, "interrupted", ended=_last_sign_of_life(directory))
    if entry is not None and entry.tracked and reachable:
        try:
            sync_run(directory)
        except RarelabError:
            reachable = False
    owner.release(directory)
    return reachable


def _last_sign_of_life(directory: Path) -> int:
    times = []
    for name in (owner.OWNER, "history.jsonl", "train.log"):
        with contextlib.suppress(OSError):
            times.append((directory / name).stat().st_mtime_ns // 1_000_000)
    return max(times)

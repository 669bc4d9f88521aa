"""Claim a folder for a job: a readable name, and no other job can take it."""

import errno
import glob
import itertools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from rarelab.config.groups import unused
from rarelab.errors import RequestError
from rarelab.tracking import owner, store
from rarelab.tracking.dead import claim_lock
from rarelab.tracking.entry import RECORD, load_entry, read_status
from rarelab.tracking.environment import same_machine

_NAMED = ("dataset", "model", "loss")


def kind(cfg: Mapping[Any, Any], choices: Mapping[str, str | None]) -> str:
    """The start of a folder's name: data set, model and loss, as far as the job uses them."""
    named = [group for group in _NAMED if group not in unused(cfg)]
    return _plain("-".join(choices.get(group) or "custom" for group in named))


def label(cfg: DictConfig, choices: Mapping[str, str | None]) -> str:
    """A readable name: data set, model, loss and seed of the job."""
    return _plain(f"{kind(cfg, choices)}-s{cfg.seed}")


def claim(
    parent: Path, name: str, goes_on: Callable[[Path], bool] = lambda directory: False
) -> tuple[Path, bool]:
    """A folder owned exclusively by this process, and whether it holds a run to resume.

    The first folder ``parent/name-N`` that no living process owns and ``goes_on`` accepts; else a
    new one with the first free counter N. Two processes never get the same one. If a candidate's
    owner is on another host, wait for its heartbeat first.

    Raises:
        RequestError: no folder can be made there (permissions, a file in its place, a long name).
    """
    try:
        return _claimed(parent, name, goes_on)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RequestError(
            f"{parent}: cannot write records there: {error.strerror or error}"
        ) from None


def _claimed(parent: Path, name: str, goes_on: Callable[[Path], bool]) -> tuple[Path, bool]:
    parent.mkdir(parents=True, exist_ok=True)
    for directory in parent.glob(f"{glob.escape(name)}-*"):
        if directory.name[len(name) + 1 :].isdecimal() and goes_on(directory):
            owner.wait_for_sign(directory)
    with store.lock(claim_lock(parent)):
        for counter in itertools.count():
            directory = parent / f"{name}-{counter}"
            fresh = not directory.exists()
            if fresh:
                directory.mkdir()
            elif owner.alive(directory) or not goes_on(directory):
                continue
            owner.take(directory)
            return directory, not fresh
    raise AssertionError("itertools.count() never ends")


def same_job(directory: Path, tags: Mapping[str, str]) -> bool:
    """Whether a folder holds an unfinished run of the same job from the same kind of machine.

    Jobs are the same if the ``tags`` are equal (signature, code and data; "" for none). A folder
    whose process was killed before it wrote anything counts.
    """
    entry = load_entry(directory)
    if entry is None:
        return not (directory / RECORD).exists()
    ended = read_status(directory)
    if ended is not None and ended["status"] != "interrupted":
        return False
    if any((entry.tags.get(key) or "") != value for key, value in tags.items()):
        return False
    return same_machine(directory)


def _plain(name: str) -> str:
    return re.sub(r"[^\w.\-]+", "_", name)

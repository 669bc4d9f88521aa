"""Checkpoints: when to write one, which one to resume from, and the file format."""

import logging
import os
import re
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, final

import torch

from rarelab.files import remove_scratch, written_whole
from rarelab.training.history import History

log = logging.getLogger("rarelab")

LAST, PREVIOUS = "last.pt", "previous.pt"
_FRESH = "fresh.pt"

_SHARE = 0.03
"""The fraction of elapsed time that ``auto`` spends on writing."""

# Expected seconds for the first write; later ones use the measured time.
_FIRST_COST = 0.02


@final
@dataclass(frozen=True)
class Cadence:
    """``auto``, or every ``count`` epochs or steps."""

    count: int = 0
    unit: str = "auto"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``auto``, ``3 epochs`` or ``500 steps``; ValueError for anything else."""
        found = re.fullmatch(r"([1-9]\d*) (epoch|step)s?", text.strip())
        if found:
            return cls(int(found[1]), found[2])
        if text == "auto":
            return cls()
        raise ValueError(f"checkpoint_every={text}: expected auto, '2 epochs' or '500 steps'")


class Resumable(Protocol):
    """A run between two steps, as a checkpoint needs it."""

    history: History

    @property
    def epoch(self) -> int: ...

    @property
    def step(self) -> int: ...

    @property
    def stepped(self) -> bool:
        """Whether a step was just taken, and not only an epoch ended."""
        ...

    @property
    def finite(self) -> bool: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Keeper:
    """Writes no checkpoints: for training that will not be resumed."""

    def restore(self, course: Resumable) -> None:
        """Restore the course from the last checkpoint, if there is one."""

    def between_steps(self, course: Resumable) -> None:
        """Write a checkpoint if one is due; called between steps and between epochs."""


@final
class Checkpoints(Keeper):
    """Keeps ``last.pt`` and the checkpoint before it, ``previous.pt``, in a run's folder.

    Args:
        directory: the run's folder.
        identity: signature, code and data of the run; a checkpoint of any other run is refused.
        cadence: when a checkpoint is due. ``auto``: when writing one takes at most 3 % of the time
            since the last.
        stop: called between steps; returns an exception to end the training with, which is raised
            after writing a checkpoint.
    """

    def __init__(
        self,
        directory: Path,
        identity: Mapping[str, str],
        cadence: Cadence,
        stop: Callable[[], BaseException | None] = lambda: None,
    ) -> None:
        self._directory = directory
        self._identity = dict(identity)
        self._cadence = cadence
        self._stop = stop
        self._state: dict[str, Any] | None = None
        self._warned = False
        self._steps = 0
        self._cost = _FIRST_COST
        self._written = time.monotonic()

    def newest(self, rows: int) -> dict[str, Any] | None:
        """This run's newest valid checkpoint with at most ``rows`` rows of history."""
        for name in (LAST, PREVIOUS):
            if (self._directory / name).exists():
                try:
                    return self._accepted(load(self._directory / name), rows)
                except ValueError as error:
                    log.warning("warning: checkpoint %s is not used: %s", name, error)
        return None

    def find(self, rows: int) -> int:
        """Choose the checkpoint to resume from; the number of history rows it covers."""
        self._state = self.newest(rows)
        return 0 if self._state is None else self._state["history"]

    def clear(self) -> None:
        """Delete the checkpoints, which a finished run no longer needs."""
        for name in (LAST, PREVIOUS, _FRESH):
            (self._directory / name).unlink(missing_ok=True)
            remove_scratch(self._directory / name)

    def restore(self, course: Resumable) -> None:
        if self._state is not None:
            course.load_state_dict(self._state)
            log.info("resumed after epoch %d, step %d", course.epoch, course.step)
            self._state = None
        self._written = time.monotonic()

    def between_steps(self, course: Resumable) -> None:
        stop = self._stop()
        if stop is not None or self._due(course):
            self._write(course)
        if stop is not None:
            raise stop

    def _due(self, course: Resumable) -> bool:
        self._steps += course.stepped
        if self._cadence.unit == "epoch":
            return course.step == 0 and course.epoch % self._cadence.count == 0
        if self._cadence.unit == "step":
            return course.stepped and self._steps % self._cadence.count == 0
        return self._cost <= _SHARE * (time.monotonic() - self._written)

    def _write(self, course: Resumable) -> None:
        """A full disk does not end the training, and non-finite weights are never written.

        Between the two renames there is no ``last.pt``; a crash there leaves the previous one.
        """
        if not course.finite:
            return
        began = time.monotonic()
        fresh, last = self._directory / _FRESH, self._directory / LAST
        try:
            course.history.sync()
            save(fresh, **self._identity, **course.state_dict())
            if last.exists():
                os.replace(last, self._directory / PREVIOUS)
            os.replace(fresh, last)
        except (OSError, RuntimeError) as error:
            if not self._warned:
                log.warning("warning: cannot write a checkpoint (%s); training continues", error)
            self._warned = True
        self._written = time.monotonic()
        self._cost = self._written - began

    def _accepted(self, state: dict[str, Any], rows: int) -> dict[str, Any]:
        for name, value in self._identity.items():
            if state.get(name) != value:
                raise ValueError(f"it belongs to a run with different {name}")
        if state["history"] > rows:
            raise ValueError(f"it covers {state['history']} history rows, but there are {rows}")
        return state


def save(path: Path, **content: Any) -> None:
    """Write tensors and plain values atomically: a reader sees the old file or the new one.

    The bytes are flushed to the disk itself before this returns.
    """
    with written_whole(path) as scratch, scratch.open("wb") as file:
        torch.save(content, file)


def load(path: Path) -> dict[str, Any]:
    """Read a file written by :func:`save`, on the CPU, without executing anything in it.

    Raises:
        ValueError: the file is damaged, with the reason in one line.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch itself does not verify the checksums
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} is wrong")
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path.name} cannot be read: {reason}") from error

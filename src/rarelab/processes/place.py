"""Whether this process is one of several, and which one.

torchrun and compatible launchers say so in the environment. Nothing here imports torch.
"""

import os
import time
from dataclasses import dataclass
from typing import Self

from omegaconf import DictConfig

from rarelab.errors import RequestError

_NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")

_FIRST_WORD = 5.0
"""Seconds by which rank 0 may be slower to report an error."""


@dataclass(frozen=True)
class Place:
    """A process's rank: ``rank`` of ``size`` overall, and the same on its machine."""

    rank: int
    size: int
    local_rank: int
    local_size: int

    @classmethod
    def of_this_process(cls) -> Self | None:
        """The place torchrun gave this process; None if it is the only one."""
        if "MASTER_ADDR" not in os.environ or not all(name in os.environ for name in _NAMES):
            return None
        place = cls(*(int(os.environ[name]) for name in _NAMES))
        return place if place.size > 1 else None

    def claim(self, cfg: DictConfig) -> None:
        """Set ``trainer.devices`` to the number of processes, which is part of the run's identity.

        Raises:
            RequestError: the configuration asks for a different number.
        """
        asked = cfg.trainer.devices
        if asked not in (1, self.size):
            raise RequestError(
                f"trainer.devices={asked}: torchrun started {self.size} processes; leave it out"
            )
        cfg.trainer.devices = self.size


def wait_for_the_first() -> None:
    """Delay an error of another rank so that rank 0 reports it first and torchrun ends the rest.

    An error on this rank only (a machine without the data, say) is still reported.
    """
    place = Place.of_this_process()
    if place is not None and place.rank > 0:
        time.sleep(_FIRST_WORD)

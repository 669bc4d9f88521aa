"""Was this process started beside others, and which of them is it?

torchrun, and what speaks its language, says so in the environment. Nothing here imports torch.
"""

import os
import time
from dataclasses import dataclass
from typing import Self

from omegaconf import DictConfig

from rarelab.errors import RequestError

_NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")

_FIRST_WORD = 5.0
"""Seconds that the first process may come later to what is wrong."""


@dataclass(frozen=True)
class Place:
    """A process among those of one run: ``rank`` of ``size`` in all, and on its machine."""

    rank: int
    size: int
    local_rank: int
    local_size: int

    @classmethod
    def of_this_process(cls) -> Self | None:
        """Where torchrun put this process; None if it stands alone."""
        if "MASTER_ADDR" not in os.environ or not all(name in os.environ for name in _NAMES):
            return None
        place = cls(*(int(os.environ[name]) for name in _NAMES))
        return place if place.size > 1 else None

    def claim(self, cfg: DictConfig) -> None:
        """Let the configuration say how many processes there are: it is part of what the run is.

        Raises:
            RequestError: it asks for another number.
        """
        asked = cfg.trainer.devices
        if asked not in (1, self.size):
            raise RequestError(
                f"trainer.devices={asked}: torchrun has started {self.size} processes; leave it out"
            )
        cfg.trainer.devices = self.size


def wait_for_the_first() -> None:
    """Let the first process say what is wrong: torchrun then ends the others, which are silent.

    One that is wrong alone, on a machine without the data say, still gets its word.
    """
    place = Place.of_this_process()
    if place is not None and place.rank > 0:
        time.sleep(_FIRST_WORD)

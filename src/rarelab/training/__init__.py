"""One loop, its history and what it watches."""

from rarelab.training.loop import Diverged, Trainer, Work
from rarelab.training.selection import Selection

__all__ = ["Diverged", "Selection", "Trainer", "Work"]

"""One loop, its history and what it watches."""

from rarelab.training.course import Work
from rarelab.training.loop import Diverged, Trainer
from rarelab.training.selection import Selection

__all__ = ["Diverged", "Selection", "Trainer", "Work"]

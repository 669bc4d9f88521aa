"""The training loop, its history, and its checkpoints and diagnostics."""

from rarelab.training.course import Work
from rarelab.training.loop import Diverged, Trainer
from rarelab.training.selection import Selection

__all__ = ["Diverged", "Selection", "Trainer", "Work"]

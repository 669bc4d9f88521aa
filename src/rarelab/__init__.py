"""Does training on a ranking loss beat cross-entropy on your rare positives?"""

from typing import Any

from rarelab.version import __version__

__all__ = ["__version__", "train"]


def train(overrides: list[str]) -> Any:
    """Run what ``rarelab train OVERRIDES`` runs, from Python; see :func:`rarelab.api.train`."""
    from rarelab.api import train as run

    return run(overrides)

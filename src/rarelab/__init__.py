"""Does training on a ranking loss beat cross-entropy on your rare positives?"""

from typing import Any

__version__ = "0.1.0"


def train(overrides: list[str]) -> Any:
    """Run what ``rarelab train OVERRIDES`` runs, from Python; see :func:`rarelab.api.train`."""
    from rarelab.api import train as run

    return run(overrides)

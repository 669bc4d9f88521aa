"""Where a job's files go: a readable name, in a folder that no other job can have."""

import itertools
import re
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig

_NAMED = ("dataset", "model", "loss")


def label(cfg: DictConfig, choices: Mapping[str, str | None]) -> str:
    """A readable name: data set, model, loss and seed of the job."""
    parts = [choices.get(group) or "custom" for group in _NAMED]
    name = "-".join([*parts, f"s{cfg.seed}"])
    return re.sub(r"[^\w.\-]+", "_", name)


def claim(parent: Path, name: str) -> Path:
    """Make the folder ``parent/name-N`` with the first free counter N, for this process alone."""
    parent.mkdir(parents=True, exist_ok=True)
    for counter in itertools.count():
        directory = parent / f"{name}-{counter}"
        try:
            directory.mkdir()
        except FileExistsError:
            continue
        return directory
    raise AssertionError("itertools.count() never ends")

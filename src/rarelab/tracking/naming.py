"""Fit names and values to MLflow's limits before it refuses or silently truncates them."""

import hashlib
import math
import os
import posixpath
import re
from collections.abc import Mapping

from rarelab.errors import RequestError

MAX_NAME = 250
MAX_EXPERIMENT = 200
"""Bytes: a folder's name may have 255, and the name of its lock file is longer."""

MAX_PARAM = 6000
MAX_TAG = 8000

_NOT_ALLOWED = re.compile(r"[^\w.\-/ :]", flags=re.ASCII)


def experiment_name(configured: str | None, study: str | None = None) -> str:
    """The name of a run's experiment: what was configured, else the study's name, else ``rarelab``.

    It is also the name of a folder below ``runs/``, where slashes create subfolders.

    Raises:
        RequestError: the name is not valid as a folder or in MLflow.
    """
    if configured is None:
        return study or "rarelab"
    shown = configured if len(configured) <= 60 else f"{configured[:60]}..."
    refusal = f"tracking.experiment={shown!r}: expected a name such as 'fraud' or 'team/fraud'"
    if any(part.strip(". ") == "" for part in configured.split("/")):
        raise RequestError(f"{refusal}, without empty parts, '.' or '..'")
    if not configured.isprintable():
        raise RequestError(f"{refusal}, of printable characters")
    if len(os.fsencode(configured)) > MAX_EXPERIMENT:
        raise RequestError(f"{refusal}, of at most {MAX_EXPERIMENT} bytes")
    return configured


def clean_name(name: str) -> str:
    """``name`` with every character MLflow refuses replaced by ``_``, truncated at 250 characters.

    ASCII letters, digits, ``_ - . : /`` and space are allowed. MLflow also refuses names that are
    not normalized as paths (``a//b``, ``../a``), so empty and dotted parts become ``_``. A
    truncated name ends in a digest of the full one.
    """
    parts = _NOT_ALLOWED.sub("_", name).split("/")
    clean = "/".join("_" * max(1, len(part)) if not part.strip(".") else part for part in parts)
    return clean if len(clean) <= MAX_NAME else _marked(clean, name)


class Names:
    """Clean names without collisions: a digest distinguishes names that would become equal."""

    def __init__(self) -> None:
        self._clean: dict[str, str] = {}
        self._taken: set[str] = set()

    def __call__(self, name: str) -> str:
        if name not in self._clean:
            clean = clean_name(name)
            self._clean[name] = _marked(clean, name) if clean in self._taken else clean
            self._taken.add(self._clean[name])
        return self._clean[name]


def clean_values(values: Mapping[str, str], limit: int) -> dict[str, str]:
    """A mapping valid in MLflow: clean names, values as text of at most ``limit`` characters."""
    names = Names()
    # Names that are already clean keep theirs, in whatever order they come.
    ordered = sorted(values, key=lambda name: clean_name(name) != name)
    return {names(name): str(values[name])[:limit] for name in ordered}


def metric_value(value: float) -> float:
    """The value sent to MLflow for a metric: infinity becomes NaN.

    MLflow would store infinity as 1.8e308, which looks like a measurement and flattens every chart.
    The history on disk keeps the original value.
    """
    return math.nan if math.isinf(value) else float(value)


def _marked(clean: str, name: str) -> str:
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return posixpath.normpath(f"{clean[: MAX_NAME - 9]}_{digest}")

"""MLflow's limits on names and values, met before it refuses or silently cuts them."""

import hashlib
import math
import os
import posixpath
import re
from collections.abc import Mapping

from rarelab.errors import RequestError

MAX_NAME = 250
MAX_EXPERIMENT = 200
"""Bytes: a folder's name may have 255, and ours adds the name of its lock."""

MAX_PARAM = 6000
MAX_TAG = 8000

_NOT_ALLOWED = re.compile(r"[^\w.\-/ :]", flags=re.ASCII)


def experiment_name(configured: str | None, study: str | None = None) -> str:
    """The name of a run's experiment: what was configured, else the study's name, else ``rarelab``.

    It is the name of a folder below ``runs/`` too, in which slashes make further folders.

    Raises:
        RequestError: a name that is no such folder, or none that MLflow takes.
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
    """``name`` with every character that MLflow refuses replaced by ``_``, cut at 250 characters.

    ASCII letters, digits, ``_ - . : /`` and space pass. MLflow also refuses what reads as a path
    that is not normal (``a//b``, ``../a``), so empty and dotted parts become ``_``. A name that had
    to be cut ends in a digest of the whole.
    """
    parts = _NOT_ALLOWED.sub("_", name).split("/")
    clean = "/".join("_" * max(1, len(part)) if not part.strip(".") else part for part in parts)
    return clean if len(clean) <= MAX_NAME else _marked(clean, name)


class Names:
    """Clean names, remembered: two names that would become one are told apart by a digest."""

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
    """A mapping fit for MLflow: clean names, values as text of at most ``limit`` characters."""
    names = Names()
    # What is clean already keeps its name, whichever order the names come in.
    ordered = sorted(values, key=lambda name: clean_name(name) != name)
    return {names(name): str(values[name])[:limit] for name in ordered}


def metric_value(value: float) -> float:
    """What MLflow is given for a metric: an infinite value becomes NaN.

    MLflow would store infinity as 1.8e308, a number that looks measured and flattens every chart.
    The history on disk keeps the value as it was.
    """
    return math.nan if math.isinf(value) else float(value)


def _marked(clean: str, name: str) -> str:
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return posixpath.normpath(f"{clean[: MAX_NAME - 9]}_{digest}")

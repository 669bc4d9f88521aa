"""Estimates a sweep's duration from recorded runs of the same kind."""

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from rarelab.runs.claim import kind
from rarelab.runs.together import BATCH
from rarelab.sweep.display import duration
from rarelab.sweep.done import FOLDER
from rarelab.sweep.job import Job
from rarelab.tracking.entry import load_entry, read_status

_ENOUGH = 5
"""The number of runs of one kind to read."""


def estimate(jobs: Sequence[Job], folder: Path, at_once: int) -> str:
    """``, about 3 min (from 4 recorded runs)``, or that the duration is unknown.

    A kind is data set, model and loss; a run's time is taken as proportional to its epochs.
    """
    if not jobs:
        return ""
    seen = _seconds_per_epoch(folder, {kind(job.config, job.choices) for job in jobs})
    known = [
        statistics.median(seen[kind(job.config, job.choices)]) * job.config["trainer"]["max_epochs"]
        for job in jobs
        if kind(job.config, job.choices) in seen
    ]
    if not known:
        return "; duration unknown: no run of this kind is recorded"
    total = statistics.mean(known) * len(jobs) / min(at_once, len(jobs))
    runs = sum(map(len, seen.values()))
    return f", about {duration(total)} (from {runs} recorded run{'s' if runs > 1 else ''})"


def _seconds_per_epoch(folder: Path, kinds: Iterable[str]) -> dict[str, list[float]]:
    paths: dict[str, list[Path]] = defaultdict(list)
    for path in folder.iterdir() if folder.is_dir() else []:
        match = FOLDER.fullmatch(path.name)
        if match:
            paths[match["label"].rpartition("-s")[0]].append(path)
    found = {name: _times(paths[name]) for name in kinds}
    return {name: times for name, times in found.items() if times}


def _times(paths: Iterable[Path]) -> list[float]:
    times = (_time(path) for path in paths)
    return list(islice((time for time in times if time is not None), _ENOUGH))


def _time(directory: Path) -> float | None:
    entry, status = load_entry(directory), read_status(directory)
    if entry is None or status is None or status["status"] != "done":
        return None
    epochs = int(entry.params.get("trainer.max_epochs", 1))
    at_once = len(json.loads(entry.tags.get(BATCH, "[]"))) or 1
    return (status["ended"] - entry.started) / 1000 / epochs / at_once

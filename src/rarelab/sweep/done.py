"""Which jobs are already done, according to the run directories and MLflow."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rarelab.records.finished import finished
from rarelab.records.load import Records
from rarelab.sweep.job import PART, Job, part_of
from rarelab.tracking.entry import load_entry, read_status
from rarelab.tracking.store import StoreUnavailable
from rarelab.training.history import read_rows

CODE = "code.json"
FOLDER = re.compile(r"(?P<label>.+)-(?P<digits>[0-9a-f]{8})-\d+")


@dataclass(frozen=True)
class Recorded:
    """A recorded run. ``status`` is "" if it has not ended; ``part`` are its tags :data:`PART`."""

    signature: str
    code: str
    data: str
    status: str
    run_id: str = ""
    directory: Path | None = None
    part: tuple[str, ...] = ("",) * len(PART)


@dataclass(frozen=True)
class Standing:
    """Whether a job is done: ``found`` is the run that did it, ``why`` the reason an earlier run
    does not count."""

    job: Job
    found: Recorded | None = None
    why: str = ""


def standings(
    jobs: Sequence[Job],
    home: Path,
    experiment: str,
    uri: str | None,
    unavailable: Callable[[StoreUnavailable], None] | None = None,
) -> list[Standing]:
    """Whether each job is done.

    A job is done if a run with the same signature, code and data has finished, on disk or in
    MLflow; runs that failed, diverged, were interrupted or have not ended do not count.

    Args:
        jobs: the jobs of one plan.
        home, experiment: the records are in ``home/runs/experiment``.
        uri: the MLflow store; None if the sweep is not recorded there.
        unavailable: called if the store cannot be read; then only the run directories count.
    """
    folder = home / "runs" / experiment
    on_disk = list(_on_disk(folder, {job.signature[:8] for job in jobs}, tracked=uri is not None))
    found = [_standing(job, [run for run in on_disk if _same(run, job)]) for job in jobs]
    missing = [standing.job.signature for standing in found if standing.found is None]
    if uri is None or not missing:
        return found
    try:
        in_store = finished(uri, experiment, missing)
    except StoreUnavailable as error:
        if unavailable is not None:
            unavailable(error)
        return found
    elsewhere = [
        Recorded(
            *(tags["signature"], tags["code"], tags["data"], "done", run_id),
            part=tuple(tags.get(name.removeprefix("rarelab."), "") for name in PART),
        )
        for run_id, tags in in_store.items()
    ]
    return [
        standing
        if standing.found
        else _standing(
            standing.job, [run for run in elsewhere if _same(run, standing.job)], standing.why
        )
        for standing in found
    ]


def last_metrics(run: Recorded, home: Path, uri: str | None) -> dict[str, float]:
    """The last value of every metric of a run."""
    if run.directory is not None:
        metrics: dict[str, float] = {}
        for row in read_rows(run.directory / "history.jsonl"):
            metrics |= row["metrics"]
        return metrics
    return dict(Records(home, uri).run(run.run_id).metrics)


def _same(run: Recorded, job: Job) -> bool:
    return (run.signature, run.part) == (job.signature, part_of(job.tags))


def _standing(job: Job, runs: Sequence[Recorded], why: str = "") -> Standing:
    finished = [run for run in runs if run.status == "done"]
    for run in finished:
        if (run.code, run.data) == (job.code, job.data):
            return Standing(job, run)
    if finished:
        return Standing(job, None, why or _changed(job, finished[-1]))
    endings = [run.status or "unfinished" for run in runs]
    return Standing(job, None, why or (f"before: {', '.join(endings)}" if endings else ""))


def _changed(job: Job, run: Recorded) -> str:
    if run.data != job.data:
        return "the data changed since"
    modules = _changed_modules(job.modules, run.directory)
    return f"the code changed since{f': {modules}' if modules else ''}"


def _changed_modules(modules: Mapping[str, str], directory: Path | None) -> str:
    try:
        before = json.loads(((directory or Path()) / CODE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    names = sorted({*modules, *before})
    return ", ".join(name for name in names if modules.get(name) != before.get(name))


def _on_disk(folder: Path, digits: set[str], *, tracked: bool) -> Iterator[Recorded]:
    """A folder's runs whose name contains one of the ``digits``, oldest first."""
    if not folder.is_dir():
        return
    runs = []
    for directory in folder.iterdir():
        match = FOLDER.fullmatch(directory.name)
        entry = load_entry(directory) if match and match["digits"] in digits else None
        # A run recorded without MLflow does not count for a sweep that uses MLflow.
        if entry is not None and (entry.tracked or not tracked):
            runs.append((entry.started, directory, entry))
    for _, directory, entry in sorted(runs, key=lambda run: run[:2]):
        tags = entry.tags
        yield Recorded(
            signature=tags.get("rarelab.signature", ""),
            code=tags.get("rarelab.code", ""),
            data=tags.get("rarelab.data", ""),
            status=(read_status(directory) or {}).get("status", ""),
            run_id=entry.run_id or entry.uid,
            directory=directory,
            part=part_of(tags),
        )

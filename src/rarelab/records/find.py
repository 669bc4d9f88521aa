"""Find a recorded run by its MLflow id, a prefix of it, or its folder's name."""

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rarelab.errors import RarelabError, RequestError, nearest
from rarelab.tracking import store
from rarelab.tracking.entry import RECORD, Entry, load_entry, save_entry, write_status
from rarelab.tracking.writer import STATUS_TAG

_MLFLOW_ID = re.compile("[0-9a-f]{32}")


def find_run(home: Path, name: str) -> Path | None:
    """The folder under ``home``/runs that ``name`` refers to, or None.

    ``name`` is the folder's name (with or without its experiment), the run's MLflow id or its own
    ``uid``, or an unambiguous prefix of one of them.

    Raises:
        RequestError: several runs match.
    """
    return _matching(_names(home), name)


def find_runs(home: Path, names: Sequence[str]) -> list[Path | None]:
    """:func:`find_run` of several runs; the records are read once."""
    found = _names(home)
    return [_matching(found, name) for name in names]


def _matching(found: Sequence[tuple[str, Path]], name: str) -> Path | None:
    for fits in (lambda own: own == name, lambda own: own.startswith(name)):
        matches = {directory for own, directory in found if fits(own)}
        if len(matches) > 1:
            shown = ", ".join(sorted(f"{d.parent.name}/{d.name}" for d in matches)[:4])
            raise RequestError(f"{name}: matches several runs ({shown}); give a longer prefix")
        if matches:
            return matches.pop()
    return None


def fetch_model(home: Path, uri: str | None, name: str, into: Path) -> Path:
    """Download the ``model/`` of a run that is only in MLflow, and its predictions, if it has them,
    next to it; ``name`` is its full id.

    Raises:
        RequestError: no such run, here or in MLflow, or one without a model.
    """
    tracker, _ = _recorded(home, uri, name)
    try:
        folder = Path(tracker.download_artifacts(name, "model", str(into)))
    except (_mlflow_exception(), OSError):
        raise RequestError(f"{name} left no model to score with") from None
    with suppress(_mlflow_exception(), OSError):
        tracker.download_artifacts(name, "predictions.parquet", str(into))
    return folder


def fetch_record(home: Path, uri: str | None, name: str, into: Path) -> Path:
    """Download the record of a run that is only in MLflow; ``name`` is its full id.

    Raises:
        RequestError: no such run, here or in MLflow, or one without its files.
    """
    tracker, run = _recorded(home, uri, name)
    try:
        for file in ("config.yaml", "environment.json", "history.jsonl"):
            tracker.download_artifacts(name, file, str(into))
    except (_mlflow_exception(), OSError):
        raise RequestError(f"{name} left no {file} in MLflow") from None
    experiment = tracker.get_experiment(run.info.experiment_id).name
    params, tags = dict(run.data.params), dict(run.data.tags)
    entry = Entry(run.info.run_name, experiment, params, tags, run_id=name)
    save_entry(into, entry)
    if STATUS_TAG in entry.tags and run.info.end_time:
        write_status(into, entry.tags[STATUS_TAG], run.info.end_time)
    return into


def _recorded(home: Path, uri: str | None, name: str) -> tuple[Any, Any]:
    """The client, and the run in MLflow with the full id ``name``."""
    is_id = _MLFLOW_ID.fullmatch(name) is not None
    known = [own for own, d in _names(home) if (own == d.name) != is_id and "/" not in own]
    missing = RequestError(f"{name}: there is no such run; {nearest(name, set(known))}")
    address = store.resolve_uri(home, uri)
    file = store.sqlite_path(address)
    if not is_id or (file is not None and not file.is_file()):
        raise missing  # a lookup must not create a store
    tracker: Any = store.client(address, home)
    try:
        return tracker, tracker.get_run(name)
    except _mlflow_exception() as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise missing from None
        raise RarelabError(f"{name}: {store.reason(error)}") from error


def _mlflow_exception() -> Any:
    from mlflow.exceptions import MlflowException

    return MlflowException


def _names(home: Path) -> list[tuple[str, Path]]:
    """All names of all runs under ``home``, each with the run's folder."""
    names: list[tuple[str, Path]] = []
    for path in sorted((home / "runs").rglob(RECORD)):
        directory, entry = path.parent, load_entry(path.parent)
        names.append((directory.name, directory))
        names.append((f"{directory.parent.name}/{directory.name}", directory))
        if entry is not None:
            names += [(own, directory) for own in (entry.run_id, entry.uid) if own]
    return names

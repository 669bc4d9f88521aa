"""A recorded run by what people call it: its MLflow id, a prefix of it, or its folder's name."""

import re
from pathlib import Path
from typing import Any

from rarelab.errors import RarelabError, RequestError, nearest
from rarelab.tracking import store
from rarelab.tracking.record import RECORD, load_entry
from rarelab.tracking.sink import first_line

_MLFLOW_ID = re.compile("[0-9a-f]{32}")


def find_run(home: Path, name: str) -> Path | None:
    """The folder under ``home``/runs that ``name`` means; None where there is none.

    ``name`` is the folder's name (with or without its experiment), the run's MLflow id or its own
    ``uid``, or the beginning of one of them that fits no other run.

    Raises:
        RequestError: several runs begin like that.
    """
    found = _names(home)
    for fits in (lambda own: own == name, lambda own: own.startswith(name)):
        matches = {directory for own, directory in found if fits(own)}
        if len(matches) > 1:
            shown = ", ".join(sorted(f"{d.parent.name}/{d.name}" for d in matches)[:4])
            raise RequestError(f"{name}: several runs fit ({shown}); give more of the name")
        if matches:
            return matches.pop()
    return None


def fetch_model(home: Path, uri: str | None, name: str, into: Path) -> Path:
    """Download the ``model/`` of a run that is in MLflow alone; ``name`` is its whole id.

    Raises:
        RequestError: no such run, here or in MLflow, or one without a model.
    """
    is_id = _MLFLOW_ID.fullmatch(name) is not None
    known = [own for own, d in _names(home) if (own == d.name) != is_id and "/" not in own]
    missing = RequestError(f"{name}: there is no such run; {nearest(name, known)}")
    if not is_id:
        raise missing
    from mlflow.exceptions import MlflowException

    tracker: Any = store.client(store.resolve_uri(home, uri), home)
    try:
        tracker.get_run(name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise missing from None
        raise RarelabError(f"{name}: {first_line(error)}") from error
    try:
        return Path(tracker.download_artifacts(name, "model", str(into)))
    except (MlflowException, OSError):
        raise RequestError(f"{name} left no model to score with") from None


def _names(home: Path) -> list[tuple[str, Path]]:
    """Every name of every run under ``home``, with the run's folder."""
    names: list[tuple[str, Path]] = []
    for path in sorted((home / "runs").rglob(RECORD)):
        directory, entry = path.parent, load_entry(path.parent)
        names.append((directory.name, directory))
        names.append((f"{directory.parent.name}/{directory.name}", directory))
        if entry is not None:
            names += [(own, directory) for own in (entry.run_id, entry.uid) if own]
    return names

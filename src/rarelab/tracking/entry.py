"""A run directory's record of its run, from which alone MLflow can be brought up to date."""

import json
import time
import uuid
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rarelab.files import write_whole
from rarelab.tracking.environment import run_tags
from rarelab.tracking.redact import redact_command, redact_setting, redact_uri

RECORD = "record.json"
STATUS = "status.json"


@dataclass(frozen=True)
class RunRecord:
    """A run as it is handed to its tracker.

    ``params`` is the flattened resolved configuration, ``tags`` the ``rarelab.*`` tags,
    ``directory`` the run's own folder, ``parent`` the parent run's id (MLflow's, or what ``open``
    returned if MLflow could not be reached) or None; ``at_once`` is how many runs this process
    trains at once, which share the time that writing may take.
    """

    name: str
    params: dict[str, str]
    tags: dict[str, str]
    directory: Path
    parent: str | None = None
    at_once: int = 1


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@dataclass
class Entry:
    """``record.json``: a run's record, and the MLflow run it became.

    ``uid`` is the run's own id and a tag of its MLflow run, so a run whose creation was never
    confirmed is found again instead of created twice. ``uri`` is the store without its password, or
    None for ``mlflow.db`` of the home. ``tracked`` is false for a run that is not recorded in
    MLflow. ``level`` is what the last complete push covered.
    """

    name: str
    experiment: str
    params: dict[str, str]
    tags: dict[str, str]
    parent: str | None = None
    uri: str | None = None
    tracked: bool = True
    run_id: str | None = None
    uid: str = field(default_factory=lambda: uuid.uuid4().hex)
    started: int = field(default_factory=now_ms)
    level: dict[str, Any] = field(default_factory=dict)


def new_entry(record: RunRecord, experiment: str, uri: str | None, *, tracked: bool) -> Entry:
    """The entry of a run that this process starts now, with secrets redacted."""
    tags = {**run_tags(), "rarelab.directory": str(record.directory), **record.tags}
    return Entry(
        name=record.name,
        experiment=experiment,
        params={key: redact_setting(key, str(value)) for key, value in record.params.items()},
        tags={key: redact_command(str(value)) for key, value in tags.items()},
        parent=record.parent,
        uri=None if uri is None else redact_uri(uri),
        tracked=tracked,
    )


def renewed(entry: Entry, record: RunRecord) -> Entry:
    """The entry of a resumed run, with the name, tags and parent of the new request."""
    tags = {key: redact_command(value) for key, value in record.tags.items()}
    tags.pop("rarelab.command", None)
    return replace(
        entry,
        name=record.name,
        tags={**entry.tags, **tags},
        parent=record.parent or entry.parent,
    )


def load_entry(directory: Path) -> Entry | None:
    """The entry of a run directory; None if it is missing or unreadable."""
    try:
        return Entry(**json.loads((directory / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def save_entry(directory: Path, entry: Entry) -> None:
    """Write ``record.json`` atomically."""
    _write_json(directory / RECORD, asdict(entry))


def write_status(
    directory: Path, status: str, error: str = "", *, ended: int | None = None
) -> None:
    """Write ``status.json``: how the run ended, with which error, and when.

    ``error`` is an exception's type, ``ended`` milliseconds since 1970 (None: now).
    """
    content = {"status": status, "ended": ended or now_ms(), "error": error}
    _write_json(directory / STATUS, content)


def read_status(directory: Path) -> dict[str, Any] | None:
    """``{"status", "ended", "error"}`` of a run that has ended, else None."""
    try:
        return json.loads((directory / STATUS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(content, indent=1))

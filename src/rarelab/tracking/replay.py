"""``rarelab sync``: bring MLflow level with the run directories, which are the copy of record."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rarelab.errors import RarelabError, RequestError
from rarelab.tracking import store
from rarelab.tracking.entry import RECORD, Entry, load_entry, read_status
from rarelab.tracking.sink import history_points
from rarelab.tracking.writer import DeletedRun, RunWriter, Target, level

_LOCK = ".sync.lock"


@dataclass(frozen=True)
class Synced:
    """What bringing one run level took.

    ``outcome`` is "level", "pushed", "deleted" (in MLflow) or "busy" (another process pushes it).
    """

    directory: Path
    run_id: str | None
    outcome: str
    points: int = 0


def sync(home: Path, uri: str | None = None) -> str:
    """Push all that lies under ``home``/runs and not in MLflow; a line that says what was done.

    Each run goes to ``uri``, else to the store it was started with. Running it again, or twice at
    once, changes nothing. Runs with ``tracking=none`` are left out, and so is one that was deleted
    in MLflow.

    Raises:
        RequestError: if ``uri`` is no address.
        RarelabError: if a run could not be pushed; the others are.
    """
    if uri:
        store.resolve_uri(home, uri)
    counts: Counter[str] = Counter()
    points, failures = 0, []
    for directory in tracked_runs(home):
        try:
            done = sync_run(directory, uri, home)
        except RarelabError as error:
            failures.append(str(error))
            continue
        counts[done.outcome] += 1
        points += done.points
    summary = (
        f"{counts['pushed']} runs brought level ({points} points), {counts['level']} were level"
        + (f", {counts['deleted']} deleted in MLflow are left out" if counts["deleted"] else "")
        + (f", {counts['busy']} are being pushed by another process" if counts["busy"] else "")
    )
    if failures:
        raise RarelabError(f"{len(failures)} runs could not be pushed: {failures[0]} ({summary})")
    return summary


def sync_run(directory: Path, uri: str | None = None, home: Path | None = None) -> Synced:
    """Push one run directory into MLflow, without duplicates.

    A run that has not ended (no ``status.json``) stays RUNNING, with the rows it has so far.

    Raises:
        RequestError: if the directory holds no record.
        RarelabError: if the store does not take it.
    """
    entry = load_entry(directory)
    if entry is None:
        raise RequestError(f"{directory}: expected a run directory, which holds {RECORD}")
    home = home or _home_of(directory)
    try:
        target = Target(_address(entry, home, uri), home)
        # Held while the network is waited for: nobody waits for this lock.
        with store.lock(directory / _LOCK, patience=0):
            entry = load_entry(directory) or entry
            return _push(RunWriter(target, directory, entry, fresh=False), directory, entry)
    except store.LockBusy:
        return Synced(directory, entry.run_id, "busy")
    except DeletedRun as deleted:
        return Synced(directory, str(deleted), "deleted")
    except RequestError:
        raise
    except Exception as error:
        raise RarelabError(f"{directory}: {store.reason(error)}") from error


def tracked_runs(home: Path) -> list[Path]:
    """The directories of the runs that were to be recorded in MLflow, parents before children."""
    found = [(load_entry(path.parent), path.parent) for path in (home / "runs").rglob(RECORD)]
    tracked = [(entry.started, path) for entry, path in found if entry and entry.tracked]
    return [path for _, path in sorted(tracked)]


def _push(writer: RunWriter, directory: Path, entry: Entry) -> Synced:
    status = read_status(directory)
    was_there = writer.attach()
    if status and was_there and entry.level == level(directory, status["status"], status["ended"]):
        return Synced(directory, writer.run_id, "level")
    points = writer.push(history_points(directory))
    if status:
        points += writer.finish(status["status"], status["ended"], status.get("error", ""))
    outcome = "pushed" if points or status or not was_there else "level"
    return Synced(directory, writer.run_id, outcome, points)


def _address(entry: Entry, home: Path, uri: str | None) -> str:
    if uri:
        return store.resolve_uri(home, uri)
    if entry.uri is None:
        return store.sqlite_uri(home / "mlflow.db")
    if "***@" not in entry.uri:
        return store.resolve_uri(home, entry.uri)
    # The password is not on disk; the environment may still have it.
    found = store.resolve_uri(home)
    if Target(found, home).recorded != entry.uri:
        raise RequestError(f"{entry.uri} needs its password: give --uri or MLFLOW_TRACKING_URI")
    return found


def _home_of(directory: Path) -> Path:
    for parent in directory.absolute().parents:
        if parent.name == "runs":
            return parent.parent
    return directory.absolute().parent

"""``rarelab sync``: update MLflow from the run directories, which are the source of truth."""

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
    """The result of syncing one run.

    ``outcome`` is "level" (was up to date), "pushed", "deleted" (in MLflow) or "busy" (another
    process is pushing it).
    """

    directory: Path
    run_id: str | None
    outcome: str
    points: int = 0


def sync(home: Path, uri: str | None = None) -> str:
    """Push everything under ``home``/runs that MLflow lacks; returns a one-line summary.

    Each run goes to ``uri``, else to the store it was started with. Repeated or concurrent calls
    are safe. Runs with ``tracking=none`` and runs deleted in MLflow are skipped.

    Raises:
        RequestError: ``uri`` is not a valid address.
        RarelabError: a run could not be pushed; the others were.
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
        f"{counts['pushed']} runs synced ({points} points), {counts['level']} up to date"
        + (f", {counts['deleted']} deleted in MLflow skipped" if counts["deleted"] else "")
        + (f", {counts['busy']} being pushed by another process" if counts["busy"] else "")
    )
    if failures:
        raise RarelabError(f"{len(failures)} runs could not be pushed: {failures[0]} ({summary})")
    return summary


def sync_run(directory: Path, uri: str | None = None, home: Path | None = None) -> Synced:
    """Push one run directory into MLflow, without duplicates.

    A run that has not ended (no ``status.json``) stays RUNNING, with the rows it has so far.

    Raises:
        RequestError: the directory holds no record.
        RarelabError: the store cannot be written.
    """
    entry = load_entry(directory)
    if entry is None:
        raise RequestError(f"{directory}: expected a run directory, with a {RECORD} in it")
    home = home or _home_of(directory)
    try:
        target = Target(_address(entry, home, uri), home)
        # Held during network calls, which is fine: nobody waits for this lock.
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
    """The directories of the runs tracked in MLflow, parents before children."""
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

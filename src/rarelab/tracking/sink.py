"""Listeners that send the history to MLflow; a failure there never stops training."""

import logging
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rarelab import paths
from rarelab.tracking import store
from rarelab.tracking.entry import (
    STATUS,
    Entry,
    RunRecord,
    load_entry,
    new_entry,
    now_ms,
    read_status,
    renewed,
    save_entry,
    write_status,
)
from rarelab.tracking.redact import redact_uri
from rarelab.tracking.settings import mlflow_settings
from rarelab.tracking.writer import DeletedRun, Point, RunWriter, Target, row_points

_logger = logging.getLogger("rarelab")

_SHARE = 1 / 25
"""The share of elapsed time that writing may take during training: 4 %, to stay under 5 % even if a
write takes longer than expected."""

# Expected seconds of the first write; later estimates come from measured writes.
_FIRST_COST = 0.1


class MlflowSink:
    """Writes a run and its history to MLflow, and never raises because MLflow does.

    Rows are buffered until writing them takes no more than 4 % of the time since the start, and
    flushed at the end in any case. The first failure is logged as a warning; later attempts are
    silent and under the same limit. A store that comes back catches up by itself; otherwise
    ``rarelab sync`` updates it from the run directory.

    ``uri`` None means ``MLFLOW_TRACKING_URI``, else ``mlflow.db`` under ``home``; ``experiment`` is
    the name of the MLflow experiment; ``home`` None is the default home of the records; ``figures``
    says whether to draw the run's figures, which takes a second or two; ``importance`` whether they
    include what shuffling each column costs, for which the validation rows are scored again.

    Raises:
        RequestError: on construction, if the address is invalid.
    """

    def __init__(
        self,
        uri: str | None = None,
        experiment: str = "rarelab",
        home: str | None = None,
        figures: bool = True,
        importance: bool = False,
    ) -> None:
        self.figures, self.importance = figures, importance
        self.experiment = experiment
        self.home = paths.home(home)
        self.uri = store.resolve_uri(self.home, uri)
        self._pending: list[Point] = []
        self._warned = False
        self._start = time.monotonic()
        self._spent = 0.0
        self._cost = _FIRST_COST

    def open(self, record: RunRecord) -> str:
        """Start the run, or resume the one in the directory; returns its id.

        The id is MLflow's; if MLflow cannot be reached, it is the ``uid`` of ``record.json``, later
        the run's tag ``rarelab.uid``.
        """
        self._record = record
        known = load_entry(record.directory)
        self._use(renewed(known, record) if known else self._new_entry(), fresh=known is None)
        if known:
            self._pending.extend(history_points(record.directory))
        began = time.monotonic()
        self._attempt(self._begin)
        # Opening is a fixed cost and not counted towards the share, unless it failed.
        self._start = time.monotonic()
        self._spent = 0.0 if self._writer.run_id else self._start - began
        self._cost = max(self._spent, _FIRST_COST)
        return self._writer.run_id or self._entry.uid

    def __call__(self, row: dict[str, Any]) -> None:
        """Buffer a row of the history ``{"step", "time", "metrics"}``, and flush if affordable."""
        self._pending.extend(row_points(row))
        share = _SHARE / self._record.at_once
        if self._spent + self._cost <= share * (time.monotonic() - self._start):
            self._attempt(self._flush)

    def close(self, status: str, directory: Path | None = None, error: str = "") -> None:
        """End the run as ``done``, ``diverged``, ``error`` or ``interrupted``.

        ``error`` is the type of the exception that ended it, recorded as the tag ``rarelab.error``.
        Rows, curves and files go to MLflow before the status: a run that is FINISHED there is
        complete.

        Raises:
            OSError: the status cannot be written to the run directory.
        """
        write_status(self._record.directory, status, error)
        self._attempt(lambda: self._end(status, error))

    def warn(self, error: Exception) -> None:
        """Log the store's failure, the first time only."""
        if not self._warned:
            _logger.warning("%s", self._excuse(error))
        self._warned = True

    def _new_entry(self) -> Entry:
        recorded = Target(self.uri, self.home).recorded
        return new_entry(self._record, self.experiment, recorded, tracked=True)

    def _use(self, entry: Entry, *, fresh: bool) -> None:
        target = Target(self.uri, self.home)
        self._entry = entry
        self._writer = RunWriter(target, self._record.directory, entry, fresh=fresh)

    def _begin(self) -> None:
        save_entry(self._record.directory, self._entry)
        (self._record.directory / STATUS).unlink(missing_ok=True)
        self._attach()

    def _attach(self) -> None:
        if self._writer.run_id:
            return
        try:
            found = self._writer.attach()
        except DeletedRun:
            # The run was deleted in MLflow and is now resumed: create a new one.
            self._use(self._new_entry(), fresh=True)
            found = self._writer.attach()
        if found:
            self._writer.reopen()

    def _flush(self) -> None:
        self._attach()
        self._writer.push(self._pending)
        self._pending.clear()

    def _end(self, status: str, error: str) -> None:
        self._attach()
        ending = read_status(self._record.directory) or {"ended": now_ms()}
        self._writer.finish(status, ending["ended"], error, self._pending)
        self._pending.clear()

    def _attempt(self, action: Callable[[], None]) -> None:
        """Call the store; a failure is logged once and never raised."""
        began = time.monotonic()
        try:
            # Once, instead of around each of the client's calls.
            with mlflow_settings() if "mlflow" in sys.modules else nullcontext():
                action()
        except Exception as error:
            self.warn(error)
        cost = time.monotonic() - began
        self._spent += cost
        # The expected cost of the next write: the estimate decays slowly after a slow one.
        self._cost = max(cost, self._cost / 2)

    def _excuse(self, error: Exception) -> str:
        return (
            f"MLflow ({redact_uri(self.uri)}) is not recording this run: {store.reason(error)}; "
            "the run continues, its history is on disk, and `rarelab sync` updates MLflow later"
        )


class NoSink:
    """Writes only the run directory's own record; same parameters as MlflowSink."""

    def __init__(
        self,
        uri: str | None = None,
        experiment: str = "rarelab",
        home: str | None = None,
        figures: bool = True,
        importance: bool = False,
    ) -> None:
        self.figures, self.importance = figures, importance
        self.experiment = experiment
        self.home = paths.home(home)
        self.uri = uri

    def open(self, record: RunRecord) -> str:
        """Write ``record.json``; returns the run's ``uid``."""
        self._directory = record.directory
        known = load_entry(record.directory)
        fresh = new_entry(record, self.experiment, None, tracked=False)
        entry = renewed(known, record) if known else fresh
        save_entry(record.directory, entry)
        (record.directory / STATUS).unlink(missing_ok=True)
        return entry.uid

    def __call__(self, row: dict[str, Any]) -> None:
        """Ignore a row of the history, which is already on disk."""

    def close(self, status: str, directory: Path | None = None, error: str = "") -> None:
        """Write ``status.json``."""
        write_status(self._directory, status, error)


def history_points(directory: Path) -> list[Point]:
    """The points of a run directory's history, oldest first."""
    from rarelab.training.history import read_rows

    path = directory / "history.jsonl"
    rows = read_rows(path) if path.is_file() else []
    return [point for row in rows for point in row_points(row)]

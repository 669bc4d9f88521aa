"""Write one run to one MLflow store. Failures are raised; the sink and the replay decide what they
mean."""

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rarelab.tracking import store
from rarelab.tracking.entry import Entry, save_entry
from rarelab.tracking.mlmodel import describe
from rarelab.tracking.naming import MAX_PARAM, MAX_TAG, Names, clean_values, metric_value
from rarelab.tracking.redact import redact_uri

_logger = logging.getLogger("rarelab")

UID_TAG = "rarelab.uid"
STATUS_TAG = "rarelab.status"
ERROR_TAG = "rarelab.error"
ENDINGS = {
    "done": "FINISHED",
    "diverged": "FAILED",
    "error": "FAILED",
    "interrupted": "KILLED",
    "pruned": "KILLED",
}
"""MLflow's names for our statuses."""

CURVES = ("recall_at_q", "value_recall_at_q", "precision_at_recall")
PERCENT_OF_ROWS = "curve/per cent of rows"
"""The x axis of ``curve/recall_at_q`` in the dashboard: steps must be integers."""

ARTIFACTS = (
    "config.yaml",
    "arms.json",
    "environment.json",
    "diff.patch",
    "history.jsonl",
    "curves.json",
    "predictions.parquet",
    "checkpoint.pt",
    "train.log",
)
"""The files of a run directory that are uploaded, besides ``figures/`` and ``model/``."""

MAX_ARTIFACT_BYTES = 50_000_000
"""Larger files stay in the run directory, which the tag ``rarelab.directory`` names."""

_BATCH = 1000


class Point(NamedTuple):
    """One value of one metric; ``time`` in milliseconds since 1970."""

    key: str
    step: int
    value: float
    time: int


@dataclass(frozen=True)
class Target:
    """Where a run is written: a store, and the home that holds its files and its parent."""

    uri: str
    home: Path

    @property
    def recorded(self) -> str | None:
        """The store as named in ``record.json``: without password, None for the home's own."""
        own = store.sqlite_uri(self.home / "mlflow.db")
        return None if self.uri == own else redact_uri(self.uri)


class DeletedRun(Exception):
    """The run has been deleted in MLflow (its lifecycle stage is ``deleted``)."""


class RunWriter:
    """Writes a run idempotently: after a failure, a lost response or a resume, and in another
    store, nothing is duplicated.

    A point is identified by (key, step), and its first value and time are kept. Existing parameters
    are not changed.
    """

    def __init__(self, target: Target, directory: Path, entry: Entry, *, fresh: bool) -> None:
        self._target = target
        self._directory = directory
        self._entry = entry
        # A request that failed may still have created the run: search before creating again.
        self._look = not fresh
        self._sent: set[tuple[str, int]] = set()
        self._unread: set[str] = set()
        self._names = Names()
        self._client: Any = None
        self.run_id: str | None = None

    def attach(self) -> bool:
        """Find or create the run in the store; returns whether it existed.

        Raises:
            DeletedRun: it existed and has been deleted.
        """
        self._client = store.client(self._target.uri, self._target.home)
        experiment = store.ensure_experiment(
            self._client, self._entry.experiment, self._target.uri, self._target.home
        )
        found = self._find(experiment) if self._look else None
        self._look = True
        if found is not None and found.info.lifecycle_stage == "deleted":
            raise DeletedRun(found.info.run_id)
        run = found or self._create(experiment)
        self._add_params(run)
        self._unread = set(run.data.metrics)
        self.run_id = run.info.run_id
        self._entry.uri, self._entry.run_id = self._target.recorded, self.run_id
        save_entry(self._directory, self._entry)
        return found is not None

    def reopen(self) -> None:
        """Mark a resumed run as running, with its current name, tags and parent."""
        from mlflow.entities import RunTag

        tags = self._tags(self._client.get_run(self.run_id).info.experiment_id).items()
        self._client.update_run(self.run_id, status="RUNNING", name=self._entry.name)
        self._client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags])

    def push(self, points: Iterable[Point]) -> int:
        """Write the points not yet in the store; returns their number."""
        from mlflow.entities import Metric

        named = [point._replace(key=self._names(point.key)) for point in points]
        for key in self._unread & {point.key for point in named}:
            stored = self._client.get_metric_history(self.run_id, key)
            self._sent.update((key, metric.step) for metric in stored)
            self._unread.discard(key)
        new: dict[tuple[str, int], Metric] = {}
        for key, step, value, time in named:
            if (key, step) not in self._sent:
                new.setdefault((key, step), Metric(key, metric_value(value), time, step))
        items = list(new.items())
        for start in range(0, len(items), _BATCH):
            batch = dict(items[start : start + _BATCH])
            self._client.log_batch(self.run_id, metrics=list(batch.values()))
            self._sent.update(batch)
        return len(items)

    def finish(self, status: str, ended: int, error: str = "", points: Iterable[Point] = ()) -> int:
        """Write the last points, the curves and files, then the final status; returns the number of
        new points.

        ``error`` is the type of the exception that ended the run, or "".
        """
        written = self.push([*points, *curve_points(self._directory, ended)])
        self._upload()
        self._client.set_tag(self.run_id, STATUS_TAG, status)
        if error:
            self._client.set_tag(self.run_id, ERROR_TAG, error)
        ending = ENDINGS.get(status, "FAILED")
        self._client.set_terminated(self.run_id, ending, end_time=ended)
        self._entry.level = level(self._directory, status, ended)
        save_entry(self._directory, self._entry)
        return written

    def _find(self, experiment: str) -> Any:
        from mlflow.exceptions import MlflowException

        if self._entry.run_id and self._entry.uri == self._target.recorded:
            try:
                return self._client.get_run(self._entry.run_id)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
        return self._by_uid(experiment, self._entry.uid)

    def _by_uid(self, experiment: str, uid: str) -> Any:
        from mlflow.entities import ViewType

        found = self._client.search_runs(
            [experiment], f"tags.`{UID_TAG}` = '{uid}'", ViewType.ALL, max_results=1
        )
        return found[0] if found else None

    def _create(self, experiment: str) -> Any:
        return self._client.create_run(
            experiment,
            start_time=self._entry.started,
            tags=self._tags(experiment),
            run_name=self._entry.name,
        )

    def _tags(self, experiment: str) -> dict[str, str]:
        tags = {**self._entry.tags, STATUS_TAG: "running", UID_TAG: self._entry.uid}
        if self._entry.parent:
            tags["mlflow.parentRunId"] = self._parent(experiment, self._entry.parent)
        return clean_values(tags, MAX_TAG)

    def _parent(self, experiment: str, parent: str) -> str:
        """The parent's id in this store, which may differ from its id elsewhere."""
        from mlflow.exceptions import MlflowException

        run = self._by_uid(experiment, parent)
        if run is None:
            try:
                run = self._client.get_run(parent)
            except MlflowException:
                return parent
            # The uid, unlike the id, identifies the parent in every store.
            self._entry.parent = run.data.tags.get(UID_TAG, parent)
        return run.info.run_id

    def _add_params(self, run: Any) -> None:
        from mlflow.entities import Param

        # Parameters are immutable, and one that differs would fail the whole batch.
        params = clean_values(self._entry.params, MAX_PARAM).items()
        missing = [Param(key, value) for key, value in params if key not in run.data.params]
        self._client.log_batch(run.info.run_id, params=missing)

    def _upload(self) -> None:
        for name in ARTIFACTS:
            path = self._directory / name
            if path.is_file() and path.stat().st_size <= MAX_ARTIFACT_BYTES:
                self._client.log_artifact(self.run_id, str(path))
        self._upload_model(self._directory / "model")
        figures = self._directory / "figures"
        if figures.is_dir():
            self._client.log_artifacts(self.run_id, str(figures), "figures")

    def _upload_model(self, folder: Path) -> None:
        try:
            servable = describe(folder, str(self.run_id))
        except Exception as error:
            # A model that MLflow cannot describe must not leave the run unfinished there.
            _logger.warning("the model of %s cannot be served: %s", folder.parent.name, error)
            return
        sizes = [path.stat().st_size for path in folder.iterdir()] if servable else []
        if sizes and max(sizes) <= MAX_ARTIFACT_BYTES:
            self._client.log_artifacts(self.run_id, str(folder), "model")


def level(directory: Path, status: str, ended: int) -> dict[str, Any]:
    """What a complete push of a run directory covers, for comparison with an earlier one."""
    history = directory / "history.jsonl"
    size = history.stat().st_size if history.is_file() else 0
    return {"status": status, "ended": ended, "history": size}


def row_points(row: dict[str, Any]) -> list[Point]:
    """The points of one row of a history."""
    return [Point(key, row["step"], value, row["time"]) for key, value in row["metrics"].items()]


def curve_points(directory: Path, time: int) -> list[Point]:
    """The run's curves as metrics ``curve/NAME``, with the x value as the integer step, and the
    steps of recall by quantile in per cent of the rows, as the dashboard's x axis."""
    path = directory / "curves.json"
    if not path.is_file():
        return []
    curves = json.loads(path.read_text(encoding="utf-8"))
    points = [
        Point(f"curve/{name}", int(step), float("nan") if value is None else value, time)
        for name in CURVES
        if name in curves
        for step, value in zip(curves[name]["steps"], curves[name]["values"], strict=True)
    ]
    steps = curves.get("recall_at_q", {}).get("steps", ())
    return points + [Point(PERCENT_OF_ROWS, int(step), step / 100, time) for step in steps]

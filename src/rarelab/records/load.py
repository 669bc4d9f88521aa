"""The recorded runs of an experiment as plain data. No other part of the comparison talks to
MLflow."""

import json
import math
import re
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from rarelab import paths
from rarelab.config.groups import NOT_OF_A_RUN, NOT_OF_AN_ARM
from rarelab.errors import RarelabError, RequestError, nearest
from rarelab.metrics.table import is_at_budget
from rarelab.records.searched import TRIAL, as_arm, searched
from rarelab.tracking import store
from rarelab.tracking.entry import load_entry, now_ms, read_status
from rarelab.tracking.naming import MAX_TAG, Names, metric_value
from rarelab.tracking.redact import redact_command, redact_uri
from rarelab.training.history import read_rows

PARENT = "sweep"
"""The tag ``rarelab.kind`` of a sweep's parent run, which is not one of its arms."""

VERDICT = "rarelab.verdict"
"""The tag of a sweep's parent run with the headline of its latest verdict."""

REFIT = "refit"
"""The tag ``rarelab.kind`` of a run trained on all rows, which shows nothing: no row tests it."""

_DATA = "dataset"
_BUDGET = "budget"
_SPLIT_SEED = "dataset.split_seed"
_PAGE = 1000
_NOTE = "mlflow.note.content"
_BEGIN, _END = "<!-- verdict -->", "<!-- end of verdict -->"


@dataclass(frozen=True)
class Run:
    """One recorded run. ``status`` is rarelab's (done, diverged, error, interrupted, running).

    ``within``: configuration keys treated as part of the data; only runs with equal values there
    are compared. ``seconds``: how long it took, NaN if that is not recorded. ``every_seed``: it is
    of a model without a seed and stands beside the runs of this one.
    """

    run_id: str
    name: str
    experiment: str
    params: Mapping[str, str] = field(repr=False)
    tags: Mapping[str, str] = field(repr=False)
    metrics: Mapping[str, float] = field(repr=False)
    status: str
    started: int
    artifacts: str = field(repr=False, default="")
    within: tuple[str, ...] = ()
    seconds: float = math.nan
    every_seed: bool = False

    @property
    def seed(self) -> int | None:
        return _number(self.params.get("seed"))

    @property
    def split_seed(self) -> int | None:
        """The seed of the split; None if the data set has none."""
        return _number(self.params.get(_SPLIT_SEED))

    @property
    def sweep(self) -> str | None:
        return self.tags.get("rarelab.sweep")

    @property
    def digest(self) -> str | None:
        """A digest of the rows it was trained and tested on."""
        return self.tags.get("rarelab.data_digest")

    @cached_property
    def searched(self) -> dict[str, str | None]:
        """What a contest chose the run's values from (:mod:`rarelab.records.searched`)."""
        return searched(self.tags)

    @cached_property
    def arm(self) -> dict[str, str]:
        """The configuration without seeds and data, and with what the values were chosen from if a
        search of the arm chose them; runs that share it are repetitions."""
        return arm_of(as_arm(self.params, self.searched), self.within)

    @cached_property
    def data(self) -> dict[str, str]:
        """The configuration of the data, without the split seed."""
        return {
            key: value
            for key, value in self.params.items()
            if (key.partition(".")[0] == _DATA and key != _SPLIT_SEED) or key in self.within
        }


def arm_of(configuration: Mapping[str, str], within: Sequence[str] = ()) -> dict[str, str]:
    """The part of a flat configuration that distinguishes arms: no seeds, no data. A budget is part
    of it only where it chose the epoch; else it changes only what is reported."""
    chosen = is_at_budget(configuration.get("trainer.select_by", ""))
    left_out = (*NOT_OF_A_RUN, _DATA, *(() if chosen else (_BUDGET,)))
    return {
        key: value
        for key, value in configuration.items()
        if key not in (*NOT_OF_AN_ARM, *within) and key.partition(".")[0] not in left_out
    }


def from_directory(directory: Path) -> Run:
    """The run recorded in a directory, read without MLflow.

    Raises:
        RequestError: the directory does not hold a run's record.
    """
    entry = load_entry(directory)
    if entry is None:
        raise RequestError(f"{directory}: expected the folder of a recorded run")
    metrics: dict[str, float] = {}
    for row in read_rows(directory / "history.jsonl"):
        metrics |= row["metrics"]
    return Run(
        run_id=entry.run_id or entry.uid,
        name=entry.name,
        experiment=entry.experiment,
        params=entry.params,
        tags=entry.tags | {"rarelab.directory": str(directory)},
        metrics=metrics,
        status=(read_status(directory) or {}).get("status", "running"),
        started=entry.started,
    )


class Records:
    """The runs of one store or server.

    ``uri`` None means ``MLFLOW_TRACKING_URI``, else ``mlflow.db`` under ``home``.

    Raises:
        RequestError: the address is invalid, or nothing has been recorded there.
    """

    def __init__(self, home: str | Path | None = None, uri: str | None = None) -> None:
        self.home = paths.home(home)
        self.uri = store.resolve_uri(self.home, uri)
        file = store.sqlite_path(self.uri)
        if file is not None and not file.is_file():
            raise RequestError(f"{file}: nothing has been recorded there; run `rarelab train`")

    @cached_property
    def client(self) -> Any:
        return store.client(self.uri, self.home)

    @cached_property
    def scratch(self) -> Path:
        """A temporary folder that goes with these records."""
        folder = Path(tempfile.mkdtemp(prefix="rarelab-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    def experiments(self) -> dict[str, str]:
        """Experiment ids by name."""
        return {found.name: found.experiment_id for found in self._ask("search_experiments")}

    def runs(self, experiment: str) -> list[Run]:
        """The runs of an experiment without its sweeps' parent runs, trials and refits, oldest
        first.

        Raises:
            RequestError: there is no such experiment, or it has no runs.
        """
        found = [run for run in self._all(experiment) if not _shows_nothing(run)]
        if not found:
            raise RequestError(f"experiment={experiment}: no run has been recorded in it")
        return found

    def parents(self, experiment: str) -> list[Run]:
        """The sweeps' parent runs, oldest first."""
        return self._all(experiment, f"tags.`rarelab.kind` = '{PARENT}'")

    def run(self, run_id: str) -> Run:
        """The run with this id; RequestError if there is none."""
        from mlflow.exceptions import MlflowException

        try:
            found = self.client.get_run(run_id)
        except MlflowException as error:
            raise RequestError(f"{run_id}: there is no run with this id") from error
        return _plain(found, self.client.get_experiment(found.info.experiment_id).name)

    def file(self, run: Run, name: str, *, download: bool = True) -> Path | None:
        """A file of the run, from its directory or else its artifacts (from a server only if
        ``download``); None if there is no such file."""
        directory = run.tags.get("rarelab.directory")
        if directory:
            at_home = self.home / "runs" / run.experiment / Path(directory).name
            for folder in (Path(directory), at_home):
                if (folder / name).is_file():
                    return folder / name
        if run.artifacts.startswith(("file:", "/")):
            kept = Path(unquote(urlsplit(run.artifacts).path)) / name
            return kept if kept.is_file() else None
        return self._download(run, name) if download else None

    def curves(self, run: Run) -> dict[str, Any] | None:
        """The curves of the test rows (:mod:`rarelab.metrics.curves`); None if there are none."""
        path = self.file(run, "curves.json")
        return None if path is None else json.loads(path.read_text(encoding="utf-8"))

    def parent_of(self, runs: Sequence[Run]) -> Run | None:
        """The newest sweep parent run that has one of these runs as a child."""
        above = {run.tags.get("mlflow.parentRunId") for run in runs}
        sweeps = {run.sweep for run in runs if run.sweep}
        found = [
            run
            for run in (self.parents(runs[0].experiment) if runs else [])
            if run.run_id in above or run.sweep in sweeps
        ]
        return found[-1] if found else None

    def publish(
        self, run: Run, headline: str, note: str, metrics: Mapping[str, float], folder: Path
    ) -> None:
        """Attach a verdict to a run: its headline as a tag, in words in the description, its
        numbers as metrics, and a folder as artifacts.

        An earlier verdict in the description is replaced; the rest of it is kept.
        """
        from mlflow.entities import Metric

        kept = re.sub(f"{_BEGIN}.*?{_END}", "", run.tags.get(_NOTE, ""), flags=re.DOTALL).strip()
        text = f"{_BEGIN}\n{note}\n{_END}\n{kept}".strip()
        now, names = now_ms(), Names()
        points = [Metric(names(key), metric_value(value), now, 0) for key, value in metrics.items()]
        self._ask("set_tag", run.run_id, VERDICT, headline[:MAX_TAG])
        self._ask("set_tag", run.run_id, _NOTE, text[:MAX_TAG])
        self._ask("log_batch", run.run_id, metrics=points)
        self._ask("log_artifacts", run.run_id, str(folder), "verdict")

    def _all(self, experiment: str, condition: str = "") -> list[Run]:
        known = self.experiments()
        if experiment not in known:
            raise RequestError(
                f"experiment={experiment}: nothing is recorded under this name; "
                f"{nearest(experiment, known)}"
            )
        found: list[Run] = []
        token = None
        while True:
            page = self._ask(
                "search_runs", [known[experiment]], condition, max_results=_PAGE, page_token=token
            )
            found += [_plain(run, experiment) for run in page]
            token = page.token
            if not token:
                return sorted(found, key=lambda run: (run.started, run.run_id))

    def _ask(self, question: str, *arguments: Any, **options: Any) -> Any:
        try:
            return getattr(self.client, question)(*arguments, **options)
        except Exception as error:
            reason = redact_command(str(error).strip().split("\n", maxsplit=1)[0][:300])
            raise RarelabError(f"{redact_uri(self.uri)} does not answer: {reason}") from error

    def _download(self, run: Run, name: str) -> Path | None:
        folder = self.scratch / run.run_id
        if (folder / name).is_file():
            return folder / name
        folder.mkdir(exist_ok=True)
        try:
            return Path(self.client.download_artifacts(run.run_id, name, str(folder)))
        except Exception:
            # Each kind of store reports a missing artifact with its own exception.
            return None


def _plain(run: Any, experiment: str) -> Run:
    tags = dict(run.data.tags)
    return Run(
        run_id=run.info.run_id,
        name=run.info.run_name or run.info.run_id,
        experiment=experiment,
        params=dict(run.data.params),
        tags=tags,
        metrics=dict(run.data.metrics),
        status=tags.get("rarelab.status") or _STATUSES.get(run.info.status, "error"),
        started=run.info.start_time or 0,
        artifacts=run.info.artifact_uri or "",
        seconds=(run.info.end_time - run.info.start_time) / 1000
        if run.info.end_time and run.info.start_time
        else math.nan,
    )


# For runs that rarelab did not record.
_STATUSES = {
    "FINISHED": "done",
    "RUNNING": "running",
    "SCHEDULED": "running",
    "KILLED": "interrupted",
}


def _shows_nothing(run: Run) -> bool:
    return run.tags.get("rarelab.kind") in (PARENT, REFIT, TRIAL)


def _number(text: str | None) -> int | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return int(value) if value.is_integer() else None

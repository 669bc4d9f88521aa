"""The sweep's own run, parent of its jobs' runs: the plan, the jobs' endings and the table."""

import csv
import json
import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from omegaconf import DictConfig, OmegaConf

from rarelab.records.names import BASELINES
from rarelab.runs.claim import claim
from rarelab.runs.folder import command, redacted
from rarelab.sweep.job import Job, Result, arm_parameters
from rarelab.sweep.table import arms, table_metrics, write_figure, write_table
from rarelab.tracking import MlflowSink, RunRecord, owner, read_status
from rarelab.training.history import History

log = logging.getLogger("rarelab")

KIND = {"rarelab.kind": "sweep"}


class Parent:
    """The record of a sweep, as a context manager around the running of its jobs.

    Repeating a sweep resumes its earlier run, unless another process is working on it.

    Args:
        cfg: the configuration of the sweep itself; recorded as ``config.yaml``.
        jobs: all jobs of the plan.
        folder: ``runs/<experiment>``.
        sink: the tracker, not yet opened.
        search: the id of a search, whose jobs are not all known in advance: see :meth:`plan` and
            :meth:`plan_arms`.
        name: the run's name; default: what it is.
    """

    def __init__(
        self,
        cfg: DictConfig,
        jobs: Sequence[Job],
        folder: Path,
        sink: Any,
        *,
        search: str = "",
        name: str = "",
    ) -> None:
        self._cfg, self._jobs, self._sink = cfg, jobs, sink
        self._name = name or ("search" if search else f"sweep of {len(jobs)} jobs")
        self._searches = bool(search)
        self.sweep = search or jobs[0].sweep
        self.directory, _ = claim(folder, f"sweep-{self.sweep}", goes_on=lambda directory: True)
        self.run_id = ""
        self.status = "done"
        self._let_go = owner.release

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self._start(opened)
            self._open = opened.pop_all()
        return self

    def _start(self, opened: ExitStack) -> None:
        """Open the parts one by one; if one fails, ``opened`` closes those before it."""
        opened.callback(lambda: self._let_go(self.directory))
        opened.enter_context(owner.beating(self.directory))
        kept = [str(key) for key in self._cfg if key != "hydra"]
        plain: Any = OmegaConf.to_container(OmegaConf.masked_copy(self._cfg, kept))
        OmegaConf.save(OmegaConf.create(redacted(plain)), self.directory / "config.yaml")
        self.plan(self._jobs)
        if not self._searches:
            self.plan_arms(self._jobs)
        self.run_id = self._sink.open(self._record())
        opened.push(self._end)
        history = self.directory / "history.jsonl"
        self._history = History(history, [self._sink])
        if history.is_file():
            self._history.cut(len(self._history))  # a killed sweep may have left half a line

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, traceback)

    def _end(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.status = "error" if issubclass(kind, Exception) else "interrupted"
        self._let_go = owner.abandon
        self._sink.close(self.status, self.directory, kind.__name__ if kind else "")
        self._let_go = owner.release

    def plan(self, jobs: Sequence[Job]) -> None:
        """Write the jobs to run: ``plan.json``."""
        self._jobs = jobs
        plan = [{key: getattr(job, key) for key in _PLANNED} for job in jobs]
        _write(self.directory / "plan.json", json.dumps(plan, indent=1))

    def plan_arms(self, jobs: Sequence[Job]) -> None:
        """Write the jobs whose arms are to be compared: ``arms.json``."""
        arms_of = [{"signature": j.signature, "parameters": _shown(j)} for j in jobs]
        _write(self.directory / "arms.json", json.dumps(arms_of, indent=1))

    def note(self, results: Mapping[int, Result]) -> None:
        """Write how the jobs have ended so far: ``jobs.csv``."""
        self.keep(lambda: self._write_endings(results))

    def conclude(self, results: Mapping[int, Result]) -> None:
        """Record the table over seeds: metrics, ``table.csv`` and the figure."""
        found = arms(self._jobs, results)
        self.note(results)
        self.keep(lambda: write_table(self.directory / "table.csv", found))
        self.keep(lambda: write_figure(self.directory, found))
        self.append(table_metrics(found))

    def whereabouts(self) -> str:
        """Where the table and the figure are, and the next commands."""
        lines = [f"table and figure: {self.directory}"]
        if isinstance(self._sink, MlflowSink):
            name = shlex.quote(self._sink.experiment)
            lines.append(f"what can be claimed: rarelab compare experiment={name}{self._apart()}")
            lines.append(f"look at it with: rarelab ui {name}")
        return "\n".join(lines)

    def _apart(self) -> str:
        """What ``rarelab compare`` needs besides, if several models have the baseline's loss."""
        arms_of = [arm_parameters(job) for job in self._jobs]
        plain = {arm.get("model") for arm in arms_of if arm.get("loss") in BASELINES}
        return f" {shlex.quote('within=[model]')}" if len(plain) > 1 else ""

    def append(self, metrics: dict[str, float]) -> None:
        """Record metrics of the whole sweep; each call is a new step, and the last one counts."""
        self.keep(lambda: self._history.append(len(self._history), metrics))

    def _write_endings(self, results: Mapping[int, Result]) -> None:
        with (self.directory / "jobs.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["job", "name", *_ENDINGS])
            for job in self._jobs:
                if job.number in results:
                    ending = results[job.number]
                    rows.writerow([job.number, job.name, *(getattr(ending, k) for k in _ENDINGS)])

    def keep(self, write: Callable[[], Any]) -> None:
        """Call ``write``; if the disk refuses, log a warning and go on."""
        try:
            write()
        except OSError as error:
            log.warning("the sweep's own record is incomplete: %s", error)

    def _record(self) -> RunRecord:
        keys = sorted({key for job in self._jobs for key in job.numbers})
        return RunRecord(
            name=self._name,
            params={"jobs": str(len(self._jobs)), "swept": " ".join(keys)},
            tags={**KIND, "rarelab.sweep": self.sweep, "rarelab.command": command()},
            directory=self.directory,
        )


def under_way(folder: Path, sweep: str) -> Path | None:
    """The record of the same sweep if another process is running it now."""
    return next(filter(owner.alive, _records(folder, sweep)), None)


def is_open(folder: Path, sweep: str) -> bool:
    """Whether the sweep has a record that is not done and that no process is working on."""
    free = [directory for directory in _records(folder, sweep) if not owner.alive(directory)]
    return bool(free) and (read_status(free[0]) or {}).get("status") != "done"


def _records(folder: Path, sweep: str) -> list[Path]:
    return sorted(folder.glob(f"sweep-{sweep}-*"))


_PLANNED = ("number", "name", "overrides", "signature", "code", "data")
_ENDINGS = ("status", "run_id", "directory", "seconds", "error", "reason")


def _shown(job: Job) -> dict[str, str]:
    """The job's parameters without secrets, since they are uploaded."""
    return {key: redacted(value, key) for key, value in arm_parameters(job).items()}


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")

"""Run a study, save its runs as a CSV, and report whether they match the committed ones."""

import csv
import json
import math
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from rarelab.api import train
from rarelab.compare import noise
from rarelab.compare.rows import TestRows, read_test_rows
from rarelab.compare.study import answer
from rarelab.config.compose_many import Composer, loader
from rarelab.errors import RarelabError
from rarelab.ledger import contests, runs_csv
from rarelab.ledger.study import ENVIRONMENT, ROWS, RUNS, KeptStudy
from rarelab.records.load import Run, from_directory
from rarelab.sweep.job import Job
from rarelab.sweep.overrides import expand
from rarelab.sweep.plan import Planner
from rarelab.sweep.settings import Settings, settings
from rarelab.sweep.work import run_job
from rarelab.tracking.entry import read_status
from rarelab.tracking.environment import DIFF

_DIFFERS = re.compile(r"^diff --git a/(.*) b/", re.MULTILINE)
_SCRIPTS = re.compile(r"experiments/([^/]+/)?[^/]+\.py")
"""Files that no run imports."""
_WRITTEN = re.compile(r"experiments/(README\.md|[^/]+/([^/]*\.(csv|json|md|png))?)")

_NO_PICTURES = "tracking.figures=false"

Key = tuple[tuple[str, str], ...]
Table = Mapping[Key, Mapping[str, str]]
"""The rows of a CSV of runs, keyed by their parameters."""

Asked = tuple[Planner, Mapping[str, Any], list[str], Settings]
"""Planner, grid, overrides and settings of a study's sweep."""


def run(study: KeptStudy, n_jobs: int, *, retime: bool = False, launcher: str | None = None) -> str:
    """Run a study's missing runs and write ``runs.csv``, ``rows.csv`` and ``environment.json``;
    for a contest ``trials.csv`` too.

    Returns:
        How the runs compare with the committed ones. If they are byte-identical, ``runs.csv`` and
        ``environment.json`` are kept. With ``retime`` the environment is replaced with that of
        these runs, with their time and commit.

    Raises:
        RarelabError: a job failed, or was trained with another home; nothing is written.
    """
    lines = [f"experiments={study.name}", f"sweep.n_jobs={n_jobs}", _NO_PICTURES]
    lines += [f"hydra/launcher={launcher}"] if launcher else []
    outcomes = train(lines, study.search_path)
    failed = [outcome for outcome in outcomes if outcome.status != "done"]
    if failed:
        raise RarelabError(f"{study.name}: {len(failed)} of {len(outcomes)} jobs did not finish")
    elsewhere = sum(outcome.directory == Path() for outcome in outcomes)
    if elsewhere:
        raise RarelabError(
            f"{study.name}: {elsewhere} of {len(outcomes)} jobs are known to MLflow but have no "
            "folder here: set RARELAB_HOME to the home they were trained with"
        )
    return keep(study, [from_directory(outcome.directory) for outcome in outcomes], retime=retime)


def keep(study: KeptStudy, runs: Sequence[Run], *, retime: bool = False) -> str:
    """Write the runs as the study's; returns what :func:`run` returns. A contest's trials may be
    among them."""
    ended, trials = runs, [run for run in runs if contests.is_trial(run)]
    runs = [run for run in runs if not contests.is_trial(run)]
    text, facts = runs_csv.as_csv(runs), environment(ended)
    path = study.folder / RUNS
    before = path.read_text(encoding="utf-8") if path.is_file() else None
    _write_rows(study, runs)  # the comparisons may have changed even if the runs have not
    if trials:
        (study.folder / contests.TRIALS).write_text(_trials(study, trials), encoding="utf-8")
    if before is None:
        said = f"{study.name}: {len(runs)} runs, new"
    elif before == text:
        said = f"{study.name}: {len(runs)} runs, bit-identical with the committed ones"
        if not retime:
            return said
    else:
        said = f"{study.name}: {differing(before, text)}; {changed(study.environment(), facts)}"
    told = json.dumps(facts, indent=1, sort_keys=True)
    (study.folder / ENVIRONMENT).write_text(told + "\n", encoding="utf-8")
    path.write_text(text, encoding="utf-8")  # last, since its presence marks the study as run
    return said


def environment(runs: Sequence[Run]) -> dict[str, Any]:
    """Versions, machine, date and duration of the runs, which are kept out of the CSV.

    ``seconds`` is the wall time summed over the runs, the trials of a contest included; ``changed``
    lists the files with uncommitted changes, except those that the ledger writes itself and the
    scripts beside them, which no run imports.
    """
    trials = sum(map(contests.is_trial, runs))
    found = [json.loads((directory_of(run) / ENVIRONMENT).read_text("utf-8")) for run in runs]
    ended = [(read_status(directory_of(run)) or {}).get("ended", run.started) for run in runs]
    states = [state for facts in found for state in facts["checkouts"][:1]]
    return {
        "date": datetime.fromtimestamp(max(ended) / 1000, UTC).strftime("%Y-%m-%d"),
        "commits": sorted({state["commit"] for state in states}),
        "changed": sorted({path for run in runs for path in changed_files(directory_of(run))}),
        "rarelab": _one([facts["rarelab"] for facts in found]),
        "python": _one([facts["python"] for facts in found]),
        "packages": _one([facts["packages"] for facts in found]),
        "machine": f"{platform.system()} {platform.machine()}",
        "cpu_capability": _one([facts["cpu_capability"] for facts in found]),
        "accelerator": _one([facts["accelerator"] for facts in found]),
        "code": sorted({run.tags["rarelab.code"][:16] for run in runs}),
        "jobs": len(runs) - trials,
        **({"trials": trials} if trials else {}),
        "seconds": round(sum(e - r.started for e, r in zip(ended, runs, strict=True)) / 1000),
    }


def changed_files(directory: Path) -> set[str]:
    """Uncommitted changes in a run's code: modified files, and new files or folders."""
    facts = json.loads((directory / ENVIRONMENT).read_text("utf-8"))
    found = {path for state in facts["checkouts"][:1] for path in state["untracked"]}
    patch = directory / DIFF
    if patch.is_file():
        found |= set(_DIFFERS.findall(patch.read_text("utf-8", errors="replace")))
    return {path for path in found if not (_WRITTEN.fullmatch(path) or _SCRIPTS.fullmatch(path))}


def differing(before: str, now: str) -> str:
    """How two CSVs of runs differ."""
    old, new = as_table(before), as_table(now)
    if old.keys() != new.keys():
        gone, come = len(old.keys() - new.keys()), len(new.keys() - old.keys())
        return f"not the committed runs ({come} new, {gone} missing)"
    largest: dict[str, float] = {}
    for key, line in new.items():
        for name in line.keys() | old[key].keys():
            if line.get(name) != old[key].get(name):
                gap = _gap(line.get(name), old[key].get(name))
                largest[name] = max(largest.get(name, 0.0), gap)
    if not largest:
        return "the same values as committed, formatted differently"
    told = ", ".join(f"{name} by up to {gap:.3g}" for name, gap in sorted(largest.items())[:6])
    return f"{len(largest)} columns differ from the committed ones: {told}"


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Which packages and other parts of the environment differ from the committed runs'."""
    old, new = before["packages"], now["packages"]
    told = [f"{p} {old.get(p)} -> {new[p]}" for p in new if new[p] != old.get(p)]
    told += [
        f"{key} {before.get(key)} -> {now[key]}"
        for key in ("python", "machine", "cpu_capability", "accelerator", "code")
        if now[key] != before.get(key)
    ]
    return ", ".join(told) or "no package, machine or code differs"


def check(study: KeptStudy, share: float, seed: int) -> tuple[int, list[str]]:
    """Retrain a random share of the committed runs in a temporary folder.

    Returns:
        How many were trained, and the differences: none if they are bit-identical.
    """
    committed = as_table((study.folder / RUNS).read_text("utf-8"))
    names = [name for name, _ in next(iter(committed))]
    with TemporaryDirectory() as home:
        jobs = plan(study, home)
        size = math.ceil(share * len(jobs))
        chosen = np.random.default_rng(seed).choice(len(jobs), size, replace=False)
        ended = [run_job(jobs[index]) for index in chosen]
        text = runs_csv.as_csv([from_directory(Path(e.directory)) for e in ended], names)
    return len(chosen), [
        f"{' '.join(f'{name}={value}' for name, value in key if value)}: {column}: "
        f"{value or 'nothing'}, committed {committed.get(key, {}).get(column) or 'nothing'}"
        for key, line in as_table(text).items()
        for column, value in line.items()
        if value != committed.get(key, {}).get(column, "")
    ]


def plan(study: KeptStudy, home: str, *more: str) -> list[Job]:
    """The runs of a study, recorded under ``home`` without MLflow; those of a contest have the
    values that its committed trials choose."""
    with asked(study, home, *more) as (planner, grid, lines, chosen):
        if chosen.contest.trials is None:
            return planner.jobs(expand(planner.composer.parser, grid, lines, chosen))
        text = (study.folder / contests.TRIALS).read_text("utf-8")
        return contests.planned(planner, grid, lines, chosen).runs(text)


@contextmanager
def asked(study: KeptStudy, home: str, *more: str) -> Iterator[Asked]:
    """What plans a study's jobs."""
    lines = [f"experiments={study.name}", "tracking=none", _NO_PICTURES, *more]
    with loader(study.search_path) as found:
        composer = Composer(found)
        base = composer.sweep(lines)
        grid = base.hydra.sweeper.get("params") or {}
        yield Planner(composer, home, study.experiment), grid, lines, settings(base)


def _trials(study: KeptStudy, runs: Sequence[Run]) -> str:
    with asked(study, "") as found:
        return contests.planned(*found).trials(runs)


def as_table(text: str) -> Table:
    """The facts and metrics of each row, keyed by its parameters."""
    lines = csv.DictReader(text.splitlines())
    names = list(lines.fieldnames or ())
    own = names[: names.index(runs_csv.FACTS[0])]
    return {
        tuple((name, line[name]) for name in own): {n: line[n] for n in names if n not in own}
        for line in lines
    }


def directory_of(run: Run) -> Path:
    return Path(run.tags["rarelab.directory"])


def _write_rows(study: KeptStudy, runs: Sequence[Run]) -> None:
    """Save the test-row noise where the test rows are fixed; needs the predictions."""
    kept: dict[str, TestRows | None] = {}

    def read(run: Run) -> TestRows | None:
        if run.run_id not in kept:
            path = directory_of(run) / "predictions.parquet"
            kept[run.run_id] = read_test_rows(path) if path.is_file() else None
        return kept[run.run_id]

    found = [answer(runs, study.options(c), noise.resampled(read)) for c in study.comparisons]
    text = noise.as_csv([finding for one in found for finding in one.findings])
    study.folder.mkdir(exist_ok=True)
    (study.folder / ROWS).unlink(missing_ok=True)
    if len(text.splitlines()) > 1:
        (study.folder / ROWS).write_text(text, encoding="utf-8")


def _gap(first: str | None, second: str | None) -> float:
    try:
        return abs(float(first or "nan") - float(second or "nan"))
    except ValueError:
        return math.inf


def _one(values: Sequence[Any]) -> Any:
    """The common value, or the list of distinct values."""
    different = [value for place, value in enumerate(values) if value not in values[:place]]
    return different[0] if len(different) == 1 else different

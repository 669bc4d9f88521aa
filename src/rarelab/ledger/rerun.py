"""Run a study, keep its runs as a CSV, and say whether they are the committed ones."""

import csv
import json
import math
import platform
import re
from collections.abc import Mapping, Sequence
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
from rarelab.ledger import runs_csv
from rarelab.ledger.study import ENVIRONMENT, ROWS, RUNS, KeptStudy
from rarelab.records.load import Run, from_directory
from rarelab.sweep.job import Job
from rarelab.sweep.overrides import expand
from rarelab.sweep.plan import Planner
from rarelab.sweep.settings import settings
from rarelab.sweep.work import run_job
from rarelab.tracking.entry import read_status
from rarelab.tracking.environment import DIFF

_DIFFERS = re.compile(r"^diff --git a/(.*) b/", re.MULTILINE)
_WRITTEN = re.compile(r"experiments/(README\.md|[^/]+/([^/]*\.(csv|json|md|png))?)")

_NO_PICTURES = "tracking.figures=false"

Key = tuple[tuple[str, str], ...]
Table = Mapping[Key, Mapping[str, str]]
"""The lines of a CSV of runs by their parameters."""


def run(study: KeptStudy, n_jobs: int, *, retime: bool = False) -> str:
    """Run what is missing of a study and write ``runs.csv``, ``rows.csv`` and ``environment.json``.

    Returns:
        How the runs compare with the committed ones. If they are the same bytes, ``runs.csv`` and
        ``environment.json`` stay: the committed environment is theirs. With ``retime`` it becomes
        that of these runs, which took another time at another commit.

    Raises:
        RarelabError: a job failed; nothing is written.
    """
    asked = [f"experiments={study.name}", f"sweep.n_jobs={n_jobs}", _NO_PICTURES]
    outcomes = train(asked, study.search_path)
    failed = [outcome for outcome in outcomes if outcome.status != "done"]
    if failed:
        raise RarelabError(f"{study.name}: {len(failed)} of {len(outcomes)} jobs did not end well")
    return keep(study, [from_directory(outcome.directory) for outcome in outcomes], retime=retime)


def keep(study: KeptStudy, runs: Sequence[Run], *, retime: bool = False) -> str:
    """Write the runs as those of the study; what :func:`run` returns."""
    text, facts = runs_csv.as_csv(runs), environment(runs)
    path = study.folder / RUNS
    before = path.read_text(encoding="utf-8") if path.is_file() else None
    _write_rows(study, runs)  # what is compared may be new where the runs are not
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
    path.write_text(text, encoding="utf-8")  # the last: with it the study counts as run
    return said


def environment(runs: Sequence[Run]) -> dict[str, Any]:
    """With what, when and in how much time runs were made: what the CSV must not hold.

    ``seconds`` is the sum over the runs of their own time on the wall; ``changed`` are the files
    that were not as in the commit, without those that a ledger writes itself.
    """
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
        "jobs": len(runs),
        "seconds": round(sum(e - r.started for e, r in zip(ended, runs, strict=True)) / 1000),
    }


def changed_files(directory: Path) -> set[str]:
    """What a run's code had uncommitted: changed files, and new files or folders."""
    facts = json.loads((directory / ENVIRONMENT).read_text("utf-8"))
    found = {path for state in facts["checkouts"][:1] for path in state["untracked"]}
    patch = directory / DIFF
    if patch.is_file():
        found |= set(_DIFFERS.findall(patch.read_text("utf-8", errors="replace")))
    return {path for path in found if not _WRITTEN.fullmatch(path)}


def differing(before: str, now: str) -> str:
    """What is not the same in two CSVs of runs."""
    old, new = as_table(before), as_table(now)
    if old.keys() != new.keys():
        gone, come = len(old.keys() - new.keys()), len(new.keys() - old.keys())
        return f"other runs than committed ({come} new, {gone} no longer there)"
    largest: dict[str, float] = {}
    for key, line in new.items():
        for name in line.keys() | old[key].keys():
            if line.get(name) != old[key].get(name):
                gap = _gap(line.get(name), old[key].get(name))
                largest[name] = max(largest.get(name, 0.0), gap)
    if not largest:
        return "the same values in another form than committed"
    told = ", ".join(f"{name} by up to {gap:.3g}" for name, gap in sorted(largest.items())[:6])
    return f"{len(largest)} columns differ from the committed ones: {told}"


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Which packages, or what else of the environment, are not those of the committed runs."""
    old, new = before["packages"], now["packages"]
    told = [f"{p} {old.get(p)} -> {new[p]}" for p in new if new[p] != old.get(p)]
    told += [
        f"{key} {before.get(key)} -> {now[key]}"
        for key in ("python", "machine", "cpu_capability", "accelerator", "code")
        if now[key] != before.get(key)
    ]
    return ", ".join(told) or "no package, machine or code differs"


def check(study: KeptStudy, share: float, seed: int) -> tuple[int, list[str]]:
    """Train a random share of the committed runs again, in a place that is thrown away.

    Returns:
        How many were trained, and what differs: nothing if they are the same to the last bit.
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
    """The jobs of a study, to be recorded under ``home`` without MLflow."""
    lines = [f"experiments={study.name}", "tracking=none", _NO_PICTURES, *more]
    with loader(study.search_path) as found:
        composer = Composer(found)
        base = composer.sweep(lines)
        grid = base.hydra.sweeper.get("params") or {}
        return Planner(composer, home, study.name).jobs(
            expand(composer.parser, grid, lines, settings(base))
        )


def as_table(text: str) -> Table:
    """The lines by their parameters, the facts and metrics of each."""
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
    """Keep the noise of the test rows, where the rows are fixed; it needs the predictions."""
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
    """What all share; where they do not, all of it."""
    different = [value for place, value in enumerate(values) if value not in values[:place]]
    return different[0] if len(different) == 1 else different

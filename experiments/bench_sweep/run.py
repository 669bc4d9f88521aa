"""What does a sweep cost besides its jobs, and how fast does it find out what is done?

Run:     .venv/bin/python experiments/bench_sweep/run.py [--jobs 60] [--runs 1000]
Expect:  60 jobs of about a second at sweep.n_jobs=2 take at most 1.15 times half the sum of their
         times (record included); with 1 000 runs the finished jobs are found within 1 s.

Writes result.csv beside this file.
"""

import argparse
import csv
import os
import shutil
import statistics
import subprocess
import sys
import time
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory

from rarelab.config.compose import compose_train
from rarelab.config.compose_many import Composer, loader
from rarelab.sweep.done import standings
from rarelab.sweep.overrides import expand
from rarelab.sweep.plan import Planner
from rarelab.sweep.settings import settings
from rarelab.tracking.entry import load_entry, save_entry
from rarelab.tracking.replay import sync
from rarelab.tracking.store import sqlite_uri

JOB = ["dataset.n_samples=20000", "trainer.max_epochs=6", "schedule.warmup_epochs=2"]


def sweep(home: Path, jobs: int) -> float:
    """Run the sweep as a user would; its wall time in those of an ideal sweep of its jobs."""
    command = [sys.executable, "-m", "rarelab", "train", "-m", f"seed=range({jobs})", *JOB]
    start = time.perf_counter()
    subprocess.run(
        [*command, "sweep.n_jobs=2"],
        env={**os.environ, "RARELAB_HOME": str(home)},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    wall = time.perf_counter() - start
    (table,) = home.glob("runs/rarelab/sweep-*/jobs.csv")
    with table.open(newline="", encoding="utf-8") as file:
        seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
    ideal = sum(seconds) / 2
    print(
        f"{jobs} jobs at n_jobs=2: {wall:.1f} s wall time, {wall / ideal:.2f} times the ideal; "
        f"one job {statistics.median(seconds):.2f} s (median, record included)"
    )
    return wall / ideal


def lookup(home: Path, runs: int) -> float:
    """Copy a run until there are ``runs`` on disk and in MLflow; seconds to find what is done."""
    folder = home / "runs" / "rarelab"
    model = next(path for path in folder.iterdir() if not path.name.startswith("sweep-"))
    for number in range(runs - len(list(folder.iterdir()))):
        copy = folder / f"copy-{number}"
        shutil.copytree(model, copy, ignore=shutil.ignore_patterns("figures", "model", "*.parquet"))
        entry = load_entry(copy)
        assert entry is not None
        entry.uid, entry.run_id, entry.level = uuid.uuid4().hex, None, {}
        save_entry(copy, entry)
    sync(home)
    with loader() as found:
        composer = Composer(found)
        chosen = settings(compose_train([])[0])
        seeds = ",".join(
            map(str, [*range(30), *range(5000, 5030)])
        )  # the latter are looked up in MLflow
        lines = expand(composer.parser, {}, [f"seed={seeds}", *JOB], chosen)
        jobs = Planner(composer, str(home), "rarelab").jobs(lines)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        stand = standings(jobs, home, "rarelab", sqlite_uri(home / "mlflow.db"))
        times.append(time.perf_counter() - start)
    done = sum(standing.found is not None for standing in stand)
    recorded = len(list(folder.iterdir()))
    assert done == 30
    print(
        f"{recorded} recorded runs: finding which of {len(jobs)} jobs are done ({done}) took "
        f"{times[0]:.2f} s (then {statistics.median(times[1:]):.2f} s)"
    )
    return times[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=60)
    parser.add_argument("--runs", type=int, default=1000)
    chosen = parser.parse_args()
    with TemporaryDirectory() as folder:
        found = {
            "times_ideal": sweep(Path(folder), chosen.jobs),
            "lookup_seconds": lookup(Path(folder), chosen.runs),
        }
    with Path(__file__).with_name("result.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("figure", "value"))
        table.writerows((name, f"{value:.3f}") for name, value in found.items())


if __name__ == "__main__":
    main()

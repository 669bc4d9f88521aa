"""What do checkpoints cost, and how soon after SIGTERM does a run exit?

Run:     python experiments/bench_checkpoint/run.py --save
         (`rarelab data fetch creditcard` first)
Expect:  `trainer.checkpoint_every=auto` takes at most 3 % of training time; a run that gets SIGTERM
         exits within 2 s, with exit code 143, a checkpoint, and status KILLED in MLflow.

Cost: creditcard is trained with and without checkpoints in turn, in one process; reported are the
wall time of `Trainer.fit` and the share of it spent writing (medians without the first turn).
SIGTERM: `rarelab train` gets the signal at a random moment of training; reported is the time until
the process has exited. With --save the numbers go to cost.csv and sigterm.csv beside this file.
"""

import argparse
import csv
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import rarelab
from rarelab.tracking import client, read_status
from rarelab.tracking.store import sqlite_uri
from rarelab.training import Trainer
from rarelab.training.keeper import LAST, Checkpoints, load

HERE = Path(__file__).parent
CREDITCARD = ["dataset=creditcard", "trainer.batch_size=2048"]
CADENCES = {"auto": "auto", "every epoch": "1 epoch", "none": "1000 epochs"}


class Clock:
    """Seconds that calls of a method take, one entry per call."""

    def __init__(self) -> None:
        self.times: list[float] = []

    @contextmanager
    def on(self, owner: type, name: str) -> Iterator[None]:
        method = getattr(owner, name)

        def timed(*arguments: Any) -> Any:
            start = time.perf_counter()
            try:
                return method(*arguments)
            finally:
                self.times.append(time.perf_counter() - start)

        with patch.object(owner, name, timed):
            yield


def train(cadence: str, seed: int, home: str) -> tuple[float, float, int]:
    """Seconds of training, seconds spent on checkpoints, and the number of checkpoints."""
    fit, write = Clock(), Clock()
    with fit.on(Trainer, "fit"), write.on(Checkpoints, "_write"):
        where = [f"paths.home={home}", "tracking=none", f"seed={seed}"]
        rarelab.train([*CREDITCARD, f"trainer.checkpoint_every={cadence}", *where])
    return sum(fit.times), sum(write.times), len(write.times)


def costs(repeats: int) -> list[dict[str, Any]]:
    """One row per cadence."""
    seen: dict[str, list[tuple[float, float, int]]] = {name: [] for name in CADENCES}
    with TemporaryDirectory() as home:
        for turn in range(repeats + 1):
            for name, cadence in CADENCES.items():
                seen[name].append(train(cadence, turn, home))
    rows = []
    for name, runs in seen.items():
        seconds, _, written = (statistics.median(column) for column in zip(*runs[1:], strict=True))
        share = statistics.median(writing / fitting for fitting, writing, _ in runs[1:])
        row = {"checkpoints": name, "seconds": f"{seconds:.2f}", "share": f"{100 * share:.1f}"}
        rows.append(row | {"written": int(written), "runs": repeats})
    return rows


def terminate(overrides: list[str], delay: float, home: Path) -> float:
    """Seconds from the signal until the process exits.

    Raises:
        AssertionError: the run is not recorded correctly.
    """
    command = [sys.executable, "-m", "rarelab", "train", *overrides, "trainer.max_epochs=100000"]
    environment = {**os.environ, "RARELAB_HOME": str(home)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stdout is not None
        next(line for line in run.stdout if line.startswith("epoch"))
        time.sleep(delay)
        sent = time.perf_counter()
        run.send_signal(signal.SIGTERM)
        run.communicate()
        seconds = time.perf_counter() - sent
    assert run.returncode == 143, run.returncode
    (directory,) = (path.parent for path in home.glob("runs/*/*/status.json"))
    assert (read_status(directory) or {})["status"] == "interrupted"
    assert load(directory / LAST)["position"]["epoch"] >= 0
    tracker = client(sqlite_uri(home / "mlflow.db"), home)
    experiment = tracker.get_experiment_by_name("rarelab")
    assert experiment is not None
    (recorded,) = tracker.search_runs([experiment.experiment_id])
    assert recorded.info.status == "KILLED"
    return seconds


def endings(count: int) -> list[dict[str, Any]]:
    """One row per data set."""
    draw, rows = random.Random(0), []
    for name, overrides in (("toy", []), ("creditcard", CREDITCARD)):
        times = []
        for number in range(count):
            with TemporaryDirectory() as home:
                times.append(terminate(overrides, draw.uniform(0, 2), Path(home)))
            print(f"{name} {number}: {times[-1]:.2f} s", flush=True)
        seconds = {"median": statistics.median(times), "max": max(times)}
        rows.append({"dataset": name, "runs": count, **{k: f"{v:.2f}" for k, v in seconds.items()}})
    return rows


def save(name: str, rows: list[dict[str, Any]]) -> None:
    with (HERE / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, help="training runs per cadence")
    parser.add_argument("--signals", type=int, default=10, help="runs per data set")
    parser.add_argument("--save", action="store_true", help="to cost.csv and sigterm.csv")
    chosen = parser.parse_args()
    found = {"sigterm.csv": endings(chosen.signals), "cost.csv": costs(chosen.repeats)}
    for name, rows in found.items():
        print(f"\n{name}", *rows, sep="\n")
        if chosen.save:
            save(name, rows)


if __name__ == "__main__":
    main()

"""Does a killed and resumed run end exactly like an uninterrupted one?

Run:  python experiments/bench_resume/run.py --dataset toy --kills 20 --save
      python experiments/bench_resume/run.py --dataset creditcard --kills 20 --save

One run is not interrupted. Then each kill is a process that dies by SIGKILL at a different moment:
in a step of the warmup, the blend and the main phase, while writing a checkpoint, between its two
renames, while writing a line of the history, while logging or uploading, and at random times. The
same command is then run again. Both records must be bit-identical in every row of the history
(except times) and every test metric; MLflow must hold one finished run, with each (key, step) once
and the same values. Prints one line per kill, with --save also to result.csv beside this file; the
exit code is 1 if any differs.
"""

import argparse
import csv
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rarelab
from rarelab.tracking import client, close_dead_runs, read_status
from rarelab.tracking.store import sqlite_uri
from rarelab.training.history import read_rows

HERE = Path(__file__).parent
SETTINGS = {
    "toy": ["trainer.max_epochs=8", "schedule.warmup_epochs=2", "schedule.blend_epochs=2"],
    "creditcard": [
        *("dataset=creditcard", "trainer.batch_size=2048", "trainer.max_epochs=4"),
        *("schedule.warmup_epochs=1", "schedule.blend_epochs=1"),
    ],
}
STEPS = {"toy": (47, 8), "creditcard": (84, 4)}
"""Steps per epoch, and epochs."""


@dataclass(frozen=True)
class Kill:
    """When to kill the process, and how often it writes checkpoints."""

    moment: str
    every: str


def kills(count: int, dataset: str, seed: int) -> list[Kill]:
    """The kills: one of each kind in turn, at random counts."""
    draw = random.Random(seed)
    steps, epochs = STEPS[dataset]
    whole = steps * epochs

    def kill(kind: int) -> Kill:
        often = draw.choice(["7 steps", "40 steps", "1 epoch"])
        writes = {"7 steps": whole // 7, "40 steps": whole // 40, "1 epoch": epochs}[often]
        phase = kind * whole // 10
        return [
            Kill(f"step:{draw.randint(1, steps)}", often),  # warmup
            Kill(f"checkpoint:{draw.randint(1, writes)}", often),
            Kill(f"step:{draw.randint(whole // 4, whole // 2)}", often),  # blend
            Kill(f"logging:{draw.randint(1, 3)}", often),
            Kill(f"step:{draw.randint(whole // 2, whole)}", often),  # main
            Kill(f"history:{draw.randint(1, epochs + 2)}", often),
            Kill(f"rename:{draw.randint(2, 2 * writes - 1)}", often),
            Kill(f"after:{draw.randint(1, 2000) + phase}", "auto"),
            Kill("ending:1", often),
            Kill(f"after:{draw.randint(1, 1000)}", "auto"),
        ][kind % 10]

    return [kill(kind) for kind in range(count)]


def content(home: Path, experiment: str) -> dict[str, Any]:
    """What must be equal: the history of the only run, without times, and its MLflow record."""
    (directory,) = [path for path in (home / "runs" / experiment).iterdir() if path.is_dir()]
    rows = [(row["step"], row["metrics"]) for row in read_rows(directory / "history.jsonl")]
    tracker = client(sqlite_uri(home / "mlflow.db"), home)
    found = tracker.get_experiment_by_name(experiment)
    assert found is not None
    (run,) = tracker.search_runs([found.experiment_id])
    points = {
        key: [(m.step, repr(m.value)) for m in tracker.get_metric_history(run.info.run_id, key)]
        for key in run.data.metrics
    }
    for key, values in points.items():
        twice = [step for step, n in Counter(step for step, _ in values).items() if n > 1]
        assert not twice, f"{key} has steps twice: {twice}"
    settings = {k: v for k, v in run.data.params.items() if k != "trainer.checkpoint_every"}
    return {
        "rows": json.dumps(rows),
        "status": (run.info.status, run.data.tags["rarelab.status"]),
        "points": {key: sorted(values) for key, values in points.items()},
        "params": settings,
    }


def again(home: Path, overrides: list[str]) -> str:
    """Run the same command again, or close a run that had ended; returns what was done."""
    experiment = overrides[-1].partition("=")[2]
    directories = [path for path in (home / "runs" / experiment).iterdir() if path.is_dir()]
    if directories and read_status(directories[0]):
        close_dead_runs(home)
        return "closed"
    rarelab.train(overrides)
    return "resumed"


def save(dataset: str, lines: list[list[str]]) -> None:
    """Replace the lines of the data set in result.csv."""
    path, head = HERE / "result.csv", ["dataset", "moment", "checkpoint_every", "then", "equal"]
    old = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            old = [line for line in csv.reader(file) if line[0] not in (dataset, head[0])]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([head, *old, *([dataset, *line] for line in lines)])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset", choices=SETTINGS, default="toy")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="skip the kills before this one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", action="store_true", help="to result.csv")
    chosen = parser.parse_args()
    logging.getLogger("rarelab").addHandler(logging.NullHandler())
    settings = SETTINGS[chosen.dataset]
    planned, lines = kills(chosen.kills, chosen.dataset, chosen.seed)[chosen.first :], []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ["RARELAB_HOME"] = folder
        rarelab.train([*settings, "tracking.experiment=whole"])
        expected = content(home, "whole")
        for number, kill in enumerate(planned, chosen.first):
            every = f"trainer.checkpoint_every={kill.every}"
            overrides = [*settings, every, f"tracking.experiment=kill{number}"]
            victim = [sys.executable, str(HERE / "victim.py"), kill.moment, *overrides]
            done = subprocess.run(victim, capture_output=True, text=True, check=False)
            what = "not killed" if done.returncode == 0 else again(home, overrides)
            same = content(home, f"kill{number}") == expected and done.returncode in (0, -9)
            lines.append([kill.moment, kill.every, what, "yes" if same else "no"])
            print(
                f"{number:3d} {kill.moment:14s} checkpoint every {kill.every:8s} {what:10s} "
                f"{'equal' if same else 'DIFFERENT ' + done.stderr[-300:]}",
                flush=True,
            )
    if chosen.save:
        save(chosen.dataset, lines)
    equal = sum(line[-1] == "yes" for line in lines)
    print(f"{chosen.dataset}: {equal} of {len(planned)} killed runs equal the uninterrupted one")
    return 0 if equal == len(planned) else 1


if __name__ == "__main__":
    sys.exit(main())

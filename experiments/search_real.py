"""The searches behind the studies of real data: every arm gets the same number of trials.

    make searches STUDY=creditcard_losses

For each arm it runs a search as a user would (`rarelab train -m hydra/sweeper=optuna
experiments=NAME ...`, docs/search.md), with a seed not used in the study. It writes
experiments/NAME/trials.csv, reports whether the trials match the previous ones, and puts the best
trial of each arm on validation, rounded to three digits, into `sweep.arms` of
experiments/NAME.yaml. Test rows are not used.
"""

import argparse
import csv
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

HERE = Path(__file__).parent
SEED = 100
TRIALS = 8
RANDOM = 4
SETTINGS = (
    f"seed={SEED}",
    "sweep.arms=null",
    "tracking=none",
    "tracking.figures=false",
    "calibration=none",
    f"hydra.sweeper.n_trials={TRIALS}",
    f"hydra.sweeper.startup_trials={RANDOM}",
    "hydra.sweeper.trials_at_once=2",
)
NETWORK = ("optimizer.lr=tag(log,interval(0.0005,0.02))", "model.dropout=interval(0,0.3)")
RANKING = ("schedule.final_main_weight=0.5,1.0",)
"""After the warmup only the ranking loss, or half of it and half of BCE."""

SPACES: Mapping[str, tuple[str, ...]] = {
    "bce": NETWORK,
    "weighted_bce": (*NETWORK, "loss.pos_weight=tag(log,interval(1.5,100))"),
    "sigmoid_focal": (*NETWORK, "loss.gamma=interval(0.5,4)"),
    "hard_negative_bce": (
        *NETWORK,
        "loss.hard_fraction=tag(log,interval(0.002,0.1))",
        "loss.hard_weight=tag(log,interval(2,30))",
    ),
    "smooth_ap": (*NETWORK, *RANKING, "schedule.temp_end=tag(log,interval(0.02,0.5))"),
    "recall_at_quantile": (*NETWORK, *RANKING, "schedule.temp_end=tag(log,interval(0.1,1))"),
    "pauc_at_budget": (*NETWORK, *RANKING, "loss.beta=tag(log,interval(0.002,0.2))"),
    "hist_gradient_boosting": (
        "model.learning_rate=tag(log,interval(0.02,0.2))",
        "model.max_leaf_nodes=tag(log,range(4,64))",
        "model.l2_regularization=tag(log,interval(0.1,100))",
    ),
}
"""The search space of each arm, in Hydra's sweep syntax."""

POOLED = {
    "smooth_ap": ["loss.queue_size={queue}"],
    "recall_at_quantile": ["loss.queue_size={queue}", "schedule.temp_start=1.0"],
    "pauc_at_budget": ["loss.surrogate=pairwise", "loss.queue_size={queue}"],
}
"""Fixed settings of the losses that rank a pool."""

FEWER_TREES = ("kdd_census_losses", "kdd_census_once_losses")
"""Studies with hundreds of columns, where fitting 500 trees takes minutes."""


def fixed(arm: str, study: str) -> list[str]:
    """The overrides of an arm that are not searched; the queue holds four batches."""
    if arm == "hist_gradient_boosting":
        trees = ["model.max_iter=200"] if study in FEWER_TREES else []
        return ["model=hist_gradient_boosting", *trees]
    own = [line.format(queue=queue_of(study)) for line in POOLED.get(arm, [])]
    return [f"loss={arm}", *own]


def search(study: str, arm: str, *, home: Path) -> list[dict[str, str]]:
    """Search one arm, one job at a time; returns its trials as rows of trials.csv."""
    experiment = f"{study}_search_{arm}"
    subprocess.run(
        [
            *(sys.executable, "-m", "rarelab", "train", "-m", "hydra/sweeper=optuna"),
            *(f"experiments={study}", f"tracking.experiment={experiment}", *SETTINGS),
            *(f"paths.home={home}", *fixed(arm, study), *SPACES[arm]),
        ],
        check=True,
    )
    found = (home / "runs" / experiment).glob("sweep-*/trials.csv")
    newest = max(found, key=lambda path: path.stat().st_mtime)
    with newest.open(encoding="utf-8") as file:
        return [_row(arm, trial) for trial in csv.DictReader(file)]


def _row(arm: str, trial: Mapping[str, str]) -> dict[str, str]:
    known = {key: trial[key] for key in ("trial", "status", "value")}
    values = [f"{key}={value}" for key, value in trial.items() if key not in known]
    return {"arm": arm, **known, "values": " ".join(values)}


def best(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The searched overrides of the best completed trial, the first one on a tie."""
    done = [row for row in rows if row["status"] == "done"]
    return [
        rounded(line) for line in max(done, key=lambda row: float(row["value"]))["values"].split()
    ]


def rounded(line: str) -> str:
    """``key=value`` with the value rounded to three significant digits."""
    key, _, value = line.partition("=")
    return f"{key}={float(value):.3g}"


def chosen(rows: Sequence[Mapping[str, str]], study: str) -> list[str]:
    """The arms of a study as lines of YAML."""
    arms = dict.fromkeys(row["arm"] for row in rows)
    lines = []
    for arm in arms:
        overrides = [*fixed(arm, study), *best([row for row in rows if row["arm"] == arm])]
        lines.append(f"    - [{', '.join(overrides)}]")
    return lines


def queue_of(study: str) -> int:
    """Four batches."""
    import yaml

    return 4 * yaml.safe_load((HERE / f"{study}.yaml").read_text())["trainer"]["batch_size"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Search every arm of a study of real data on validation."
    )
    every = sorted(path.stem for path in HERE.glob("*_losses.yaml"))
    parser.add_argument("study", nargs="*", default=every, help="default: all")
    parser.add_argument("--jobs", type=int, default=2, help="searches at once")
    parser.add_argument("--home", type=Path, default=os.environ.get("RARELAB_HOME", "outputs"))
    asked = parser.parse_args()
    for study in asked.study:
        began = time.monotonic()
        one = partial(search, study, home=asked.home.resolve())
        # Several searches at once, since each one is idle at times.
        with ThreadPoolExecutor(asked.jobs) as pool:
            rows = [row for trials in pool.map(one, SPACES) for row in trials]
        told, minutes = write(study, rows), (time.monotonic() - began) / 60
        print(f"== {study}: {len(rows)} trials, {told}; {minutes:.1f} min now")


def write(study: str, rows: Sequence[Mapping[str, str]]) -> str:
    """Write the trials beside the study, and its arms after ``arms:`` at the end of its YAML.

    Returns:
        How the trials compare with the previous ones.
    """
    trials = HERE / study / "trials.csv"
    before = trials.read_text(encoding="utf-8") if trials.is_file() else None
    trials.parent.mkdir(exist_ok=True)
    with trials.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    path = HERE / f"{study}.yaml"
    head, _, _ = path.read_text(encoding="utf-8").partition("  arms:")
    path.write_text("\n".join([f"{head}  arms:", *chosen(rows, study), ""]), encoding="utf-8")
    if before is None:
        return "new"
    same = before == trials.read_text(encoding="utf-8")
    return "bit-identical to the previous ones" if same else "different from the previous ones"


if __name__ == "__main__":
    main()

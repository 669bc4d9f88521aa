"""The searches behind the studies of real data: every arm gets as many trials on validation.

    make searches STUDY=creditcard_losses

For each arm it runs a search as a user would (`rarelab train -m hydra/sweeper=optuna
experiments=NAME ...`, docs/search.md), with a seed that is none of the study's. It writes
experiments/NAME/trials.csv, says whether these are the trials that were there, and puts the best
one of each arm, rounded to three digits, into `sweep.arms` of experiments/NAME.yaml. Test rows are
not looked at.
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
"""A ranking loss alone after the warmup, or half of it beside half of BCE."""

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
"""What each arm may choose from, in Hydra's sweep syntax."""

POOLED = {
    "smooth_ap": ["loss.queue_size={queue}"],
    "recall_at_quantile": ["loss.queue_size={queue}", "schedule.temp_start=1.0"],
    "pauc_at_budget": ["loss.surrogate=pairwise", "loss.queue_size={queue}"],
}
"""What is set for the losses that rank a pool."""


FEWER_TREES = ("kdd_census_losses", "kdd_census_once_losses")
"""Where a fit of 500 trees takes minutes: hundreds of columns."""


def fixed(arm: str, study: str) -> list[str]:
    """The overrides of an arm that are not searched; a pool of four batches beside the batch."""
    if arm == "hist_gradient_boosting":
        trees = ["model.max_iter=200"] if study in FEWER_TREES else []
        return ["model=hist_gradient_boosting", *trees]
    own = [line.format(queue=queue_of(study)) for line in POOLED.get(arm, [])]
    return [f"loss={arm}", *own]


def search(study: str, arm: str, *, home: Path) -> list[dict[str, str]]:
    """Search one arm, a job at a time; its trials as rows of trials.csv."""
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
    """The searched overrides of the completed trial with the highest value, the first of equals."""
    done = [row for row in rows if row["status"] == "done"]
    return [
        rounded(line) for line in max(done, key=lambda row: float(row["value"]))["values"].split()
    ]


def rounded(line: str) -> str:
    """``key=value`` with a number's value to three significant digits."""
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
    parser.add_argument("study", nargs="*", default=every, help="all, if none is named")
    parser.add_argument("--jobs", type=int, default=2, help="searches at once")
    parser.add_argument("--home", type=Path, default=os.environ.get("RARELAB_HOME", "outputs"))
    asked = parser.parse_args()
    for study in asked.study:
        began = time.monotonic()
        one = partial(search, study, home=asked.home.resolve())
        # Several searches at once, since each of them waits for itself now and then.
        with ThreadPoolExecutor(asked.jobs) as pool:
            rows = [row for trials in pool.map(one, SPACES) for row in trials]
        told, minutes = write(study, rows), (time.monotonic() - began) / 60
        print(f"== {study}: {len(rows)} trials, {told}; {minutes:.1f} min now")


def write(study: str, rows: Sequence[Mapping[str, str]]) -> str:
    """The trials beside the study, and its arms: what follows ``arms:`` at its end.

    Returns:
        How the trials compare with those that were there.
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
    return "bit-identical with those before" if same else "not those before"


if __name__ == "__main__":
    main()

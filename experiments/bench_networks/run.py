"""How near does a network come to boosting, and at what cost? TabM with embeddings on six sets.

Run:  python experiments/bench_networks/run.py      (`rarelab data fetch` the sets first)
      python experiments/bench_networks/run.py letter --seeds 1
      python experiments/bench_networks/run.py --table

Trains model=tabm with BCE and its authors' optimiser, and LightGBM with its own log-loss at its
defaults, on the splits of the studies beside this folder, on one thread. Every run adds its line to
result.csv: test AUCPR, the epochs trained (LightGBM: trees) and which one was chosen on validation,
and the CPU time of the training alone, validation included: the wall time of an idle core. What
the file already has is not run again. --table prints the table of docs/networks.md, in which the
64-64 network is that of the studies, searched, the mean of ten seeds.
"""

import argparse
import csv
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import rarelab
from rarelab.runs import run as runs
from rarelab.training import Trainer

HERE = Path(__file__).parent
RESULT = HERE / "result.csv"
COLUMNS = ("set", "model", "seed", "test_aucpr", "val_aucpr", "epochs", "best_epoch", "cpu_seconds")

# Set -> rows per batch: 256 to 1,024, by the number of training rows.
SETS = {
    "letter": 256,
    "bank_marketing": 512,
    "give_me_some_credit": 1024,
    "protein_homo": 1024,
    "creditcard": 1024,
    "kdd_census": 1024,
}
TABM = [
    *("model=tabm", "loss=bce", "optimizer=adamw", "optimizer.lr=0.002"),
    *("optimizer.weight_decay=0.0003", "trainer.gradient_clip_norm=1.0"),
    *("trainer.max_epochs=40", "trainer.patience=8"),
]
LIGHTGBM = ["model=lightgbm_logloss"]
MODELS = {"tabm": TABM, "lightgbm_logloss": LIGHTGBM}

Row = dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sets", nargs="*", default=[*SETS])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--table", action="store_true")
    chosen = parser.parse_args()
    if chosen.table:
        print(table(results()))
        return
    done = {(row["set"], row["model"], row["seed"]) for row in results()}
    for name in chosen.sets:
        for model in MODELS:
            for seed in range(chosen.seeds):
                if (name, model, str(seed)) not in done:
                    _keep(measured(name, model, seed))


def results() -> list[Row]:
    if not RESULT.exists():
        return []
    with RESULT.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def measured(name: str, model: str, seed: int) -> Row:
    """Train once; what result.csv holds of it."""
    batch = [f"trainer.batch_size={SETS[name]}"] if model == "tabm" else []
    with TemporaryDirectory() as home, _timed() as spent:
        where = [f"paths.home={home}", "tracking=none", "tracking.figures=false"]
        asked = [f"dataset={name}", f"seed={seed}", "trainer.threads=1"]
        done = rarelab.train([*asked, *MODELS[model], *batch, *where])
        epochs = len((done.directory / "history.jsonl").read_text("utf-8").splitlines())
    made = (name, model, seed, f"{done.metrics['test/aucpr']:.4f}")
    made += (f"{done.metrics['best/val_aucpr']:.4f}", epochs, int(done.metrics["best/epoch"]) + 1)
    made += (f"{sum(spent):.1f}",)
    return {column: str(value) for column, value in zip(COLUMNS, made, strict=True)}


@contextmanager
def _timed() -> Iterator[list[float]]:
    """The CPU seconds of what trains a network and of what trains a booster, as they are spent."""
    spent: list[float] = []

    def timed(fit: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*arguments: Any, **options: Any) -> Any:
            start = time.process_time()
            try:
                return fit(*arguments, **options)
            finally:
                spent.append(time.process_time() - start)

        return measured

    with (
        patch.object(Trainer, "fit", timed(Trainer.fit)),
        patch.object(runs, "fit_rounds", timed(runs.fit_rounds)),
    ):
        yield spent


def _keep(row: Row) -> None:
    new = not RESULT.exists()
    with RESULT.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*COLUMNS], lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)
    print(*row.values(), flush=True)


def table(rows: list[Row]) -> str:
    """The table of docs/networks.md: a line per set, the mean of its seeds [lowest, highest]."""
    lines = ["| set | 64-64 network | TabM | LightGBM | training TabM | training LightGBM |"]
    lines += ["|---|---|---|---|---|---|"]
    for name in SETS:
        cells = [name, f"{network(name):.3f}"]
        seconds = []
        for model in MODELS:
            found = [row for row in rows if (row["set"], row["model"]) == (name, model)]
            scores = [float(row["test_aucpr"]) for row in found]
            if not found:
                break
            ends = f" [{min(scores):.3f}, {max(scores):.3f}]" if len(found) > 1 else ""
            cells.append(f"{mean(scores):.3f}{ends}")
            spent = mean(float(row["cpu_seconds"]) for row in found)
            seconds.append(f"{spent:.1f} s" if spent < 10 else f"{spent:,.0f} s")
        else:
            lines.append(f"| {' | '.join([*cells, *seconds])} |")
    return "\n".join(lines)


def network(name: str) -> float:
    """The mean test AUCPR of the searched 64-64 network with BCE, over the ten seeds of a study."""
    study = HERE.parent / f"{name}_losses" / "verdict.csv"
    with study.open(newline="", encoding="utf-8") as file:
        arms = [row for row in csv.DictReader(file) if row["metric"] == "test/aucpr"]
    (found,) = [row for row in arms if row["arm"].startswith("model=mlp loss=bce ")]
    return float(found["mean"])


if __name__ == "__main__":
    main()

"""How hard are the real tables? Logistic regression and LightGBM on three splits of each.

Run:  python experiments/bench_sets/run.py      (`rarelab data fetch` the sets first)
      python experiments/bench_sets/run.py letter hiva
      python docs/sets.py                       (writes docs/sets.md from the result)

Every run adds its line to result.csv: test AUCPR on a split of the kind that the set has by
default, with split_seed 0, 1 and 2 and all else at its defaults. What the file already has is not
run again. Sets with more than two classes are left out.
"""

import argparse
import csv
from pathlib import Path
from tempfile import TemporaryDirectory

import rarelab
from rarelab.data import commands

HERE = Path(__file__).parent
RESULT = HERE / "result.csv"
COLUMNS = ("set", "model", "split_seed", "test_aucpr")
LOGISTIC = "model._target_=sklearn.linear_model.LogisticRegression"
MODELS = {
    "logistic_regression": [LOGISTIC, "model.C=0.1", "model.max_iter=300"],
    "lightgbm_logloss": ["model=lightgbm_logloss"],
}
SPLITS = 3

Row = dict[str, str]


def main() -> None:
    binary = [name for name, source in commands.sources().items() if source.classes == 2]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sets", nargs="*", default=binary)
    done = {(row["set"], row["model"], row["split_seed"]) for row in results()}
    for name in parser.parse_args().sets:
        for model in MODELS:
            for seed in range(SPLITS):
                if (name, model, str(seed)) not in done:
                    _keep((name, model, str(seed), f"{aucpr(name, model, seed):.4f}"))


def results() -> list[Row]:
    if not RESULT.exists():
        return []
    with RESULT.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def aucpr(name: str, model: str, seed: int) -> float:
    """Train once; the AUCPR on the test rows."""
    with TemporaryDirectory() as home:
        where = [f"paths.home={home}", "tracking=none", "tracking.figures=false"]
        asked = [f"dataset={name}", f"dataset.split_seed={seed}", "trainer.threads=1"]
        return rarelab.train([*asked, *MODELS[model], *where]).metrics["test/aucpr"]


def _keep(row: tuple[str, ...]) -> None:
    new = not RESULT.exists()
    with RESULT.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([COLUMNS, row] if new else [row])
    print(*row, flush=True)


if __name__ == "__main__":
    main()

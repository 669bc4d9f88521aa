"""Does our MLP with BCE score as well as another implementation on the same rows?

Run:  python experiments/bench_mlp/run.py [--seeds 5] [--only letter ...]

For each real data set, on the same splits and features: `rarelab train loss=bce model=mlp` with its
defaults, and scikit-learn's MLPClassifier with the same widths, batch size, learning rate and
number of epochs, its best epoch also chosen by validation average precision. Writes result.csv, one
row per data set: mean and standard deviation over seeds of test average precision.
"""

import argparse
import csv
import statistics
import warnings
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score
from sklearn.neural_network import MLPClassifier

import rarelab
from rarelab.config import build
from rarelab.config.compose import compose_train
from rarelab.data.splits import Splits
from rarelab.runs.console import configure_console
from rarelab.streams import stream_seed

SETS = (
    "creditcard",
    "protein_homo",
    "kdd_census",
    "give_me_some_credit",
    "bank_marketing",
    "letter",
)
HERE = Path(__file__).parent
FIELDS = ("dataset", "seeds", "ours", "ours_sd", "sklearn", "sklearn_sd", "difference", "t")


def ours(dataset: str, seed: int) -> float:
    request = [f"dataset={dataset}", "model=mlp", "loss=bce", f"seed={seed}", "tracking=none"]
    return rarelab.train(request).metrics["test/aucpr"]


def theirs(splits: Splits, seed: int, epochs: int, batch: int, rate: float) -> float:
    (train, val, test) = (
        (table.x.numpy().astype(np.float64), table.y.numpy()) for _, table in splits.tables()
    )
    model = MLPClassifier(
        hidden_layer_sizes=(64, 64),
        batch_size=batch,  # pyright: ignore[reportArgumentType]  # "auto" or a number
        learning_rate_init=rate,
        random_state=seed,
    )
    best, score = -1.0, float("nan")
    for _ in range(epochs):
        model.partial_fit(*train, classes=[0, 1])
        reached = average_precision_score(val[1], np.asarray(model.predict_proba(val[0]))[:, 1])
        if reached > best:
            best = reached
            score = average_precision_score(test[1], np.asarray(model.predict_proba(test[0]))[:, 1])
    return score


def compared(dataset: str, seeds: int) -> dict[str, object]:
    cfg, _ = compose_train([f"dataset={dataset}", "model=mlp", "loss=bce"])
    splits = build.dataset(cfg).splits(stream_seed(0, "draw"))
    settings = (cfg.trainer.max_epochs, cfg.trainer.batch_size, cfg.optimizer.lr)
    mine = [ours(dataset, seed) for seed in range(seeds)]
    other = [theirs(splits, seed, *settings) for seed in range(seeds)]
    gap = statistics.mean(mine) - statistics.mean(other)
    noise = ((statistics.variance(mine) + statistics.variance(other)) / seeds) ** 0.5
    return {
        "dataset": dataset,
        "seeds": seeds,
        "ours": f"{statistics.mean(mine):.4f}",
        "ours_sd": f"{statistics.stdev(mine):.4f}",
        "sklearn": f"{statistics.mean(other):.4f}",
        "sklearn_sd": f"{statistics.stdev(other):.4f}",
        "difference": f"{gap:+.4f}",
        "t": f"{gap / noise:+.2f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=SETS, choices=SETS)
    chosen = parser.parse_args()
    configure_console()
    warnings.simplefilter("ignore")
    rows = []
    for dataset in chosen.only:
        rows.append(compared(dataset, chosen.seeds))
        print(rows[-1], flush=True)
    with (HERE / "result.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()

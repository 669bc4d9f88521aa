"""Do the verdicts over splits hold where the splits really share rows?

Run:     .venv/bin/python experiments/bench_compare/splits.py [--studies 1000]
Expect:  over 10 splits of one table, better or worse is said wrongly in at most 5 % of the studies
         (plus a binomial margin), practically equal of a difference at the margin in at most 5 %,
         and of no difference in at least 80 %, where the standard error is a quarter of the margin.

A study is a table of ROWS rows, POSITIVES of them positive, drawn anew, and two learners that are
trained and scored on the same ten splits of it. Each learner sees its own features: Normal(0, 1),
of positives Normal(SHIFT / √features, 1). It estimates the direction from the mean of the negatives
to the mean of the positives on its training rows (linear discriminant with equal variances) and
scores the test rows along it; the metric is the test AUCPR. The two learners' features have the
same law, so the true difference over all tables is zero by symmetry, whatever the metric. For a
true difference at the margin, the margin is added to every difference.

Nothing in it assumes how the differences of two splits are correlated: that follows from the rows
they share. The more features there are to estimate from the same training rows, the more of the
noise comes from training rows instead of test rows. The standard error is the standard deviation
of the mean difference over the studies themselves.
"""

import argparse
import csv
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rarelab.compare.arms import group
from rarelab.compare.contrast import BETTER, EQUAL, WORSE, Question, compare
from rarelab.data.tables.divide import by_fold, by_time, stratified
from rarelab.records.load import Run

METRIC = "test/aucpr"
TABLE = Path(__file__).with_name("splits.csv")
ROWS, POSITIVES, SHIFT, SPLITS = 2000, 100, 2.0, 10
FEATURES = (2, 10, 40)
LABELS = np.arange(ROWS) % (ROWS // POSITIVES) == 0
"""Evenly spread, so every window of rolling origins has its share of the positives."""

_AT_ONCE = 20

KINDS: dict[str, Callable[[int], tuple]] = {
    "60/15/25": lambda n: stratified(LABELS, seed=n),
    "80/10/10": lambda n: stratified(LABELS, seed=n, val_share=0.1, test_share=0.1),
    "5 folds, twice": lambda n: by_fold(LABELS, folds=5, number=n),
    "10 origins": lambda n: by_time(np.arange(ROWS), test_share=0.5, origins=SPLITS, number=n),
}


def differences(split: Callable[[int], tuple], features: int, studies: int) -> tuple[NDArray, str]:
    """Differences of the test AUCPR [studies, splits], and the sizes of the first split."""
    parts = [split(number) for number in range(SPLITS)]
    rng = np.random.default_rng(features)
    found = [
        _of_tables(rng, parts, features, min(_AT_ONCE, studies - start))
        for start in range(0, studies, _AT_ONCE)
    ]
    return np.concatenate(found), "/".join(str(len(part)) for part in parts[0])


def _of_tables(rng: np.random.Generator, parts: list, features: int, tables: int) -> NDArray:
    """Differences [tables, splits] on as many tables."""
    x = rng.normal(size=(tables, 2, ROWS, features)).astype(np.float32)
    x += (SHIFT / np.sqrt(features) * LABELS[:, None]).astype(np.float32)
    found = []
    for train, _, test in parts:
        pick = np.zeros((2, ROWS), dtype=np.float32)
        for kind in (0, 1):
            rows = train[LABELS[train] == kind]
            pick[kind, rows] = 1 / len(rows)
        low, high = np.moveaxis(pick @ x, -2, 0)  # means of the negatives and positives
        scores = np.einsum("tarf,taf->tar", x[:, :, test], high - low)
        own, other = np.moveaxis(average_precision(scores, LABELS[test]), -1, 0)
        found.append(own - other)
    return np.stack(found, -1)


def average_precision(scores: NDArray, labels: NDArray) -> NDArray:
    """Average precision over the last dimension of scores without ties."""
    hits = labels[np.argsort(-scores, axis=-1)]
    precision = np.cumsum(hits, -1) / np.arange(1, scores.shape[-1] + 1)
    return (precision * hits).sum(-1) / labels.sum()


def one_arm(found: NDArray, sizes: str, margin: float) -> str:
    """The verdict on an arm with these differences, one per split."""
    runs = [
        Run(
            run_id=f"{loss}{split}",
            name=loss,
            experiment="known truth",
            params={
                "loss": loss, "dataset": "real", "dataset.split_seed": str(split), "seed": "0",
            },
            tags={"rarelab.data_digest": f"split {split}", "rarelab.rows": sizes},
            metrics={METRIC: 0.5 + float(value) * (loss != "bce")},
            status="done",
            started=0,
        )
        for loss in ("bce", "smooth_ap")
        for split, value in enumerate(found)
    ]  # fmt: skip
    (data,) = group(runs, METRIC)
    finding = compare(data, Question(METRIC, "loss=bce", margin=margin), lambda *asked: {})
    assert finding is not None
    return finding.contrasts[0].verdict


def said(found: NDArray, sizes: str, margin: float, *verdicts: str) -> float:
    """The share of the studies with one of these verdicts."""
    return float(np.mean([one_arm(d, sizes, margin) in verdicts for d in found]))


def correlation(found: NDArray) -> float:
    """The mean correlation of two splits' differences."""
    over = np.corrcoef(found.T)
    return float((over.sum() - len(over)) / (len(over) * (len(over) - 1)))


def claims(sizes: str, true: float) -> float:
    """How often no difference would be called one, were two splits' differences correlated so."""
    train, _, test = map(int, sizes.split("/"))
    error = math.sqrt((1 / SPLITS + test / train) / (1 / SPLITS + true / (1 - true)))
    return float(2 * stats.t.sf(stats.t.isf(0.025, SPLITS - 1) * error, SPLITS - 1))


def over_real_splits(studies: int) -> None:
    """Print a line per kind of split and learner, and write them to ``splits.csv``."""
    limit = stats.binom.ppf(0.995, studies, 0.05) / studies
    print(f"{studies} studies each; 5 % may come out as up to {limit:.1%}")
    rows = [_row(name, features, studies) for name in KINDS for features in FEATURES]
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    for sizes, shared in (("60/15/25", 0.60), ("80/10/10", 0.80)):
        print(
            f"{sizes}, were all of the noise that of training rows (correlation {shared:.2f}): "
            f"better or worse {claims(sizes, shared):.0%}"
        )


def _row(name: str, features: int, studies: int) -> dict[str, str]:
    found, sizes = differences(KINDS[name], features, studies)
    margin = 4 * float(found.mean(1).std())
    train, _, test = map(int, sizes.split("/"))
    row = {
        "splits": name,
        "features": str(features),
        "claims": f"{100 * said(found, sizes, 1e-9, BETTER, WORSE):.1f}",
        "equal_at_margin": f"{100 * said(found + margin, sizes, margin, EQUAL):.1f}",
        "equal": f"{100 * said(found, sizes, margin, EQUAL):.1f}",
        "correlation": f"{round(correlation(found), 2) + 0.0:.2f}",
        "assumed": f"{test / (test + train):.2f}",
    }
    print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000)
    over_real_splits(parser.parse_args().studies)


if __name__ == "__main__":
    main()

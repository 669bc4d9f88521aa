"""Do intervals over resampled test rows cover the truth where rows come in groups?

Run:     .venv/bin/python experiments/bench_compare/groups.py [--studies 500]
Expect:  drawing whole groups covers within a binomial margin of the stated 95 %; drawing rows one
         by one, as if they were independent, covers far less. About 90 s on one core.

Two models score the same test rows: groups of rows with one label each (a customer is fraudulent or
not), scores Normal(0, 1) and, of positives, Normal(shift, 1), with a correlation of .5 between the
scores that a model gives to rows of one group. Each row alone follows the same law as in run.py, so
the true AUCPR is that of endless rows. The interval is that of one pair of models, as `rarelab
compare runs=[A,B]` makes it; a comparison of arms adds the noise of seeds.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rarelab.compare.rows import TestRows, resample, row_noise

HERE = Path(__file__).parent
CORRELATION = 0.5
GROUPS, SIZE, RATE = 400, 5, 0.15
RESAMPLES = 400
COLUMNS = ("groups", "rows_per_group", "correlation", "shifts", "drawn", "studies", "covered")


def true_aucpr(shift: float) -> float:
    """The mean over positives' scores s of p S1(s) / (p S1(s) + (1 - p) S0(s))."""
    s = shift + stats.norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    hits, misses = RATE * stats.norm.sf(s - shift), (1 - RATE) * stats.norm.sf(s)
    return float((hits / (hits + misses)).mean())


def scores(
    shift: float, labels: NDArray, groups: NDArray, correlation: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    shared = rng.normal(size=GROUPS)[groups]
    own = rng.normal(size=len(labels))
    return shift * labels + np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own


def covered(shifts: tuple[float, float], correlation: float, studies: int) -> dict[str, float]:
    """The share of studies whose 95 % interval holds the true difference, by what is drawn."""
    truth = true_aucpr(shifts[1]) - true_aucpr(shifts[0])
    groups = np.repeat(np.arange(GROUPS), SIZE)
    positive = np.arange(GROUPS) < round(RATE * GROUPS)
    labels = positive[groups].astype(np.int64)
    rng = np.random.default_rng(20_261_129)
    held = dict.fromkeys(("whole groups", "rows one by one"), 0)
    for study in range(studies):
        models = [scores(shift, labels, groups, correlation, rng)[:, None] for shift in shifts]
        for drawn in held:
            of = groups if drawn == "whole groups" else None
            runs = [TestRows(model, labels, groups=of) for model in models]
            values = resample(runs, "test/aucpr", seed=study, most=RESAMPLES)
            noise = row_noise(values[1:] - values[:1], labels)
            held[drawn] += noise.low <= truth <= noise.high
    return {drawn: count / studies for drawn, count in held.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=500)
    chosen = parser.parse_args()
    with (HERE / "groups.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for shifts, correlation in (
            ((2.0, 2.0), CORRELATION),
            ((2.0, 2.5), CORRELATION),
            ((2.0, 2.5), 0.0),
        ):
            found = covered(shifts, correlation, chosen.studies)
            for drawn, share in found.items():
                told = f"{shifts[0]} and {shifts[1]}"
                law = (GROUPS, SIZE, correlation, told)
                table.writerow([*law, drawn, chosen.studies, f"{share:.4f}"])
                print(f"correlation {correlation}, shifts {told}, {drawn}: {share:.1%}", flush=True)


if __name__ == "__main__":
    main()

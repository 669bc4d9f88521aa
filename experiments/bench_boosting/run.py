"""What does Smooth-AP cost a booster, beside log-loss?

Run:  python experiments/bench_boosting/run.py [--only gradient kdd_census million] [--threads 2]
      (`rarelab data fetch kdd_census` first; an idle machine)

gradient: gradient and curvature of Smooth-AP and log-loss, half each, over a whole table of
generated scores, as a booster asks for them in every round, against those of log-loss alone.
kdd_census, million: the rounds of one fit, `model=lightgbm` on Smooth-AP (blended in as by the
default schedule) against `model=lightgbm_logloss`, the log-loss that LightGBM has built in: same
options, rows and threads, the arms in turn. `fit` is the loop of a run, with the validation metrics
of each round; `grow` is the part in which trees are grown, gradient included. Binning the columns,
which the first round does, is left out. Replaces these rows of result.csv.
"""

import argparse
import csv
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from rarelab import losses
from rarelab.boosting import LightGBM, LightGBMLogLoss
from rarelab.boosting.gradient import Share, Slopes
from rarelab.config import build
from rarelab.config.compose import compose_train
from rarelab.data.splits import Table
from rarelab.functional.threads import limited_threads
from rarelab.training import Trainer
from rarelab.training.history import History
from rarelab.training.keeper import Keeper
from rarelab.training.rounds import RoundWork, fit_rounds

HERE = Path(__file__).parent
FIELDS: tuple[str, ...] = (
    "what",
    "rows",
    "columns",
    "positives",
    "tau",
    "threads",
    "ms",
    "reference_ms",
    "ratio",
)
GRADIENTS = ((170_884, 295), (1 << 20, 10_486), (1 << 20, 104_858))  # the first: creditcard
TAUS = (0.5, 0.1)  # at the start and the end of the default schedule
ROUNDS = {"kdd_census": 200, "million": 60}

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", default=["gradient", *ROUNDS])
    parser.add_argument("--threads", nargs="+", type=int, default=[2])
    parser.add_argument("--repeats", type=int, default=None, help="15 gradients, 3 fits")
    parser.add_argument("--out", type=Path, default=HERE / "result.csv")
    chosen = parser.parse_args()
    for threads in chosen.threads:
        with limited_threads(threads):
            for what in chosen.only:
                rows = gradients if what == "gradient" else fits
                repeats = chosen.repeats or (15 if what == "gradient" else 3)
                found = [{**row, "threads": threads} for row in rows(what, repeats)]
                save(chosen.out, found)
                for row in found:
                    print(*(f"{name}={row[name]}" for name in FIELDS))


def gradients(what: str, repeats: int) -> Iterator[Row]:
    bce = losses.BinaryCrossEntropy()
    for count, positives in GRADIENTS:
        scores, labels = scored(count, positives)
        slopes = Slopes(labels)
        for tau in TAUS:
            main = losses.SmoothAPLoss(1, queue_size=0, temperature=tau)
            blends: tuple[list[Share], ...] = [(0.5, bce), (0.5, main)], [(1.0, bce)]
            arms = [partial(seconds, partial(slopes.at, scores, blend)) for blend in blends]
            shape = {"rows": count, "columns": "", "positives": positives, "tau": tau}
            yield {"what": what, **shape, **compared(*in_turn(repeats, *arms))}


def scored(count: int, positives: int) -> tuple[Tensor, Tensor]:
    """Scores like a booster's: log-odds, the negatives' a little spread, the positives' widely."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.zeros(count, dtype=torch.int64)
    labels[torch.randperm(count, generator=draw)[:positives]] = 1
    noise = torch.randn(count, 1, generator=draw, dtype=torch.float64)
    usual = torch.tensor(positives / count).logit()
    return usual + torch.where(labels[:, None] == 1, 4 + 3 * noise, 1.2 * noise - 1), labels


def fits(what: str, repeats: int) -> Iterator[Row]:
    train, val = (census if what == "kdd_census" else generated)()
    models = LightGBM, LightGBMLogLoss
    arms = in_turn(repeats, *(partial(fit, model, train, val, ROUNDS[what]) for model in models))
    count, columns = train.x.shape
    shape = {"rows": count, "columns": columns, "positives": int(train.y.sum()), "tau": ""}
    for number, part in enumerate(("fit", "grow")):
        ours, reference = ([turn[number] for turn in arm] for arm in arms)
        yield {"what": f"{what} {part}", **shape, **compared(ours, reference)}


def census() -> tuple[Table, Table]:
    cfg, _ = compose_train(["dataset=kdd_census"])
    splits = build.dataset(cfg).splits(0)
    return splits.train, splits.val


def generated() -> tuple[Table, Table]:
    """A million training rows of 30 columns, 1 % positive by a few of them, and 100 000 more."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(1_100_000, 30, generator=draw)
    signal = x[:, 0] + x[:, 1] * x[:, 2] + x[:, 3].sin() + torch.randn(len(x), generator=draw)
    y = (signal > signal.quantile(0.99)).long()
    return Table(x[:1_000_000], y[:1_000_000]), Table(x[1_000_000:], y[1_000_000:])


class Rounds(Keeper):
    """When each round ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def between_steps(self, course: Any) -> None:
        self.ends.append(time.perf_counter())


def fit(model: Callable[..., Any], train: Table, val: Table, rounds: int) -> tuple[float, float]:
    """Seconds per round of the whole loop, and of growing alone."""
    grown = model(train.x.shape[1], 1, num_iterations=rounds, early_stopping_round=None)
    schedule = losses.LossWarmupWrapper(
        losses.BinaryCrossEntropy(),
        losses.SmoothAPLoss(1),
        warmup_steps=rounds // 5,
        blend_steps=rounds * 2 // 15,
        temp_start=0.5,
        temp_end=0.1,
        temp_decay_steps=rounds * 4 // 5,
        final_main_weight=0.5,
    )
    growing, ended, grow = 0.0, Rounds(), grown.grow

    def timed(objective: Any) -> None:
        nonlocal growing
        growing += seconds(lambda: grow(objective)) if ended.ends else grow(objective) or 0.0

    grown.grow = timed
    work = RoundWork(grown, schedule, train, val, 1, rounds, seed=0)
    with TemporaryDirectory() as folder:
        fit_rounds(Trainer(), work, History(Path(folder) / "history.jsonl"), ended)
    return (ended.ends[-1] - ended.ends[0]) / (rounds - 1), growing / (rounds - 1)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turn(repeats: int, *arms: Callable[[], Any]) -> list[list[Any]]:
    """What each arm gives, one after the other, in each turn."""
    turns = [[arm() for arm in arms] for _ in range(repeats)]
    return [list(found) for found in zip(*turns, strict=True)]


def compared(ours: list[float], reference: list[float]) -> Row:
    mine, theirs = statistics.median(ours), statistics.median(reference)
    return {
        "ms": f"{1e3 * mine:.1f}",
        "reference_ms": f"{1e3 * theirs:.1f}",
        "ratio": f"{mine / theirs:.2f}",
    }


def save(path: Path, found: list[Row]) -> None:
    """Replace the rows measured again, and keep the others."""
    kept: list[Row] = []
    if path.exists():
        with path.open(encoding="utf-8") as file:
            kept = [dict(row) for row in csv.DictReader(file)]
    key = [(str(row["what"]), str(row["threads"])) for row in found]
    kept = [row for row in kept if (row["what"], row["threads"]) not in key]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*kept, *found])


if __name__ == "__main__":
    main()

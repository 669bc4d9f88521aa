"""Are the verdicts of a comparison correct, and how long does it take?

Run:     .venv/bin/python experiments/bench_compare/run.py [--studies 1000] [--runs 1000]
Expect:  a difference of 1.5 standard deviations of the paired differences is detected with 10
         pairs in at least 85 % of studies of 5 arms; without an effect at most 5 % of studies (plus
         a binomial margin) claim anything; intervals cover within 2 points of their stated level;
         over 10 splits whose differences are correlated as the test assumes, and over 10 splits of
         real tables (splits.py), better or worse is said wrongly in at most 5 %,
         practically equal of a difference at the margin in at most 5 %, and of no difference in at
         least 80 %, where the standard error is a quarter of the margin;
         1 000 recorded runs are compared within 15 s.

The first part simulates records of studies with a known truth in memory and computes the verdict as
the command does (records, arms, pairs, tests, Holm). The second writes runs with predictions,
curves and histories into a real store and times the command in a separate process.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from splits import METRIC, one_arm, over_real_splits

from rarelab.compare.arms import group
from rarelab.compare.contrast import BETTER, EQUAL, NOT_SETTLED, WORSE, Contrast, Question, compare
from rarelab.compare.statistics import mean_interval, paired_test
from rarelab.metrics.bootstrap import bootstrap_interval
from rarelab.records.load import Run

ARMS = ("bce", "smooth_ap", "recall_at_quantile", "pauc_at_budget", "weighted_bce")
SPREAD = 0.01
"""Standard deviation of the paired differences."""

MARGIN = 0.01

ROWS, POSITIVES = 5000, 50


def study(shifts: NDArray, pairs: int, rng: np.random.Generator) -> list[Contrast]:
    """Contrasts of four arms with the first; the differences are Normal(shift, SPREAD)."""
    base = rng.normal(0.5, 3 * SPREAD, size=pairs)
    values = [base] + [base + rng.normal(shift, SPREAD, size=pairs) for shift in shifts]
    runs = [
        Run(
            run_id=f"{loss}{seed}",
            name=loss,
            experiment="known truth",
            params={"loss": loss, "dataset": "toy", "seed": str(seed)},
            tags={"rarelab.data_digest": f"rows of {seed}"},
            metrics={METRIC: float(value)},
            status="done",
            started=0,
        )
        for loss, column in zip(ARMS, values, strict=True)
        for seed, value in enumerate(column)
    ]
    (data,) = group(runs, METRIC)
    finding = compare(data, Question(METRIC, "loss=bce"), lambda *asked: {})
    assert finding is not None
    return list(finding.contrasts)


def truth(studies: int) -> None:
    rng = np.random.default_rng(20_261_125)
    effect = 1.5 * SPREAD
    for name, shifts in (
        ("one of four arms has the effect", [effect, 0, 0, 0]),
        ("all four arms have it", [effect] * 4),
    ):
        found = []
        for _ in range(studies):
            contrasts = {c.arm.label: c.verdict for c in study(np.array(shifts), 10, rng)}
            found += [
                contrasts[f"loss={loss}"] == BETTER
                for loss, shift in zip(ARMS[1:], shifts, strict=True)
                if shift
            ]
        print(f"power, 1.5 sd over 10 pairs, 5 arms, {name}: {np.mean(found):.1%}")
    for pairs in (8, 10, 16, 20):
        claims = sum(
            any(c.verdict in (BETTER, WORSE) for c in study(np.zeros(4), pairs, rng))
            for _ in range(studies)
        )
        margin = stats.binom.ppf(0.995, studies, 0.05) / studies
        print(
            f"no effect, {pairs} pairs: {claims / studies:.1%} of studies claim something "
            f"(5 %, at most {margin:.1%} by chance)"
        )
    verdicts = Counter(c.verdict for c in study(np.full(4, 10 * effect), 2, rng))
    print(f"2 seeds, an effect of 15 sd: {dict(verdicts)}")
    assert set(verdicts) == {NOT_SETTLED}


def over_splits(studies: int) -> None:
    """Verdicts over 10 splits whose differences are correlated as Nadeau and Bengio assume."""
    rng = np.random.default_rng(20_261_128)
    error = MARGIN / 4
    for sizes in ("60/15/25", "80/10/10"):
        train, _, test = map(int, sizes.split("/"))
        ratio = test / train
        own = error / math.sqrt(0.1 + ratio)
        for name, truth, margin, counted in (
            ("no difference, hardly any margin: better or worse", 0.0, 1e-9, (BETTER, WORSE)),
            ("no difference: practically equal", 0.0, MARGIN, (EQUAL,)),
            ("a difference at the margin: practically equal", MARGIN, MARGIN, (EQUAL,)),
        ):
            said = sum(
                one_arm(truth + correlated(10, own, ratio, rng), sizes, margin) in counted
                for _ in range(studies)
            )
            print(f"10 splits at {sizes}, {name}: {said / studies:.1%}")


def correlated(splits: int, own: float, ratio: float, rng: np.random.Generator) -> NDArray:
    """Differences whose mean has the variance (1 / splits + ratio) own²."""
    return math.sqrt(ratio) * own * rng.normal() + own * rng.normal(size=splits)


def coverage(studies: int) -> None:
    rng = np.random.default_rng(7)
    laws = {
        "normal": lambda n: rng.normal(0.5, 1.0, size=n),
        "uniform": lambda n: rng.uniform(0.0, 1.0, size=n),
        "Student t, 3 degrees": lambda n: 0.5 + rng.standard_t(3, size=n),
    }
    for n in (5, 10, 20):
        for name, draw in laws.items():
            difference = mean = 0
            level = math.nan
            for _ in range(studies):
                d = draw(n)
                test = paired_test(d)
                level = test.level
                difference += test.low <= 0.5 <= test.high
                low, high = mean_interval(d)
                mean += low <= 0.5 <= high
            print(
                f"n = {n:<2} {name:<21} difference: {difference / studies:.1%} "
                f"(stated {level:.1%}), mean: {mean / studies:.1%} (stated 95.0%)"
            )


def coverage_by_positives(studies: int) -> None:
    """How often the interval beside a run's AUCPR holds the true one, by positives in the test set.

    Scores are Normal(0, 1) and, of positives, Normal(shift, 1); the true AUCPR is that of endless
    rows, the mean over positives' scores s of p S1(s) / (p S1(s) + (1 - p) S0(s)).
    """
    for shift, rate in ((2.0, 0.01), (3.1, 0.01), (2.0, 0.1)):
        s = shift + stats.norm.ppf((np.arange(100_000) + 0.5) / 100_000)
        hits, misses = rate * stats.norm.sf(s - shift), (1 - rate) * stats.norm.sf(s)
        true = float((hits / (hits + misses)).mean())
        for positives in (10, 20, 50, 100, 300):
            rng = np.random.default_rng(positives)
            rows = round(positives / rate)
            labels = torch.arange(rows) < positives
            held = below = 0
            for seed in range(studies):
                scores = rng.normal(shift * labels.numpy(), 1.0)
                low, high = bootstrap_interval(torch.from_numpy(scores), labels, seed=seed)
                held += low <= true <= high
                below += true < low
            print(
                f"{positives} positives of {rows} rows, true AUCPR {true:.2f}: the 95 % interval "
                f"holds it in {held / studies:.1%} (it lies below in {below / studies:.1%})",
                flush=True,
            )


def write_records(home: Path, runs: int) -> None:
    """Write ``runs`` runs of 10 arms on one fixed split, with the files of real runs."""
    from mlflow.entities import Metric, Param, RunTag

    from rarelab.metrics import evaluate
    from rarelab.metrics.curves import curves
    from rarelab.runs.evaluation import write_predictions
    from rarelab.tracking import client
    from rarelab.tracking.store import ensure_experiment, sqlite_uri

    uri = sqlite_uri(home / "mlflow.db")
    tracker = client(uri, home)
    number = ensure_experiment(tracker, "many", uri, home)
    targets = torch.zeros(ROWS, dtype=torch.int64)
    targets[:POSITIVES] = 1
    shared = np.random.default_rng(0).normal(size=ROWS)
    for place, (arm, seed) in enumerate(arms_and_seeds(runs)):
        own = np.random.default_rng(place).normal(0, 0.4, size=ROWS)
        scores = shared + own + (1.5 + 0.1 * arm) * targets.numpy()
        logits = torch.tensor(scores[:, None], dtype=torch.float32)
        directory = home / "runs" / "many" / f"{place}"
        directory.mkdir(parents=True)
        found = curves(logits, targets, classes=("0", "1"))
        (directory / "curves.json").write_text(json.dumps(found), encoding="utf-8")
        write_predictions(
            directory / "predictions.parquet", {"test": (logits, targets)}, ("0", "1")
        )
        rows = [
            {"step": e, "time": 0, "metrics": {"train/ap_weight": e / 10, "val/aucpr": e / 20}}
            for e in range(11)
        ]
        text = "\n".join(map(json.dumps, rows))
        (directory / "history.jsonl").write_text(text, encoding="utf-8")
        metrics = evaluate(logits, targets, classes=("0", "1"), bootstrap_seed=0)
        run = tracker.create_run(number, run_name=f"loss=smooth_ap queue_size={arm} seed={seed}")
        params = {f"trainer.setting_{i}": str(i) for i in range(60)} | {
            "loss": "smooth_ap", "loss.queue_size": str(2**arm), "dataset": "creditcard",
            "dataset.split_seed": "0", "seed": str(seed),
        }  # fmt: skip
        tags = {
            "rarelab.status": "done",
            "rarelab.data_digest": "one split",
            "rarelab.directory": str(directory),
        }
        tracker.log_batch(
            run.info.run_id,
            metrics=[Metric(key, value, 0, 0) for key, value in metrics.items()],
            params=[Param(key, value) for key, value in params.items()],
            tags=[RunTag(key, value) for key, value in tags.items()],
        )
        tracker.set_terminated(run.info.run_id)


def arms_and_seeds(runs: int) -> Iterator[tuple[int, int]]:
    for place in range(runs):
        yield place % 10, place // 10


def speed(runs: int) -> None:
    with TemporaryDirectory() as folder:
        home = Path(folder)
        write_records(home, runs)
        command = [sys.executable, "-m", "rarelab", "compare", "experiment=many", "baseline=1"]
        environment = {**os.environ, "RARELAB_HOME": str(home)}
        for turn in ("first", "second"):
            start = time.perf_counter()
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            seconds = time.perf_counter() - start
            assert done.returncode == 0, done.stderr
            print(f"{runs} recorded runs, {turn} time: {seconds:.1f} s")
        print(done.stdout.splitlines()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=1000)
    chosen = parser.parse_args()
    truth(chosen.studies)
    over_splits(chosen.studies)
    over_real_splits(chosen.studies)
    coverage(2 * chosen.studies)
    coverage_by_positives(chosen.studies)
    speed(chosen.runs)


if __name__ == "__main__":
    main()

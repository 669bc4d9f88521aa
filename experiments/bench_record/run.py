"""What does recording a run cost? Opening, logging, closing, curves, figures and the model.

Run:  .venv/bin/python experiments/bench_record/run.py [--repeats 5]

The toy run is trained several times against one real MLflow store (sqlite), and each part of the
record is timed; the first run, which also creates the store, is left out. Logging during training
is given as a share of training time, the rest in seconds per run. Importing MLflow is not counted.
Writes result.csv beside this file.
"""

import argparse
import csv
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import rarelab
from rarelab.runs import evaluation, run
from rarelab.tracking import MlflowSink
from rarelab.training import Trainer

SPENT: dict[str, float] = {}


def clocked(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with its run time added to ``SPENT[part]``."""

    def timed(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            SPENT[part] = SPENT.get(part, 0.0) + time.perf_counter() - start

    return timed


def with_logging_noted(fit: Callable[..., Any]) -> Callable[..., Any]:
    """``fit``, noting the logging time so far: rows logged later (best, test) are not training."""

    def noted(*arguments: Any, **options: Any) -> Any:
        result = fit(*arguments, **options)
        SPENT["during"] = SPENT.get("logging", 0.0)
        return result

    return noted


def set_clocks() -> None:
    Trainer.fit = clocked("training", with_logging_noted(Trainer.fit))
    MlflowSink.open = clocked("open", MlflowSink.open)
    MlflowSink.__call__ = clocked("logging", MlflowSink.__call__)
    MlflowSink.close = clocked("close", MlflowSink.close)
    run.write_model = clocked("model", run.write_model)
    run.evaluate_and_write = clocked("evaluation", run.evaluate_and_write)
    evaluation.run_figures = clocked("figures", evaluation.run_figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    set_clocks()
    seen: dict[str, list[float]] = {}
    with TemporaryDirectory() as home:
        os.environ["RARELAB_HOME"] = home
        for turn in range(chosen.repeats + 1):
            SPENT.clear()
            rarelab.train(["trainer.max_epochs=40", f"seed={turn}"])
            if turn:
                for part, seconds in SPENT.items():
                    seen.setdefault(part, []).append(seconds)
    median = {part: statistics.median(values) for part, values in seen.items()}
    share = 100 * median["during"] / (median["training"] - median["during"])
    print(f"\nlogging while training: {share:.1f} % of {median['training']:.1f} s, 40 epochs")
    median["last rows"] = median["logging"] - median["during"]
    for part in ("open", "evaluation", "figures", "model", "last rows", "close"):
        inside = " (part of evaluation)" if part == "figures" else ""
        print(f"{part:<12}{median[part]:6.2f} s{inside}")
    total = sum(median[part] for part in ("open", "evaluation", "model", "last rows", "close"))
    print(f"{'in all':<12}{total:6.2f} s a run")
    with Path(__file__).with_name("result.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("figure", "value"))
        table.writerow(("logging_share", f"{share / 100:.4f}"))
        table.writerow(("seconds_a_run", f"{total:.3f}"))


if __name__ == "__main__":
    main()

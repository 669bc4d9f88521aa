"""One process of the load test: records runs as `rarelab train` does, without training."""

import logging
import os
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier

from rarelab.config import build
from rarelab.config.compose import compose_train
from rarelab.runs.folder import Record
from rarelab.tracking.store import import_mlflow

EPOCHS = 10
KEYS = tuple(f"load/{number}" for number in range(10))


@dataclass(frozen=True)
class Load:
    """``runs`` runs per process, one every ``period`` seconds, recorded in the store ``uri``."""

    home: str
    uri: str
    processes: int
    runs: int
    period: float


class Warnings(logging.Handler):
    """Collects the warnings of the runs."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def ready(load: Load, all_ready: Barrier) -> None:
    """Import what a run imports, then wait for the other processes."""
    import_mlflow(load.uri)
    all_ready.wait()


def record_runs(load: Load, process: int) -> dict[str, list]:
    """Record this process's runs; returns the seconds for opening, each row and closing, the begin
    and end, and the warnings."""
    begin, warned = time.monotonic(), Warnings()
    logging.getLogger("rarelab").addHandler(warned)
    cfg, choices = compose_train(["dataset.n_samples=1000", "dataset.pos_rate=0.05"])
    cfg.paths.home, cfg.tracking.uri, cfg.tracking.experiment = load.home, load.uri, "load"
    data = build.dataset(cfg)
    splits = data.splits(0)
    found: dict[str, list] = {"open": [], "append": [], "close": [], "warnings": warned.lines}
    for number in range(load.runs):
        wait_until(begin + number * load.period)
        cfg.seed = process * load.runs + number
        start = time.monotonic()
        with Record(cfg, choices, data.identity(), splits) as record:
            found["open"].append(time.monotonic() - start)
            found["append"] += train(record, start, load.period)
            ended = time.monotonic()
        found["close"].append(time.monotonic() - ended)
    return found | {"span": [begin, time.monotonic()]}


def train(record: Record, start: float, period: float) -> list[float]:
    """Ten epochs of ten values over four fifths of the period; returns the seconds per row."""
    times = []
    for epoch in range(EPOCHS):
        wait_until(start + 0.8 * period * (epoch + 1) / EPOCHS)
        before = time.monotonic()
        record.append(epoch, {key: (epoch + 1) / (n + os.getpid()) for n, key in enumerate(KEYS)})
        times.append(time.monotonic() - before)
    return times


def wait_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))

"""The figures that a release is judged by, in one table, beside those of the last release.

Run:     make bench     (half an hour on two idle cores; BENCH="trainer sweep" for only those)
         python experiments/release.py --read     (the table of the files that are there)

Runs the benchmarks one after the other, reads the figures from the CSV files that they leave beside
them, prints each with its limit and its last value, and writes them to release.csv. Ratios and
shares only: they are measured side by side in one run, so that machines can be compared. The exit
code is 1 if a figure misses its limit.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

HERE = Path(__file__).parent
KEPT = HERE / "release.csv"

Read = Callable[[Any], float]
"""Finds a figure in the table (pandas) of its benchmark."""


@dataclass(frozen=True)
class Figure:
    """A figure of a benchmark, which ``read`` finds in its table, and its limit; ``sense`` is "at
    most" or "at least"."""

    bench: str
    name: str
    read: Read
    sense: str
    limit: float

    def missed(self, value: float) -> bool:
        return value > self.limit if self.sense == "at most" else value < self.limit


def times_bare(loop: str) -> Read:
    """The time of a training step, in those of a bare loop."""
    return lambda table: float(table.set_index("loop").at[loop, "times_bare"])


def speed_up(loss: str, classes: int, batch: int, queue: int, rate: float) -> Read:
    """How much faster than imbalanced-losses a loss is, at a temperature of .01."""
    work = {"loss": loss, "classes": classes, "batch": batch, "queue": queue, "rate": rate}

    def read(table: Any) -> float:
        for column, value in {**work, "tau": 0.01}.items():
            table = table[table[column] == value]
        times = table.set_index("library")["ms"]
        return float(times["imbalanced-losses"] / times["rarelab"])

    return read


def cost(fit: str) -> Read:
    """What a fit of LightGBM on Smooth-AP takes, in fits on its own log-loss, at two threads."""

    def read(table: Any) -> float:
        return float(table[(table["what"] == fit) & (table["threads"] == 2)]["ratio"].item())

    return read


def value(name: str) -> Read:
    """A figure of a table with the columns ``figure`` and ``value``."""
    return lambda table: float(table.set_index("figure").at[name, "value"])


FIGURES = (
    Figure("trainer", "a step of training / of a bare loop", times_bare("rarelab"), "at most", 1.3),
    Figure(
        "trainer", "the same, PyTorch Lightning", times_bare("PyTorch Lightning"), "at least", 2
    ),
    *(
        Figure("kernels", f"{name} / imbalanced-losses", speed_up(*work), "at least", limit)
        for name, work, limit in (
            ("Smooth-AP, 256 + 1 024", ("smooth_ap", 1, 256, 1024, 0.05), 1),
            ("Smooth-AP, 1 024 + 65 536, 10 %", ("smooth_ap", 1, 1024, 65536, 0.1), 500),
            ("Smooth-AP, 100 classes, 256 + 4 096", ("smooth_ap", 100, 256, 4096, 0.01), 5),
            ("recall at a quantile, 256 + 1 024", ("recall_at_quantile", 1, 256, 1024, 0.05), 2),
        )
    ),
    Figure("boosting", "Smooth-AP / log-loss, kdd_census", cost("kdd_census fit"), "at most", 2),
    Figure("boosting", "Smooth-AP / log-loss, a million rows", cost("million fit"), "at most", 1.5),
    Figure("sweep", "60 jobs, two at a time / the ideal", value("times_ideal"), "at most", 1.15),
    Figure("record", "logging / training", value("logging_share"), "at most", 0.05),
)


def table_of(bench: str) -> pd.DataFrame | None:
    """The table that a benchmark has left, if any."""
    path = HERE / f"bench_{bench}" / "result.csv"
    return pd.read_csv(path) if path.is_file() else None


def found() -> pd.DataFrame:
    """Every figure whose benchmark has left a table."""
    rows = []
    for figure in FIGURES:
        table = table_of(figure.bench)
        if table is not None:
            rows.append(
                {
                    "bench": figure.bench,
                    "figure": figure.name,
                    "value": round(figure.read(table), 3),
                    "limit": f"{figure.sense} {figure.limit:g}",
                    "missed": figure.missed(figure.read(table)),
                }
            )
    return pd.DataFrame(rows)


def text(rows: pd.DataFrame, last: pd.DataFrame | None) -> str:
    """The table: each figure, its limit, and its value in the last release."""
    before = {} if last is None else last.set_index("figure")["value"].to_dict()
    width = max(map(len, rows["figure"]))
    lines = [f"{'figure':<{width}}{'now':>10}{'last':>10}  limit"]
    for row in rows.to_dict("records"):
        name, note = row["figure"], "   missed" if row["missed"] else ""
        old = f"{before[name]:.2f}" if name in before else "-"
        lines.append(f"{name:<{width}}{row['value']:>10.2f}{old:>10}  {row['limit']}{note}")
    return "\n".join(lines)


def measure(benches: Sequence[str]) -> None:
    """Run the benchmarks, one after the other."""
    for number, bench in enumerate(benches, start=1):
        print(f"{number}/{len(benches)} experiments/bench_{bench}/run.py", flush=True)
        subprocess.run([sys.executable, HERE / f"bench_{bench}" / "run.py"], check=True)


def main() -> int:
    known = list(dict.fromkeys(figure.bench for figure in FIGURES))
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bench", nargs="*", choices=[*known, []], help="those to run; all if none")
    parser.add_argument("--read", action="store_true", help="measure nothing")
    chosen = parser.parse_args()
    last = pd.read_csv(KEPT) if KEPT.is_file() else None
    if not chosen.read:
        measure(chosen.bench or known)
    rows = found()
    print(text(rows, last))
    rows.to_csv(KEPT, index=False)
    return int(any(rows["missed"]))


if __name__ == "__main__":
    sys.exit(main())

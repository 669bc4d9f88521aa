"""How do the ranking losses compare in speed and memory with published implementations?

Run:  make bench-kernels       (or: python experiments/bench_kernels/run.py; ten minutes)

Forward and backward pass of the loss modules on the same tensors, in one process with one thread,
taking turns; peak memory in a fresh process each. Writes result.csv, retrieval.csv, growth.png and
the tables of README.md beside this file.
"""

import csv
import json
import subprocess
import sys
from dataclasses import asdict, astuple
from pathlib import Path

import report
from contest import LIBRARIES, Work, quiet, works
from retrieval import retrieval
from speed import speed

HERE = Path(__file__).parent
FIELDS = (*Work.__annotations__, "library", "ms", "repeats", "peak_mb")


def memory(wanted: list[Work]) -> list[dict[str, float]]:
    """Peak MB of each library on each work, measured in separate processes."""
    asked = "".join(json.dumps(astuple(work)) + "\n" for work in wanted)
    command = [sys.executable, HERE / "memory.py"]
    answer = subprocess.run(command, input=asked, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in answer.stdout.splitlines()]


def measure() -> list[dict]:
    """One row per work and library; the time is empty where its matrices do not fit."""
    rows, planned = [], works()
    weighed = [work for work in planned if work.tau == 0.01]
    peaks = dict(zip(weighed, memory(weighed), strict=True))
    for work in planned:
        times = speed(work)
        for library in LIBRARIES:
            ms, repeats = times.get(library, (None, 0))
            row = asdict(work) | {"library": library, "repeats": repeats}
            peak = peaks.get(work, {}).get(library)
            row["ms"] = "" if ms is None else f"{ms:.3f}"
            row["peak_mb"] = "" if peak is None else f"{peak:.1f}"
            rows.append(row)
        print(work, {name: f"{ms:.3f} ms" for name, (ms, _) in times.items()}, flush=True)
    return rows


def write(path: Path, fields: tuple[str, ...], rows: list[dict]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    quiet()
    write(HERE / "result.csv", FIELDS, measure())
    found = [
        {"rows": rows, "library": library, "ms": f"{ms:.3f}", "repeats": repeats}
        for rows, times in retrieval().items()
        for library, (ms, repeats) in times.items()
    ]
    write(HERE / "retrieval.csv", ("rows", "library", "ms", "repeats"), found)
    report.write()


if __name__ == "__main__":
    main()

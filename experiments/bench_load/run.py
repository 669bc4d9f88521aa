"""Is anything lost when eight processes record a thousand runs at once?

Run:     python experiments/bench_load/run.py --store sqlite --save
         python experiments/bench_load/run.py --store postgresql --save
         (ten minutes each; the second one needs the extra `postgresql` and Debian's package)
Expect:  1 000 runs and 100 000 values in the store, each once and as on disk; no warnings; nothing
         left for `rarelab sync`.

Eight processes record runs as `rarelab train` does (folder, provenance, parameters, history,
uploads; no training), at a pace that fills ten minutes. The store is one sqlite file, or `mlflow
server` with its default four workers on a new PostgreSQL, on loopback. Then the store's tables and
files are compared with the histories on disk, value by value. With --save the numbers go to
result.csv beside this file.
"""

import argparse
import csv
import multiprocessing
import statistics
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from recorder import Load, ready, record_runs
from sqlalchemy import create_engine, text

from rarelab.tracking import sync
from rarelab.tracking.entry import load_entry
from rarelab.tracking.store import sqlite_uri
from rarelab.training.history import read_rows

HERE = Path(__file__).parent
RESULT = HERE / "result.csv"


def store(kind: str, folder: Path, open_until: ExitStack) -> tuple[str, str]:
    """The tracking URI, and the URI of the database behind it.

    Raises SystemExit with the reason if the store is unavailable.
    """
    if kind == "sqlite":
        own = sqlite_uri(folder / "mlflow.db")
        return own, own
    sys.path.append(str(HERE.parents[1] / "tests"))
    import servers

    if servers.postgresql_programs() is None:
        sys.exit("skipped: PostgreSQL is not installed (`make postgresql` adds Debian's package)")
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        sys.exit(f"skipped: {error}; install rarelab[postgresql]")
    database = open_until.enter_context(servers.postgresql())
    server = servers.mlflow_server(database, folder, workers=4)
    return open_until.enter_context(server), database


Value = tuple[str, str, int, float, int]


def on_disk(home: Path) -> Iterator[tuple[str, Path, list[Value]]]:
    """Each run's id in the store, its folder and the values of its history."""
    for path in home.glob("runs/*/*/record.json"):
        entry = load_entry(path.parent)
        assert entry is not None
        run_id = entry.run_id or path.parent.name
        rows = read_rows(path.with_name("history.jsonl"))
        values = [
            (run_id, key, row["step"], value, row["time"])
            for row in rows
            for key, value in row["metrics"].items()
        ]
        yield run_id, path.parent, values


def count(home: Path, database: str) -> dict[str, int]:
    """How much of what is on disk the store holds, read from its tables and files."""
    runs = {run_id: (folder, values) for run_id, folder, values in on_disk(home)}
    engine = create_engine(database)
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT run_uuid, key, step, value, timestamp FROM metrics"))
        stored = Counter(tuple(row) for row in rows)
        ended = connection.execute(text("SELECT run_uuid FROM runs WHERE status = 'FINISHED'"))
        finished = {row[0] for row in ended}
        asked = text("SELECT run_uuid, count(*) FROM params GROUP BY run_uuid")
        params = dict(tuple(row) for row in connection.execute(asked))
    engine.dispose()
    files = {path.parent.parent.name: path for path in home.rglob("artifacts/history.jsonl")}
    expected = {value for _, values in runs.values() for value in values}
    whole = [
        run_id
        for run_id, (folder, _) in runs.items()
        if run_id in files
        and files[run_id].read_bytes() == (folder / "history.jsonl").read_bytes()
        and params.get(run_id) == len(load_entry(folder).params)  # type: ignore[union-attr]
    ]
    return {
        "runs": len(runs),
        "finished": len(finished & runs.keys()),
        "whole": len(whole),
        "values": sum(len(values) for _, values in runs.values()),
        "stored": len(expected & stored.keys()),
        "twice": sum(stored.values()) - len({value[:3] for value in stored}),
        "foreign": len(stored.keys() - expected),
    }


def measure(load: Load, home: Path, database: str) -> dict[str, Any]:
    """Record all runs; returns the counts and how long recording blocked the processes."""
    spawn = multiprocessing.get_context("spawn")
    started = (load, spawn.Barrier(load.processes))
    with ProcessPoolExecutor(load.processes, spawn, initializer=ready, initargs=started) as pool:
        done = list(pool.map(record_runs, [load] * load.processes, range(load.processes)))
    begins, ends = zip(*(one["span"] for one in done), strict=True)
    counted = count(home, database)
    times = {
        f"{what}_{name}": f"{point:.2f}"
        for what in ("open", "append", "close")
        for name, point in spread([each for one in done for each in one[what]]).items()
    }
    warnings = [line for one in done for line in one["warnings"]]
    print(*sorted(set(warnings))[:5], sep="\n")
    return {
        "seconds": f"{min(ends) - max(begins):.0f}",
        **counted,
        "warnings": len(warnings),
        **times,
    }


def spread(times: list[float]) -> dict[str, float]:
    return {"median": statistics.median(times), "max": max(times)}


def save(row: dict[str, Any]) -> None:
    """Write the row, replacing an earlier one of the same store."""
    old = []
    if RESULT.exists():
        with RESULT.open(newline="", encoding="utf-8") as file:
            old = list(csv.DictReader(file))
    kept = [each for each in old if each["store"] != row["store"]]
    with RESULT.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, row, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted([*kept, row], key=lambda each: each["store"], reverse=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--runs", type=int, default=1000, help="in all processes together")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--save", action="store_true", help="to result.csv")
    chosen = parser.parse_args()
    with TemporaryDirectory() as folder, ExitStack() as open_until:
        home = Path(folder)
        uri, database = store(chosen.store, home, open_until)
        each = -(-chosen.runs // chosen.processes)
        # The last run takes four fifths of its period.
        period = chosen.seconds / (each - 0.2)
        load = Load(folder, uri, chosen.processes, each, period)
        found = measure(load, home, database)
        found["sync"] = sync(home)
    row = {"store": chosen.store, "processes": load.processes, **found}
    for key, value in row.items():
        print(f"{key:14s} {value}")
    if chosen.save:
        save(row)
    lost = found["values"] - found["stored"] + found["runs"] - found["whole"]
    return int(lost > 0 or found["twice"] > 0 or found["foreign"] > 0)


if __name__ == "__main__":
    sys.exit(main())

"""How much memory does a large table take, and how fast are its rows scored?

Run:     python experiments/bench_tables/run.py --folder DIR --save
         (10 000 000 rows: 6 GB in DIR, an hour on one idle core; `--rows 1000000` is a tenth of it;
         `--only parquet` repeats one step in the same DIR)
Expect:  training peaks below 3 times the float32 table; scoring below 1.5 GB, at half the rows a
         second of LightGBM's own predict or more.

Makes a table of 30 float32 columns, about 1 % positive, as Parquet and CSV. `train` is `rarelab
train dataset=file model=lightgbm loss=smooth_ap` on the Parquet file, early stopping and figures
off; `parquet` and `csv` are `rarelab predict` with that run, from start to exit; `lightgbm` is
`Booster.predict` of the same trees on rows that are features in memory already, only the calls
timed. Each is a process of its own on one thread, whose peak is the largest resident set size. With
--save the figures go to result.csv beside this file, replacing those of the same step and sizes.
"""

import argparse
import csv
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv
from pyarrow import parquet

HERE = Path(__file__).parent
RESULT = HERE / "result.csv"
COLUMNS = 30
AT_ONCE = 250_000
STEPS = ("train", "lightgbm", "parquet", "csv")
KEY = ("step", "rows", "rounds", "trained_on")


def piece(rows: int, draw: np.random.Generator) -> pa.Table:
    x = draw.standard_normal((rows, COLUMNS), dtype=np.float32)
    score = x[:, 0] + x[:, 1] * x[:, 2] + 0.5 * x[:, 3] ** 2 + 0.7 * draw.logistic(size=rows)
    columns: dict[str, Any] = {f"x{i}": x[:, i] for i in range(COLUMNS)}
    return pa.table({**columns, "y": (score > 5.7).astype(np.int8)})


def make(path: Path, rows: int, seed: int = 0) -> Path:
    """The table as Parquet, unless it is there."""
    if not path.exists():
        draw, scratch = np.random.default_rng(seed), path.with_suffix(".part")
        with parquet.ParquetWriter(scratch, piece(1, draw).schema) as writer:
            for start in range(0, rows, AT_ONCE):
                writer.write_table(piece(min(AT_ONCE, rows - start), draw))
        scratch.rename(path)
    return path


def as_csv(table: Path) -> Path:
    path = table.with_suffix(".csv")
    if not path.exists():
        scratch = path.with_suffix(".part")
        with parquet.ParquetFile(table) as file:
            schema = file.schema_arrow
            with arrow_csv.CSVWriter(scratch, schema) as writer:
                for batch in file.iter_batches(AT_ONCE):
                    writer.write_batch(batch)
        scratch.rename(path)
    return path


def measured(command: Sequence[str | Path], home: Path) -> tuple[float, float, float]:
    """Wall and processor seconds of a command, and its peak memory in bytes."""
    one = {"OMP_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1", "RARELAB_HOME": str(home)}
    begun = time.perf_counter()
    with (home / "output.txt").open("a") as output:
        child = subprocess.Popen(command, env=os.environ | one, stdout=output, stderr=output)
        _, status, used = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"{command} failed: see {home / 'output.txt'}")
    wall = time.perf_counter() - begun
    unit = 1 if sys.platform == "darwin" else 1024
    return wall, used.ru_utime + used.ru_stime, used.ru_maxrss * unit


def newest_run(home: Path) -> Path:
    runs = [*home.glob("runs/*/*/model/model.json")]
    if not runs:
        sys.exit(f"there is no run in {home}: begin with the step train")
    return max(runs, key=lambda path: path.stat().st_mtime).parent


def own_seconds(model: Path, table: Path) -> float:
    """Seconds of `Booster.predict` on the rows of the table, as features in memory."""
    import lightgbm

    from rarelab.predict.bundle import read_model

    scorer = read_model(model)
    trees: Any = scorer.model
    booster = lightgbm.Booster(model_str=trees.state()["text"].tobytes().decode())
    spent = 0.0
    with parquet.ParquetFile(table) as file:
        for batch in file.iter_batches(AT_ONCE, columns=[f"x{i}" for i in range(COLUMNS)]):
            x = scorer.features(batch.to_pandas()).numpy()
            begun = time.perf_counter()
            booster.predict(x, raw_score=True, num_threads=1)
            spent += time.perf_counter() - begun
    return spent


def step(name: str, asked: argparse.Namespace) -> dict[str, Any]:
    home: Path = asked.folder
    rows = asked.train_rows if name == "train" else asked.rows
    table = make(home / f"table_{rows}.parquet", rows)
    rarelab = [sys.executable, "-m", "rarelab"]
    row: dict[str, Any] = {"step": name, "rows": rows, "rounds": asked.rounds}
    row["trained_on"] = asked.train_rows
    if name == "train":
        request = [f"dataset.path={table}", "dataset=file", "dataset.target=y", "model=lightgbm"]
        request += ["loss=smooth_ap", f"model.num_iterations={asked.rounds}"]
        request += ["model.early_stopping_round=null", "tracking.figures=false"]
        found = measured([*rarelab, "train", *request], home)
    elif name == "lightgbm":
        seconds = own_seconds(newest_run(home), table)
        return row | {"seconds": f"{seconds:.1f}", "rows_per_second": f"{rows / seconds:.0f}"}
    else:
        path = as_csv(table) if name == "csv" else table
        request = [newest_run(home).parent.name, path, f"output={home / 'scores'}.{name}"]
        found = measured([*rarelab, "predict", *request, "overwrite=true"], home)
    wall, processor, peak = found
    return row | {
        "seconds": f"{wall:.1f}",
        "cpu_seconds": f"{processor:.1f}",
        "peak_gb": f"{peak / 1e9:.2f}",
        "by_table": f"{peak / (4 * COLUMNS * rows):.2f}",
        "rows_per_second": f"{rows / wall:.0f}",
    }


def with_ratio(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows a second as a multiple of LightGBM's own on the same rows and trees."""
    own = {tuple(str(r[k]) for k in KEY[1:]): r for r in rows if r["step"] == "lightgbm"}
    for row in rows:
        base = own.get(tuple(str(row[key]) for key in KEY[1:]))
        if base is not None and row["step"] != "train":
            ratio = float(row["rows_per_second"]) / float(base["rows_per_second"])
            row["by_lightgbm"] = f"{ratio:.2f}"
    return rows


def save(new: list[dict[str, Any]]) -> None:
    fields = [*KEY, "seconds", "cpu_seconds", "peak_gb", "by_table", "rows_per_second"]
    fields.append("by_lightgbm")
    old: list[dict[str, Any]] = []
    if RESULT.exists():
        with RESULT.open(newline="", encoding="utf-8") as file:
            old = [*csv.DictReader(file)]
    known = {tuple(str(row[key]) for key in KEY) for row in new}
    rows = [*(row for row in old if tuple(row[key] for key in KEY) not in known), *new]
    with RESULT.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(with_ratio(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="for the tables and the run")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--train-rows", type=int, help="as many as --rows by default")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--only", nargs="*", default=STEPS, choices=STEPS)
    parser.add_argument("--save", action="store_true", help="to result.csv")
    asked = parser.parse_args()
    asked.train_rows = asked.train_rows or asked.rows
    asked.folder = asked.folder.resolve()
    asked.folder.mkdir(parents=True, exist_ok=True)
    for name in asked.only:
        row = step(name, asked)
        print(*(f"{key} {value}" for key, value in row.items()), sep="  ", flush=True)
        if asked.save:
            save([row])


if __name__ == "__main__":
    main()

"""How often does the map claim a difference where there is none? The map on permuted labels.

Run:  python experiments/null_map/run.py      (`rarelab data fetch` the sets first; 15 minutes)

Each set keeps its features and its rate of positives, but the labels are drawn anew over its rows,
so no loss can be better than another but by chance. experiments/map.yaml is asked of it as of any
file: the same arms, splits and searches. result.csv has the verdict of every loss on every model.
What the file already has is not run again.
"""

import argparse
import csv
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import rarelab
from rarelab.compare.command import compared
from rarelab.config.compose import compose_compare
from rarelab.data.archives import fetch
from rarelab.data.archives.real import load
from rarelab.data.commands import sources

HERE = Path(__file__).parent
RESULT = HERE / "result.csv"
COLUMNS = ("set", "metric", "model", "arm", "difference", "p_holm", "verdict")
SETS = ("white_wine", "satimage", "caravan")
METRICS = ("test/aucpr", "test/recall_at_q/0.05")
SEED = 20261130
TARGET = "positive"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sets", nargs="*", default=SETS)
    done = {row["set"] for row in results()}
    for name in parser.parse_args().sets:
        if name not in done:
            keep(verdicts(name))


def results() -> list[dict[str, str]]:
    if not RESULT.exists():
        return []
    with RESULT.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def permuted(name: str, path: Path) -> None:
    """Write the set with its labels in random order."""
    source = sources()[name]
    assert source.positives is not None
    frame = load(source, fetch.data_home())
    roles = source.roles
    unused = {roles.target, roles.official, *roles.drop, *roles.keep}
    kept = frame.drop(columns=[name for name in frame if name in unused])
    rows = np.random.default_rng(SEED).permutation(len(frame))
    kept[TARGET] = (np.arange(len(frame)) < source.positives)[np.argsort(rows)].astype(int)
    kept.to_parquet(path, index=False)


def verdicts(name: str) -> list[list[str]]:
    """Run the map on the permuted set; a row per metric, model and loss."""
    found = []
    with TemporaryDirectory() as home:
        path = Path(home, f"{name}.parquet")
        permuted(name, path)
        where = [f"paths.home={home}", "tracking=none"]
        data = ["dataset=file", f"dataset.path={path}", f"dataset.target={TARGET}"]
        rarelab.train(["experiments=map", *data, "sweep.n_jobs=2", *where])
        for metric in METRICS:
            asked = ["experiment=map_contest", "baseline=bce", "within=[model]", f"metric={metric}"]
            table = compared(compose_compare([*asked, f"paths.home={home}"]))
            for _, row in table[table["verdict"] != "baseline"].iterrows():
                told = (row[key] for key in ("data", "arm", "difference", "p_holm", "verdict"))
                found.append([name, metric, *map(str, told)])
    return found


def keep(rows: list[list[str]]) -> None:
    new = not RESULT.exists()
    with RESULT.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows] if new else rows)


if __name__ == "__main__":
    main()

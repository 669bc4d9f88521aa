"""How often does the map claim a difference where there is none? The map on permuted labels.

Run:  python experiments/null_map/run.py      (`rarelab data fetch` the sets first; 45 minutes)

Each set keeps its features and its rate of positives, but the labels are drawn anew over its rows,
so no loss can be better than another but by chance. experiments/map.yaml is asked of it as of any
file: the same arms, splits and searches. result.csv has the verdict of every loss on every model.
What the file already has is not run again.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.append(str(Path(__file__).parents[1]))

from file_contest import TARGET, contest, kept
from rarelab.data.archives import fetch
from rarelab.data.archives.real import load
from rarelab.data.commands import sources

HERE = Path(__file__).parent
RESULT = HERE / "result.csv"
COLUMNS = ("set", "metric", "model", "arm", "difference", "p_holm", "verdict")
SETS = ("white_wine", "satimage", "caravan")
METRICS = ("test/aucpr", "test/recall_at_q/0.05")
SEED = 20261130


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sets", nargs="*", default=SETS)
    done = {row["set"] for row in kept(RESULT)}
    for name in parser.parse_args().sets:
        if name not in done:
            keep(name)


def permuted(name: str) -> pd.DataFrame:
    """The set with its labels in random order."""
    source = sources()[name]
    assert source.positives is not None
    frame = load(source, fetch.data_home())
    roles = source.roles
    unused = {roles.target, roles.official, *roles.drop, *roles.keep}
    features = frame.drop(columns=[column for column in frame if column in unused])
    order = np.random.default_rng(SEED).permutation(len(frame))
    return features.assign(**{TARGET: (order < source.positives).astype(int)})


def keep(name: str) -> None:
    """Ask the map of the permuted set and add its verdicts to result.csv."""
    fresh = not RESULT.exists()
    tables = contest(permuted(name), "map", METRICS)
    with RESULT.open("a", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, lineterminator="\n")
        if fresh:
            lines.writerow(COLUMNS)
        for metric, table in zip(METRICS, tables, strict=True):
            for _, row in table[table["verdict"] != "baseline"].iterrows():
                told = (row[key] for key in ("data", "arm", "difference", "p_holm", "verdict"))
                lines.writerow([name, metric, *told])


if __name__ == "__main__":
    main()

"""How often does the map claim a difference where there is none? The map on permuted labels.

Run:  python experiments/null_map/run.py      (`rarelab data fetch` the sets first; 45 minutes)

Each set keeps its features and its rate of positives, but the labels are drawn anew over its rows,
so no loss can be better than another but by chance. experiments/map.yaml is asked of it as of any
file: the same arms, splits and searches. result.csv has the verdict of every loss on every model.
What the file already has is not run again.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.append(str(Path(__file__).parents[1]))

from file_contest import TARGET, contest, keep, kept
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
            keep(RESULT, COLUMNS, verdicts(name))


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


def verdicts(name: str) -> Iterator[list[Any]]:
    """A row for each metric, model and loss of the map, asked of the permuted set."""
    for metric, table in zip(METRICS, contest(permuted(name), "map", METRICS), strict=True):
        for row in table.to_dict("records"):
            if row["verdict"] != "baseline":
                told = [row[key] for key in ("data", "arm", "difference", "p_holm", "verdict")]
                yield [name, metric, *told]


if __name__ == "__main__":
    main()

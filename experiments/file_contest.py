"""A contest of experiments/ asked of a table that is not in `rarelab data list`.

The table is written to a temporary home and the contest is asked of it as of any file. Nothing is
left there; the scripts that call this keep the verdicts.
"""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

import rarelab
from rarelab.compare.command import compared
from rarelab.config.compose import compose_compare

TARGET = "positive"


def contest(
    frame: pd.DataFrame, study: str, metrics: Sequence[str], options: Sequence[str] = ()
) -> list[pd.DataFrame]:
    """Ask ``experiments=study`` of a table whose labels are in the column ``positive``.

    Returns, for each metric, the frame of ``rarelab compare`` against ``bce``, within a model.
    """
    with TemporaryDirectory() as home:
        path = Path(home, "table.parquet")
        frame.to_parquet(path, index=False)
        data = ["dataset=file", f"dataset.path={path}", f"dataset.target={TARGET}"]
        where = [f"paths.home={home}", "sweep.n_jobs=2"]
        rarelab.train([f"experiments={study}", *data, *options, *where])
        asked = ["baseline=bce", "within=[model]", f"experiment={study}_contest"]
        return [
            compared(compose_compare([*asked, f"metric={metric}", f"paths.home={home}"]))
            for metric in metrics
        ]


def kept(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV of results; none if it does not exist."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def keep(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Add rows to a CSV of results, which begins with its columns; NaN is left blank."""
    found = [["" if pd.isna(value) else value for value in row] for row in rows]
    if not path.exists():
        found.insert(0, [*columns])
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(found)

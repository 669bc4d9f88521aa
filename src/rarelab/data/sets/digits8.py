"""Handwritten digits, 8 vs the rest; included in scikit-learn, no download."""

from typing import TYPE_CHECKING, Any, Literal

from rarelab.data.archives.real import RealData
from rarelab.data.source import Roles, Source
from rarelab.data.tables.recipe import FOLDS, Numeric, Recipe

if TYPE_CHECKING:
    from pandas import DataFrame


def read() -> "DataFrame":
    """The frame of scikit-learn's 8 x 8 images."""
    import pandas as pd
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    frame = pd.DataFrame(bunch.data, columns=bunch.feature_names)
    return frame.assign(is_eight=bunch.target == 8)


SOURCE = Source(
    name="digits8",
    title="8 x 8 images of handwritten digits, in scikit-learn; positive = 8",
    roles=Roles(target="is_eight"),
    read=read,
    rows=1_797,
    features=64,
    positives=174,
    citation="Alpaydin and Kaynak 1998 (UCI)",
)


def digits8(
    split: Literal["stratified", "cv"] = "stratified",
    split_seed: int = 0,
    numeric: Numeric = "standard",
    max_categories: int = 32,
    deduplicate: bool = False,
    test_share: float | None = None,
    val_share: float | None = None,
    folds: int = FOLDS,
) -> RealData:
    """Digits, 8 vs the rest: 1,797 x 64, 174 positives (9.68 %).

    Included in scikit-learn, so no download is needed.

    The parameters are those of :class:`rarelab.data.tables.recipe.Recipe`.
    """
    shares = (test_share, val_share, folds)
    return RealData(
        SOURCE, Recipe(split, split_seed, numeric, max_categories, deduplicate, *shares)
    )

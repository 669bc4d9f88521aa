"""Images of handwritten digits, a long tail of ten classes; included in scikit-learn."""

from typing import TYPE_CHECKING, Any, Literal

from rarelab.data.archives.images import Images
from rarelab.data.archives.real import RealData
from rarelab.data.source import Roles, Source
from rarelab.data.tables.recipe import FOLDS, Recipe

if TYPE_CHECKING:
    from pandas import DataFrame


def read() -> "DataFrame":
    """The frame of scikit-learn's 8 x 8 images: pixels line by line, from 0 to 16."""
    import pandas as pd
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    return pd.DataFrame(bunch.data, columns=bunch.feature_names).assign(digit=bunch.target)


SOURCE = Source(
    name="digits",
    title="8 x 8 images of handwritten digits, in scikit-learn; ten classes",
    roles=Roles(target="digit"),
    read=read,
    rows=1_797,
    features=64,
    positives=None,
    classes=10,
    citation="Alpaydin and Kaynak 1998 (UCI, CC BY 4.0)",
)


def digits(
    split: Literal["stratified", "cv"] = "stratified",
    split_seed: int = 0,
    imbalance: float = 20.0,
    deduplicate: bool = False,
    test_share: float | None = None,
    val_share: float | None = None,
    folds: int = FOLDS,
) -> RealData:
    """Digits as images [1, 8, 8]: 1,797 of 10 classes, for ``model=cnn``.

    imbalance: how many times as frequent 0 is as 9 among the training rows
    (:class:`rarelab.data.archives.images.Images`), 107 and 5 of them; 1 leaves them alone.
    The other parameters are those of :class:`rarelab.data.tables.recipe.Recipe`.
    """
    recipe = Recipe(
        split,
        split_seed,
        numeric="none",
        deduplicate=deduplicate,
        test_share=test_share,
        val_share=val_share,
        folds=folds,
    )
    return RealData(SOURCE, recipe, Images((1, 8, 8), 16, imbalance))

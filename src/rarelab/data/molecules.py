"""Molecules as rows: fingerprints and scaffolds of SMILES, by RDKit (``rarelab[molecules]``)."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame

RADIUS = 2
BITS = 2048


def bits_of(smiles: Sequence[str]) -> "DataFrame":
    """Morgan fingerprints [N, 2048] of radius 2 as bytes: bit j (``bit_0``, ``bit_1``, …) is 1 if
    an atom's neighbourhood of at most two bonds is hashed to j (Rogers and Hahn 2010, ECFP4).

    Raises:
        ValueError: a SMILES is not a molecule.
    """
    import numpy as np
    import pandas as pd
    from rdkit.Chem import rdFingerprintGenerator  # pyright: ignore[reportMissingImports]

    make = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)
    rows = [make.GetFingerprintAsNumPy(molecule) for molecule in _parsed(smiles)]
    return pd.DataFrame(np.stack(rows).astype("uint8"), columns=[f"bit_{j}" for j in range(BITS)])


def scaffolds(smiles: Sequence[str]) -> list[str]:
    """The Bemis-Murcko scaffold of each molecule as SMILES: its rings and what links them (Bemis
    and Murcko 1996). Molecules without a ring share the empty scaffold.

    Raises:
        ValueError: a SMILES is not a molecule.
    """
    from rdkit.Chem.Scaffolds import MurckoScaffold  # pyright: ignore[reportMissingImports]

    return [MurckoScaffold.MurckoScaffoldSmiles(mol=molecule) for molecule in _parsed(smiles)]


def _parsed(smiles: Sequence[str]) -> Iterable[Any]:
    from rdkit import Chem  # pyright: ignore[reportMissingImports]

    for row, text in enumerate(smiles, start=1):
        molecule = Chem.MolFromSmiles(text)
        if molecule is None:
            raise ValueError(f"row {row}: {text!r} is not a molecule")
        yield molecule

"""Splits from generated arrays."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from rarelab.data.splits import Splits, Table, make_splits
from rarelab.data.tables.divide import stratified
from rarelab.data.tables.recipe import Numeric

Arrays = Sequence[tuple[NDArray, NDArray]]


def stratified_draw(x: NDArray, y: NDArray, seed: int) -> Arrays:
    """Split one draw 60 / 15 / 25, stratified by class."""
    return [(x[rows], y[rows]) for rows in stratified(y, seed=seed)]


def tabular_splits(
    arrays: Arrays, *, name: str, classes: Sequence[str] = ("0", "1"), numeric: Numeric = "none"
) -> Splits:
    """Splits of (features [N, F], targets [N]) for train, validation and test.

    Features are named f0, f1, … and scaled by ``numeric``, fitted on train. The splits keep the
    preprocessor, so a file with those columns can be scored later.
    """
    import pandas as pd

    from rarelab.data.tables.preprocess import Preprocessor

    names = _names(arrays)
    train, *others = (pd.DataFrame(x, columns=names) for x, _ in arrays)
    preprocessor = Preprocessor(numeric)
    features = [preprocessor.fit_transform(train), *map(preprocessor.transform, others)]
    tables = [_table(x, y) for x, (_, y) in zip(features, arrays, strict=True)]
    return make_splits(
        *tables, classes=classes, features=names, name=name, preprocessor=preprocessor
    )


def sequence_splits(arrays: Arrays, *, name: str, classes: Sequence[str] = ("0", "1")) -> Splits:
    """Splits of (features [N, T, F], targets [N, T]), without scaling."""
    tables = [_table(x, y) for x, y in arrays]
    return make_splits(*tables, classes=classes, features=_names(arrays), name=name)


def _names(arrays: Arrays) -> list[str]:
    return [f"f{column}" for column in range(arrays[0][0].shape[-1])]


def _table(x: NDArray, y: NDArray) -> Table:
    return Table(
        torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)),
        torch.from_numpy(np.ascontiguousarray(y, dtype=np.int64)),
    )

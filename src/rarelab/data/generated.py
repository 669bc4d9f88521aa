"""From generated arrays to splits."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from rarelab.data.divide import stratified
from rarelab.data.splits import Splits, Table, make_splits

Arrays = Sequence[tuple[NDArray, NDArray]]


def stratified_draw(x: NDArray, y: NDArray, seed: int) -> Arrays:
    """Divide one draw 60 / 15 / 25 with every class in the same proportion."""
    return [(x[rows], y[rows]) for rows in stratified(y, seed=seed)]


def table(x: NDArray, y: NDArray) -> Table:
    return Table(
        torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)),
        torch.from_numpy(np.ascontiguousarray(y, dtype=np.int64)),
    )


def as_splits(
    arrays: Arrays, *, name: str, classes: Sequence[str] = ("0", "1"), notes: Sequence[str] = ()
) -> Splits:
    """Splits of (features, targets) for train, validation and test, features named f0, f1, …"""
    features = [f"f{column}" for column in range(arrays[0][0].shape[-1])]
    train, val, test = (table(x, y) for x, y in arrays)
    return make_splits(train, val, test, classes=classes, features=features, name=name, notes=notes)


def standardised(
    arrays: Arrays, *, name: str, classes: Sequence[str] = ("0", "1"), notes: Sequence[str] = ()
) -> Splits:
    """As :func:`as_splits`, each feature with the mean 0 and the variance 1 it has on train."""
    x = arrays[0][0]
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale[scale == 0] = 1.0
    return as_splits(
        [((x - mean) / scale, y) for x, y in arrays], name=name, classes=classes, notes=notes
    )

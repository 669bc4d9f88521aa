"""Target encoding of a text column with many levels, cross-fitted on the training rows."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.preprocessing import TargetEncoder

from rarelab.data.tables.numbers import NumberColumns
from rarelab.data.tables.recipe import Numeric
from rarelab.errors import RequestError

FOLDS = 5


def target_encoded(
    codes: NDArray[np.int64],
    labels: NDArray[np.int64],
    levels: int,
    numeric: Numeric,
    groups: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The features of the training rows [N, K], and those of each level [levels + 1, K], of which
    the last row is for unseen levels.

    A level becomes its share of positives in training, shrunk towards the share of all rows
    (Micci-Barreca 2001, SIGKDD Explorations 3(1), with scikit-learn's empirical Bayes weight): K is
    1, or the number of classes if there are more than two. Training rows get the shares of the
    other folds of a cross-validation, so that no row sees its own label; the values are those of
    ``TargetEncoder(cv=5, shuffle=True, random_state=0).fit_transform``. With ``groups`` no group is
    in two folds, so that no row sees a label of its group. Unseen levels get the share of all rows.
    The result is scaled as a number is.

    Args:
        codes: the level of each training row [N], below ``levels``.
        labels: the class of each [N].
        levels: how many levels there are.
        numeric: how numbers are scaled.
        groups: the group of each row [N], if rows of a group are alike.

    Raises:
        RequestError: a class has one training row only.
    """
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        raise RequestError(
            "dataset.high_cardinality=target: a class has one training row, expected at least 2;"
            " use dataset.high_cardinality=onehot or add rows of the class"
        )
    shown = classes[1:] if len(classes) == 2 else classes
    crossed = np.empty((len(codes), len(shown)))
    for rest, fold in _folds(labels, groups):
        crossed[fold] = _shares(codes[rest], labels[rest], shown, codes[fold])
    of_levels = _shares(codes, labels, shown, np.arange(levels + 1))
    scaler = NumberColumns(numeric)
    scaled, _ = scaler.fit_transform(crossed)
    return scaled.astype(np.float32), scaler.transform(of_levels)[0].astype(np.float32)


def _shares(
    codes: NDArray[np.int64], labels: NDArray[np.int64], shown: NDArray, new: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The share of each class in ``shown`` in the levels of new rows [M, K]."""
    # Class by class, as a fold of groups may leave a class without rows.
    made = [TargetEncoder(target_type="continuous") for _ in shown]
    for encoder, label in zip(made, shown, strict=True):
        encoder.fit(codes[:, None], (labels == label).astype(np.int64))
    return np.concatenate([encoder.transform(new[:, None]) for encoder in made], axis=1)


def _folds(
    labels: NDArray[np.int64], groups: NDArray[np.int64] | None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The other rows and the rows of each fold, stratified; whole groups, if there are several.

    TargetEncoder's own cross-fitting takes its folds in one way up to scikit-learn 1.8, and in
    another from 1.9 on.
    """
    units, of = labels, np.arange(len(labels))
    if groups is not None and len(np.unique(groups)) > 1:
        # A group counts as of the rarest of its classes.
        rarity = np.argsort(np.argsort(-np.bincount(labels), kind="stable"))
        _, of = np.unique(groups, return_inverse=True)
        units = np.zeros(of.max() + 1, dtype=np.int64)
        np.maximum.at(units, of, rarity[labels])
    counts = np.bincount(units)
    fewest = int(counts[counts > 0].min())
    how: dict[str, Any] = {"shuffle": True, "random_state": 0}
    if fewest > 1:
        folds = StratifiedKFold(min(FOLDS, fewest), **how)
    else:
        folds = KFold(min(FOLDS, len(units)), **how)
    for _, fold in folds.split(units, units):
        held = np.isin(np.arange(len(units)), fold)[of]
        yield np.flatnonzero(~held), np.flatnonzero(held)

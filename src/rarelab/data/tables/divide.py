"""Train, validation and test rows: stratified, by group, by time, or by fold; and a long tail.

Shares are of all rows (of all groups, where groups are divided), 60 / 15 / 25 unless given.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rarelab.data.tables.recipe import TEST_SHARE, VAL_SHARE
from rarelab.errors import RequestError

Indices = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


class TooSmall(ValueError):
    """A class (``label``) has too few ``rows`` to have one in every part."""

    def __init__(self, label: int, rows: int) -> None:
        super().__init__(f"class {label} has {rows} rows, too few for the splits")
        self.label, self.rows = label, rows


def stratified(
    y: ArrayLike,
    *,
    seed: int,
    val_share: float = VAL_SHARE,
    test_share: float = TEST_SHARE,
    minimum: int = 1,
) -> Indices:
    """Row numbers of train, validation and test, with every class in the same proportion.

    Of the n_c rows of class c, round(test_share * n_c) go to test and round(val_share * n_c) to
    validation (at least ``minimum`` each, unless the share is zero), drawn with ``seed``; the rest
    go to train. Rows keep their order within a split. TooSmall if a class has too few rows.
    """
    rng = np.random.default_rng(seed)
    labels = np.asarray(y)
    parts: tuple[list, list, list] = ([], [], [])
    for value in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == value))
        n_test = _share(len(rows), test_share, minimum)
        n_val = _share(len(rows), val_share, minimum)
        if len(rows) - n_test - n_val < minimum:
            raise TooSmall(value, len(rows))
        for part, piece in zip(parts, np.split(rows, [n_test, n_test + n_val]), strict=True):
            part.append(piece)
    test, val, train = (np.sort(np.concatenate(part)) for part in parts)
    return train, val, test


def long_tail(classes: int, imbalance: float) -> NDArray[np.float64]:
    """imbalance^(-c / (C - 1)) for class c of C, float64 [C]: from 1 down to 1 / ``imbalance``, the
    long tail of Cui et al. 2019 (CVPR, section 5.1)."""
    return imbalance ** -(np.arange(classes) / (classes - 1))


def thinned(y: ArrayLike, *, classes: int, imbalance: float, seed: int) -> NDArray[np.int64]:
    """The row numbers, in order, of a draw that leaves class c of its n_c rows the share
    :func:`long_tail`, rounded.

    With the same seed, the rows of a greater ``imbalance`` are among those of a smaller one.
    TooSmall if a class is left without a row.
    """
    rng, labels, kept = np.random.default_rng(seed), np.asarray(y), []
    for label, share in enumerate(long_tail(classes, imbalance)):
        rows = rng.permutation(np.flatnonzero(labels == label))
        if not (left := round(share * len(rows))):
            raise TooSmall(label, len(rows))
        kept.append(rows[:left])
    return np.sort(np.concatenate(kept))


def _share(n: int, share: float, minimum: int) -> int:
    return max(minimum, round(share * n)) if share else 0


def by_time(
    time: ArrayLike,
    *,
    val_share: float = VAL_SHARE,
    test_share: float = TEST_SHARE,
    origins: int = 1,
    number: int = 0,
) -> Indices:
    """Row numbers with the oldest rows in train, the next in validation, the newest in test.

    With several ``origins`` the newest ``test_share`` is cut into as many consecutive windows of
    equal size (rolling origin, Tashman 2000), and split ``number`` (0 = oldest) tests one of them.
    Its validation rows are those just before the window, as many as in every other split, and it
    trains on all rows before them: the training window expands. Later rows are in no part.

    Rows with equal times keep their order, so a tie may straddle a boundary.
    """
    order = np.argsort(np.asarray(time), kind="stable")
    n = len(order)

    def start(window: int) -> int:
        if window == origins:
            return n
        return round((1 - test_share + test_share * window / origins) * n)

    n_val = start(0) - round((1 - val_share - test_share) * n)
    bounds = [start(number) - n_val, start(number), start(number + 1)]
    train, val, test, _ = np.split(order, bounds)
    return train, val, test


def by_fold(
    y: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    folds: int,
    number: int,
    val_share: float = VAL_SHARE,
) -> Indices:
    """Row numbers of fold ``number`` % ``folds`` of repetition ``number`` // ``folds`` of a
    cross-validation.

    The test folds of a repetition are those of scikit-learn's ``StratifiedKFold``, or
    ``StratifiedGroupKFold`` if there are groups, shuffled with ``random_state`` = repetition: they
    partition the rows. Validation is drawn from the rest with the seed ``number``, as
    :func:`stratified` and :func:`by_group` do: ``val_share`` / (1 - 1 / ``folds``) of the rest, so
    that ``val_share`` is of all rows here too.

    Raises:
        TooSmall: a class has fewer rows than there are folds, or too few for validation.
        RequestError: too few groups have a positive.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    labels = np.asarray(y)
    values, counts = np.unique(labels, return_counts=True)
    if counts.min() < folds:
        raise TooSmall(values[counts.argmin()], counts.min())
    repetition, fold = divmod(number, folds)
    divider = StratifiedKFold if groups is None else StratifiedGroupKFold
    every = divider(folds, shuffle=True, random_state=repetition)
    rest, test = list(every.split(labels, labels, groups))[fold]
    shares: Any = {"val_share": val_share / (1 - 1 / folds), "test_share": 0.0}
    if groups is None:
        train, val, _ = stratified(labels[rest], seed=number, **shares)
    else:
        train, val, _ = by_group(labels[rest], np.asarray(groups)[rest], seed=number, **shares)
    return rest[train], rest[val], test


def by_group(
    y: ArrayLike,
    groups: ArrayLike,
    *,
    seed: int,
    val_share: float = VAL_SHARE,
    test_share: float = TEST_SHARE,
) -> Indices:
    """Row numbers of splits that share no group.

    Groups with and without a rare row (any class but the commonest) are split separately, so every
    split gets positives. The shares are of the groups, and roughly of the rows.
    """
    labels, group = np.asarray(y), np.asarray(groups)
    _, index = np.unique(group, return_inverse=True)
    values, counts = np.unique(labels, return_counts=True)
    rare = labels != values[counts.argmax()]
    has_rare = np.bincount(index, weights=rare) > 0
    least = 3 if test_share else 2
    if has_rare.sum() < least:
        raise RequestError(
            f"a grouped split needs at least {least} groups with a positive, found"
            f" {has_rare.sum()}: use split=stratified or another group column"
        )
    divided = [
        _three_ways(np.flatnonzero(has_rare == kind), seed + kind, val_share, test_share)
        for kind in (0, 1)
    ]
    member = [np.concatenate(pieces) for pieces in zip(*divided, strict=True)]
    train, val, test = (np.flatnonzero(np.isin(index, part)) for part in member)
    return train, val, test


def _three_ways(
    items: NDArray[np.int64], seed: int, val_share: float, test_share: float
) -> Indices:
    if not len(items):
        return items, items, items
    shuffled = np.random.default_rng(seed).permutation(items)
    n_test, n_val = _share(len(items), test_share, 1), _share(len(items), val_share, 1)
    test, val, train = np.split(shuffled, [n_test, n_test + n_val])
    return train, val, test

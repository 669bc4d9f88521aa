"""Train, validation and test rows, 60 / 15 / 25: stratified, by group or by time."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rarelab.errors import RequestError

Indices = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]

VAL_SHARE = 0.15
TEST_SHARE = 0.25


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
    go to train. Rows keep their order within a split. ValueError if a class is too small.
    """
    rng = np.random.default_rng(seed)
    labels = np.asarray(y)
    parts: tuple[list, list, list] = ([], [], [])
    for value in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == value))
        n_test = _share(len(rows), test_share, minimum)
        n_val = _share(len(rows), val_share, minimum)
        if len(rows) - n_test - n_val < minimum:
            raise ValueError(f"class {value} has {len(rows)} rows, too few for the splits")
        for part, piece in zip(parts, np.split(rows, [n_test, n_test + n_val]), strict=True):
            part.append(piece)
    test, val, train = (np.sort(np.concatenate(part)) for part in parts)
    return train, val, test


def _share(n: int, share: float, minimum: int) -> int:
    return max(minimum, round(share * n)) if share else 0


def by_time(time: ArrayLike) -> Indices:
    """Row numbers with the oldest 60 % in train, the next 15 % in validation, the newest in test.

    Rows with equal times keep their order, so a tie may straddle a boundary.
    """
    order = np.argsort(np.asarray(time), kind="stable")
    first = round((1 - VAL_SHARE - TEST_SHARE) * len(order))
    second = round((1 - TEST_SHARE) * len(order))
    train, val, test = np.split(order, [first, second])
    return train, val, test


def by_group(y: ArrayLike, groups: ArrayLike, *, seed: int) -> Indices:
    """Row numbers of splits that share no group.

    Groups with and without a rare row (any class but the commonest) are split separately, so every
    split gets positives. Sizes are 60 / 15 / 25 % of the groups, and roughly that of the rows.
    """
    labels, group = np.asarray(y), np.asarray(groups)
    _, index = np.unique(group, return_inverse=True)
    values, counts = np.unique(labels, return_counts=True)
    rare = labels != values[counts.argmax()]
    has_rare = np.bincount(index, weights=rare) > 0
    if has_rare.sum() < 3:
        raise RequestError(
            f"a grouped split needs at least 3 groups with a positive, found {has_rare.sum()}:"
            " use split=stratified or another group column"
        )
    divided = [_three_ways(np.flatnonzero(has_rare == kind), seed + kind) for kind in (0, 1)]
    member = [np.concatenate(pieces) for pieces in zip(*divided, strict=True)]
    train, val, test = (np.flatnonzero(np.isin(index, part)) for part in member)
    return train, val, test


def _three_ways(items: NDArray[np.int64], seed: int) -> Indices:
    if not len(items):
        return items, items, items
    shuffled = np.random.default_rng(seed).permutation(items)
    n_test, n_val = max(1, round(TEST_SHARE * len(items))), max(1, round(VAL_SHARE * len(items)))
    test, val, train = np.split(shuffled, [n_test, n_test + n_val])
    return train, val, test

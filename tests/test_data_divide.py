"""How rows are split: shares, classes, groups, time, folds."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, TimeSeriesSplit

from rarelab.data.tables.divide import TooSmall, by_fold, by_group, by_time, stratified, thinned
from rarelab.errors import RequestError

SHARES = st.tuples(st.floats(0.02, 0.45), st.floats(0.02, 0.45))
"""Of validation and test."""


def shares(val: float, test: float) -> dict[str, float]:
    return {"val_share": val, "test_share": test}


def labels(counts: list[int]) -> np.ndarray:
    return np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))


def in_groups(seed: int, n_groups: int = 60, rows: int = 900) -> tuple[np.ndarray, np.ndarray]:
    """Labels and groups; positives are in about every sixth group."""
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, n_groups, size=rows)
    return np.isin(groups, np.arange(n_groups // 6)) & (rng.random(rows) < 0.5), groups


def partition(parts, rows: int) -> bool:
    return sorted(np.concatenate(parts)) == list(range(rows))


@given(counts=st.lists(st.integers(3, 200), min_size=2, max_size=5), seed=st.integers(0, 2**32 - 1))
def test_stratified_splits_every_class_60_15_25(counts: list[int], seed: int) -> None:
    y = labels(counts)
    parts = stratified(y, seed=seed)
    assert partition(parts, len(y))
    for part, share in zip(parts, (0.60, 0.15, 0.25), strict=True):
        assert (np.diff(part) > 0).all()
        got = np.bincount(y[part], minlength=len(counts))
        assert (got >= 1).all()
        assert (abs(got - share * np.array(counts)) <= 1.5).all()


def test_a_long_tail_leaves_each_class_its_share_and_a_longer_one_a_part_of_them() -> None:
    y = labels([500, 400, 300])
    kept = {ratio: thinned(y, classes=3, imbalance=ratio, seed=4) for ratio in (1, 25, 100)}
    assert kept[1].tolist() == [*range(1200)]
    assert np.bincount(y[kept[25]]).tolist() == [500, 400 / 5, 300 / 25]
    assert np.bincount(y[kept[100]]).tolist() == [500, 400 / 10, 300 / 100]
    assert {*kept[100]} < {*kept[25]} and (np.diff(kept[25]) > 0).all()
    other = thinned(y, classes=3, imbalance=25, seed=5)
    assert len(other) == len(kept[25]) and {*other} != {*kept[25]}
    with pytest.raises(TooSmall) as refused:
        thinned(y, classes=3, imbalance=601, seed=4)
    assert (refused.value.label, refused.value.rows) == (2, 300)


@settings(max_examples=40, deadline=None)
@given(shared=SHARES, seed=st.integers(0, 100))
def test_shares_are_those_asked_for(shared: tuple[float, float], seed: int) -> None:
    counts = np.array([400, 60])
    y, (val, test) = labels(counts.tolist()), shared
    expected = (1 - val - test, val, test)
    for part, share in zip(stratified(y, seed=seed, **shares(*shared)), expected, strict=True):
        assert (abs(np.bincount(y[part]) - share * counts) <= 1.5).all()
    time = np.random.default_rng(seed).permutation(len(y))
    for part, share in zip(by_time(time, **shares(*shared)), expected, strict=True):
        assert abs(len(part) - share * len(y)) <= 1
    positive, groups = in_groups(seed)
    parts = by_group(positive, groups, seed=seed, **shares(*shared))
    for part, share in zip(parts, expected, strict=True):
        assert abs(len(np.unique(groups[part])) - share * 60) <= 3


def test_the_seed_determines_the_split() -> None:
    y = np.arange(400) % 4 == 0
    first, again, other = (stratified(y, seed=seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_a_class_of_two_rows_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="class 1 has 2 rows"):
        stratified([0] * 10 + [1] * 2, seed=0)


def test_time_puts_the_newest_rows_in_test() -> None:
    time = np.random.default_rng(0).permutation(1000)
    train, val, test = by_time(time)
    assert (len(train), len(val), len(test)) == (600, 150, 250)
    assert time[train].max() < time[val].min() <= time[val].max() < time[test].min()


@given(rows=st.integers(20, 400), origins=st.integers(1, 6), shared=SHARES)
def test_rolling_origins_train_on_the_past_and_test_consecutive_windows(
    rows: int, origins: int, shared: tuple[float, float]
) -> None:
    time = np.random.default_rng(rows).permutation(rows)
    options = {**shares(*shared), "origins": origins}
    found = [by_time(time, **options, number=number) for number in range(origins)]
    whole = by_time(time, **shares(*shared))
    assert np.array_equal(np.concatenate([test for *_, test in found]), whole[2])
    assert np.array_equal(found[0][0], whole[0]) and np.array_equal(found[0][1], whole[1])
    for train, val, test in found:
        seen = np.concatenate([train, val, test])
        assert np.array_equal(np.sort(time[seen]), np.arange(len(seen)))  # all rows up to its end
        assert (np.diff(time[seen]) > 0).all()  # train, then validation, then test
        assert len(val) == len(whole[1])
    assert all(len(a[0]) <= len(b[0]) for a, b in pairwise(found))
    assert np.ptp([len(test) for *_, test in found]) <= 1


def test_rolling_origins_are_scikit_learns_time_series_split() -> None:
    rows, origins = 1000, 5
    expected = TimeSeriesSplit(origins, test_size=50).split(np.zeros(rows))
    for number, (past, test) in enumerate(expected):
        train, val, ours = by_time(np.arange(rows), origins=origins, number=number)
        assert np.array_equal(np.concatenate([train, val]), past) and np.array_equal(ours, test)


def test_one_origin_is_the_split_by_time() -> None:
    time = np.random.default_rng(3).integers(0, 50, size=333)  # with ties
    for alone, one in zip(by_time(time), by_time(time, origins=1, number=0), strict=True):
        assert np.array_equal(alone, one)


@given(seed=st.integers(0, 1000))
def test_no_group_is_in_two_splits(seed: int) -> None:
    y, groups = in_groups(seed)
    parts = by_group(y, groups, seed=seed)
    assert partition(parts, 900)
    seen = [set(groups[part]) for part in parts]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    assert all(y[part].any() for part in parts)


def test_at_least_three_groups_must_have_positives() -> None:
    with pytest.raises(RequestError, match="at least 3 groups with a positive, found 2"):
        by_group([1, 1, 0, 0, 0], [1, 2, 3, 4, 5], seed=0)


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(12, 80), min_size=2, max_size=4),
    folds=st.integers(2, 6),
    repetition=st.integers(0, 3),
    val_share=st.floats(0.05, 0.3),
)
def test_the_folds_of_a_repetition_are_scikit_learns_and_partition_the_rows(
    counts: list[int], folds: int, repetition: int, val_share: float
) -> None:
    y = labels(counts)
    numbers = range(repetition * folds, (repetition + 1) * folds)
    found = [by_fold(y, folds=folds, number=n, val_share=val_share) for n in numbers]
    expected = StratifiedKFold(folds, shuffle=True, random_state=repetition).split(y, y)
    for parts, (_, test) in zip(found, expected, strict=True):
        assert partition(parts, len(y)) and np.array_equal(parts[2], test)
        got = np.bincount(y[parts[1]], minlength=len(counts))
        assert (abs(got - val_share * np.array(counts)) <= 2).all() and got.min() >= 1
    assert partition([test for *_, test in found], len(y))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), folds=st.integers(2, 5), repetition=st.integers(0, 2))
def test_grouped_folds_are_scikit_learns_and_share_no_group(
    seed: int, folds: int, repetition: int
) -> None:
    y, groups = in_groups(seed)
    numbers = range(repetition * folds, (repetition + 1) * folds)
    found = [by_fold(y, groups, folds=folds, number=n) for n in numbers]
    divider = StratifiedGroupKFold(folds, shuffle=True, random_state=repetition)
    for parts, (_, test) in zip(found, divider.split(y, y, groups), strict=True):
        assert partition(parts, len(y)) and np.array_equal(parts[2], test)
        seen = [set(groups[part]) for part in parts]
        assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
        assert y[parts[0]].any() and y[parts[1]].any()
    assert partition([test for *_, test in found], len(y))


def test_repetitions_are_other_folds_and_each_fold_has_its_own_validation() -> None:
    y = np.arange(300) % 5 == 0
    first, next_fold, again = (by_fold(y, folds=5, number=n) for n in (0, 1, 5))
    assert not np.array_equal(first[2], again[2])
    assert not set(first[1]) & set(first[2]) and not np.array_equal(first[1], next_fold[1])


def test_a_class_with_fewer_rows_than_folds_is_refused_without_a_warning() -> None:
    with warnings.catch_warnings(action="error"), pytest.raises(ValueError, match="has 4 rows"):
        by_fold([0] * 50 + [1] * 4, folds=5, number=0)

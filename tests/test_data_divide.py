"""How rows are split: shares, classes, groups, time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rarelab.data.tables.divide import by_group, by_time, stratified
from rarelab.errors import RequestError


@given(counts=st.lists(st.integers(3, 200), min_size=2, max_size=5), seed=st.integers(0, 2**32 - 1))
def test_stratified_splits_every_class_60_15_25(counts: list[int], seed: int) -> None:
    y = np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))
    parts = stratified(y, seed=seed)
    assert sorted(np.concatenate(parts)) == list(range(len(y)))
    for part, share in zip(parts, (0.60, 0.15, 0.25), strict=True):
        assert (np.diff(part) > 0).all()
        got = np.bincount(y[part], minlength=len(counts))
        assert (got >= 1).all()
        assert (abs(got - share * np.array(counts)) <= 1.5).all()


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


@given(seed=st.integers(0, 1000))
def test_no_group_is_in_two_splits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 60, size=900)
    y = np.isin(groups, np.arange(9)) & (rng.random(900) < 0.5)
    parts = by_group(y, groups, seed=seed)
    assert sorted(np.concatenate(parts)) == list(range(900))
    seen = [set(groups[part]) for part in parts]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    assert all(y[part].any() for part in parts)


def test_at_least_three_groups_must_have_positives() -> None:
    with pytest.raises(RequestError, match="at least 3 groups with a positive, found 2"):
        by_group([1, 1, 0, 0, 0], [1, 2, 3, 4, 5], seed=0)

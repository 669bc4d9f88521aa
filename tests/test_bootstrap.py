"""The bootstrap agrees with row-by-row resampling and scikit-learn's average precision."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from sklearn.metrics import average_precision_score

from rarelab.metrics.bootstrap import (
    FEWEST_POSITIVES,
    Cells,
    bootstrap_interval,
    resampled_precision,
    weighted_precision,
)


def rows(n, rate, seed, step=0.25):
    rng = np.random.default_rng(seed)
    positives = rng.random(n) < rate
    positives[:3] = True
    scores = rng.normal(size=n) + 1.5 * positives
    return (np.round(scores / step) * step if step else scores), positives


def brute_force(scores, positives, n, seed):
    """Macro average precision of n resamples, over the columns with a positive in each."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        weight = np.bincount(rng.integers(0, len(scores), len(scores)), minlength=len(scores))
        columns = [c for c in range(scores.shape[1]) if weight[positives[:, c]].any()]
        found.append(
            np.mean(
                [
                    average_precision_score(positives[:, c], scores[:, c], sample_weight=weight)
                    for c in columns
                ]
            )
        )
    return np.array(found)


@pytest.mark.parametrize("step", [None, 0.25, 2.0])
@pytest.mark.parametrize("rate", [0.02, 0.5, 1.0])
def test_integer_weights_give_the_weighted_metric(step, rate):
    scores, positives = rows(300, rate, seed=0, step=step)
    weights = np.random.default_rng(1).integers(0, 4, size=(20, 300))
    counts = Cells(scores, positives).counts(weights)
    assert counts.sum(axis=1).tolist() == weights.sum(axis=1).tolist()
    found = weighted_precision(counts[:, 0:-1:2], counts[:, 1:-1:2])
    expected = [average_precision_score(positives, scores, sample_weight=w) for w in weights]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("n", "rate", "step", "columns"),
    [
        pytest.param(1_500, 0.01, 0.5, 1, id="a draw per cell"),
        pytest.param(300, 0.4, None, 1, id="a draw per row"),
        pytest.param(200, 0.1, 0.25, 3, id="several columns"),
    ],
)
def test_resamples_have_the_distribution_of_row_by_row_resampling(n, rate, step, columns):
    parts = [rows(n, rate, seed, step) for seed in range(columns)]
    scores, positives = (np.stack(part, axis=1) for part in zip(*parts, strict=True))
    found = resampled_precision(scores, positives, np.random.default_rng(2), 4_000)
    expected = brute_force(scores, positives, 800, seed=3)
    assert ks_2samp(found, expected).pvalue > 0.001
    error = expected.std() * math.sqrt(1 / len(found) + 1 / len(expected))
    assert abs(found.mean() - expected.mean()) < 4 * error
    assert found.std() == pytest.approx(expected.std(), rel=0.12)


def test_interval_depends_only_on_the_seed_and_leaves_global_generators_alone():
    scores, positives = map(torch.from_numpy, rows(2_000, 0.05, seed=4))
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = bootstrap_interval(scores, positives, seed=7)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])
    torch.manual_seed(123)
    assert bootstrap_interval(scores, positives, seed=7) == first
    assert bootstrap_interval(scores, positives, seed=8) != first


def test_interval_is_wider_at_a_higher_level_and_contains_the_estimate():
    scores, positives = map(torch.from_numpy, rows(4_000, 0.02, seed=5))
    point = average_precision_score(positives, scores)
    low, high = bootstrap_interval(scores, positives, seed=0)
    narrow_low, narrow_high = bootstrap_interval(scores, positives, seed=0, level=0.5)
    assert low < narrow_low < point < narrow_high < high


def test_interval_has_about_its_nominal_coverage():
    truth_scores, truth_positives = rows(400_000, 0.1, seed=6, step=None)
    truth = average_precision_score(truth_positives, truth_scores)
    covered = []
    for start in range(0, 300_000, 1_500):
        part = slice(start, start + 1_500)
        low, high = bootstrap_interval(
            torch.from_numpy(truth_scores[part]),
            torch.from_numpy(truth_positives[part]),
            seed=start,
            n=200,
            level=0.9,
        )
        covered.append(low <= truth <= high)
    assert 0.84 < np.mean(covered) < 0.95


def test_a_single_column_is_the_same_as_a_vector():
    scores, positives = map(torch.from_numpy, rows(500, 0.1, seed=7))
    expected = bootstrap_interval(scores, positives, seed=1)
    assert bootstrap_interval(scores[:, None], positives[:, None], seed=1) == expected


def test_undefined_intervals_are_nan():
    scores, positives = map(torch.from_numpy, rows(50, 0.2, seed=8))
    none = torch.zeros_like(positives)
    for case in [(scores, none), (scores[:0], none[:0]), (scores * math.nan, positives)]:
        assert all(math.isnan(v) for v in bootstrap_interval(*case, seed=0))


def test_resamples_without_a_positive_are_left_out():
    scores, positives = np.arange(5.0)[:, None], np.arange(5)[:, None] == 4
    found = resampled_precision(scores, positives, np.random.default_rng(0), 200)
    assert 40 < np.isnan(found).sum() < 90  # 0.8^5 of them
    assert np.nanmin(found) == 1.0


@pytest.mark.parametrize("count", [1, FEWEST_POSITIVES - 1, FEWEST_POSITIVES])
def test_too_few_positives_have_no_interval(count):
    """Of several columns the rarest that occurs decides."""
    scores = torch.from_numpy(np.random.default_rng(0).normal(size=(60, 3)))
    positives = torch.zeros(60, 3, dtype=torch.bool)
    positives[:count, 0], positives[30:, 1] = True, True
    for several in (scores, positives), (scores[:, 0], positives[:, 0]):
        low, high = bootstrap_interval(*several, seed=0, n=100)
        assert (low < high) if count == FEWEST_POSITIVES else math.isnan(low) and math.isnan(high)


@pytest.mark.parametrize("options", [{"n": 0}, {"level": 0.0}, {"level": 1.0}])
def test_values_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="expected n >= 1 and 0 < level < 1"):
        bootstrap_interval(torch.zeros(2), torch.ones(2), seed=0, **options)

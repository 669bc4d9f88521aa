"""Tests, intervals and power agree with scipy, statsmodels and one another."""

import math

import numpy as np
import pytest
from baycomp import CorrelatedTTest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from rarelab.compare import power
from rarelab.compare.statistics import (
    corrected_t,
    equivalence_p,
    holm,
    mean_interval,
    paired_test,
    posterior,
    sign_flip,
    standardised,
    superiority,
)


def differences(n: int, seed: int, shift: float = 0.4) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1.0, size=n)


@pytest.mark.parametrize("n", [2, 5, 9])
@pytest.mark.parametrize("seed", range(4))
def test_sign_flip_equals_scipys_permutation_test(n: int, seed: int) -> None:
    d = differences(n, seed)
    expected = stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=np.inf, axis=0
    )
    assert sign_flip(d).p == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("n", [20, 33])
def test_random_sign_patterns_approximate_the_exact_p(n: int) -> None:
    d = np.repeat([1.0, -1.0], [n - n // 3, n // 3])  # the number of +1 is binomial
    expected = stats.binomtest(n // 3, n).pvalue
    assert paired_test(d).p == pytest.approx(expected, rel=0.05)
    assert paired_test(d) == paired_test(d)
    assert paired_test(np.ones(n)).p == paired_test(np.ones(n)).least_p == 2**-17


@pytest.mark.parametrize(("folds", "repeats"), [(5, 1), (10, 1), (10, 3)])
@pytest.mark.parametrize("margin", [0.01, 0.4, 2.0])
def test_the_posterior_equals_baycomps(folds: int, repeats: int, margin: float) -> None:
    d = differences(folds * repeats, folds)
    found = posterior(d, margin, ratio=1 / (folds - 1))  # a fold is tested, the others train
    expected = CorrelatedTTest.probs(np.zeros(len(d)), d, rope=margin, runs=repeats)
    assert found == pytest.approx(expected, abs=1e-12)
    wider = posterior(d, margin, ratio=1 / (folds - 1), rows_error=1.0)
    assert wider.below > found.below and wider.above > 0


def test_a_posterior_without_spread_or_with_one_pair() -> None:
    assert posterior([0.2, 0.2], 0.1) == (0, 0, 1)
    assert posterior([0.05, 0.05], 0.1) == (0, 1, 0)
    assert not posterior([0.2], 0.1).known


@pytest.mark.parametrize("n", [5, 8, 12])
@pytest.mark.parametrize("seed", range(3))
def test_equivalence_is_two_one_sided_sign_flip_tests(n: int, seed: int) -> None:
    d, margin = differences(n, seed), 0.7

    def one_sided(values: np.ndarray) -> float:
        return stats.permutation_test(
            (values,), np.mean, permutation_type="samples", n_resamples=np.inf,
            alternative="greater", axis=0,
        ).pvalue  # fmt: skip

    expected = max(one_sided(d + margin), one_sided(margin - d))
    assert equivalence_p(d, margin) == pytest.approx(expected)


@pytest.mark.parametrize("shift", [0.0, 0.3, 2.0])
def test_equivalence_over_splits_agrees_with_the_interval_at_90(shift: float) -> None:
    d, ratio = differences(10, 3, shift), 0.125
    at_90 = corrected_t(d, ratio, level=0.9)
    edge = max(abs(at_90.low), abs(at_90.high))
    assert equivalence_p(d, edge, ratio=ratio) == pytest.approx(0.05)
    assert (
        equivalence_p(d, 0.9 * edge, ratio=ratio) > 0.05 > equivalence_p(d, 1.1 * edge, ratio=ratio)
    )
    assert equivalence_p(d[:4], 100.0, ratio=ratio) == 1.0  # four splits show nothing


@pytest.mark.parametrize("n", [5, 6, 7, 10, 16, 17, 20, 40])
def test_an_interval_excludes_exactly_what_its_test_rejects(n: int) -> None:
    for seed in range(12):
        d = differences(n, seed)
        test = paired_test(d)
        alpha = 1 - test.level
        edges = (test.low, test.high)
        for shift in (0.0, *(edge + move for edge in edges for move in (-1e-6, 1e-6))):
            outside = not test.low <= shift <= test.high
            assert outside == (paired_test(d - shift).p <= alpha + 1e-9), (seed, shift)


@pytest.mark.parametrize(
    "d",
    [
        [0.0] * 45 + [0.01] * 5,
        [0.0] * 10 + [0.1] * 10,
        [0.0] * 12 + [-0.02] * 6,
        [0.0] * 4 + [0.1] * 6,
        [0.1, 0.2, -0.3, 0.0, 0.0, 0.1, 0.1, 0.1],
    ],
    ids=str,
)
def test_interval_and_p_agree_despite_zero_differences(d: list[float]) -> None:
    test = paired_test(d)
    assert (test.p <= 1 - test.level) == (test.low > 0 or test.high < 0)


def test_the_interval_of_a_recall_on_few_positives_agrees_with_its_test() -> None:
    """Differences are multiples of 1/123: many ties and zeros, and sums that round near zero."""
    rng, ends = np.random.default_rng(1), 0
    for n in [6, 10, 16, 18, 24] * 12:
        d = np.round(rng.normal(0.012, 0.03, n) * 123) / 123
        test = paired_test(d)
        assert (test.p <= 1 - test.level) == (test.low > 0 or test.high < 0), d
        ends += test.low == 0
    assert ends


@pytest.mark.parametrize("n", [2, 3, 4])
def test_with_few_pairs_the_interval_is_unbounded(n: int) -> None:
    test = paired_test(np.full(n, 0.3))
    assert (test.low, test.high) == (-math.inf, math.inf)
    assert test.p == test.least_p == 2.0 ** (1 - n)


def test_five_pairs_state_the_level_they_reach() -> None:
    d = np.array([0.1, 0.2, 0.3, 0.4, 0.7])
    test = paired_test(d)
    assert (test.low, test.high, test.level) == pytest.approx((0.1, 0.7, 0.9375))
    assert test.p == 0.0625


@pytest.mark.parametrize("n", [6, 8, 10, 16, 17, 20, 30])
def test_the_level_is_close_to_the_requested_one_and_never_below(n: int) -> None:
    assert 0.95 <= paired_test(differences(n, 0)).level <= 0.97


@pytest.mark.parametrize("n", [5, 10, 19])
def test_intervals_have_their_nominal_coverage(n: int) -> None:
    rng = np.random.default_rng(n)
    of_difference = of_mean = 0
    level = math.nan
    studies = 3000 if n <= 16 else 200
    for d in rng.normal(0.5, 1.0, size=(studies, n)):
        test = paired_test(d)
        level = test.level
        of_difference += test.low <= 0.5 <= test.high
        low, high = mean_interval(d)
        of_mean += low <= 0.5 <= high
    margin = 0.02 if n <= 16 else 0.05
    assert abs(of_difference / studies - level) < margin
    assert abs(of_mean / studies - 0.95) < margin


@pytest.mark.parametrize("d", [np.zeros(8), np.zeros(20)])
def test_runs_without_any_difference_show_none(d: np.ndarray) -> None:
    test = paired_test(d)
    assert (test.p, test.low, test.high, test.difference) == (1.0, 0.0, 0.0, 0.0)


def test_ties_and_zeros_are_accepted() -> None:
    d = np.array([0.0, 0.1, 0.1, -0.1, 0.2, 0.2, 0.0, 0.3, 0.1, 0.2])
    expected = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip(d).p == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("bad", [[], [math.nan], [0.1, math.inf]])
def test_differences_that_are_empty_or_not_finite_are_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="finite differences"):
        paired_test(bad)


def test_corrected_t_is_the_published_formula() -> None:
    d, ratio = differences(10, 3), 25 / 60
    t = d.mean() / math.sqrt((1 / 10 + ratio) * d.var(ddof=1))
    test = corrected_t(d, ratio)
    assert test.p == pytest.approx(2 * stats.t.sf(abs(t), 9))
    assert corrected_t(d, 0.0).p == pytest.approx(stats.ttest_1samp(d, 0.0).pvalue)
    plain = stats.ttest_1samp(d, 0.0).confidence_interval()
    assert (corrected_t(d, 0.0).low, corrected_t(d, 0.0).high) == pytest.approx(tuple(plain))
    assert test.high - test.low > 1.5 * (plain.high - plain.low)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_fewer_than_five_splits_show_no_difference(n: int) -> None:
    for d in (np.full(n, 1 / 12), np.linspace(0.9, 0.901, n)):  # tied by chance, or sure of itself
        test = corrected_t(d, 0.25)
        assert (test.p, test.least_p, test.low, test.high) == (1, 1, -math.inf, math.inf)
        assert test.difference == pytest.approx(d.mean())
    assert corrected_t(np.linspace(0.9, 0.901, 5), 0.25).p < 0.001


def test_corrected_t_holds_its_level_where_splits_overlap() -> None:
    """Two methods that are equally good overall, compared on splits of 100 rows."""
    rng, plain, corrected = np.random.default_rng(0), 0, 0
    for _ in range(400):
        sample = rng.normal(size=100)  # per row, how much better one method did
        d = []
        for _ in range(10):
            test = rng.permutation(100)[:25]
            d.append(sample[test].mean())
        plain += stats.ttest_1samp(d, 0.0).pvalue <= 0.05
        corrected += corrected_t(np.array(d), 25 / 60).p <= 0.05
    assert corrected / 400 < 0.08 < 0.2 < plain / 400


def test_holm_equals_statsmodels() -> None:
    rng = np.random.default_rng(1)
    for m in (1, 2, 5, 12):
        p = rng.random(m) ** 3
        assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert holm([0.01, 0.01, 0.5]) == pytest.approx([0.03, 0.03, 0.5])
    assert holm([]) == []


def test_effect_sizes() -> None:
    assert standardised([1.0, 2.0, 3.0]) == pytest.approx(2.0)
    assert standardised([0.2, 0.2]) == math.inf and standardised([0.0, 0.0]) == 0.0
    assert math.isnan(standardised([0.2]))
    assert superiority([1.0, -1.0, 0.0, 2.0]) == 0.625


@pytest.mark.parametrize("effect", [0.3, 0.8, 1.5, -1.5])
@pytest.mark.parametrize("alpha", [0.05, 0.0125])
def test_pairs_needed_equals_statsmodels(effect: float, alpha: float) -> None:
    expected = TTestPower().solve_power(abs(effect), alpha=alpha, power=0.8)
    assert power.pairs_needed(effect, alpha) == math.ceil(expected)


def test_power_at_the_edges() -> None:
    assert power.pairs_needed(0.01, 0.05) is None and power.pairs_needed(math.nan, 0.05) is None
    assert power.pairs_needed(math.inf, 0.05) == 2
    # Overlapping splits put a floor under the error: no number of them reveals a small effect.
    assert power.pairs_needed(1.0, 0.05, ratio=25 / 60) is None
    assert power.pairs_needed(1.0, 0.05) == 10
    assert power.detectable(1, 0.05) == math.inf
    assert power.power(power.detectable(10, 0.05), 10, 0.05) == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize("alpha", [0.05, 0.01, 0.3])
@pytest.mark.parametrize("comparisons", [1, 2, 4, 20, 300])
def test_least_pairs_is_where_the_exact_test_can_first_reject(
    comparisons: int, alpha: float
) -> None:
    n = power.least_pairs(comparisons, alpha)
    for pairs, possible in ((n - 1, False), (n, True)):
        least = paired_test(np.linspace(1.0, 2.0, pairs)).p
        assert (holm([least] + [1.0] * (comparisons - 1))[0] <= alpha) is possible

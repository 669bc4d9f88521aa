"""Curves of arms with intervals, against plain loops over repeated rows."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import precision_recall_curve

from rarelab.compare.arms import Unit
from rarelab.compare.bands import RECALLS, bands, curves, reliability_of, shares_around
from rarelab.compare.pairs import DRAWN, FIXED, SPLITS
from rarelab.compare.rows import TestRows, resample, row_noise
from rarelab.metrics.reliability import reliability


def run(seed: int, *, rows: int = 200, step: float = 0.0, draw: int = 5) -> TestRows:
    targets = (np.random.default_rng(draw).random(rows) < 0.1).astype(np.int64)
    scores = np.random.default_rng(seed).normal(size=rows) + 1.5 * targets
    return TestRows((np.round(scores / step) * step if step else scores)[:, None], targets)


@pytest.mark.parametrize("step", [0.0, 0.5])
def test_the_curves_of_weighted_rows_are_those_of_repeated_rows(step: float) -> None:
    this = run(0, step=step)
    shares = np.array([0.005, 0.02, 0.1, 0.37, 1.0])
    rng = np.random.default_rng(3)
    drawn = rng.multinomial(200, np.full(200, 1 / 200), size=8).T.astype(np.float32)
    found = curves(this, shares)(np.concatenate([np.ones((200, 1), np.float32), drawn], axis=1))
    for b, weights in enumerate([np.ones(200, int), *drawn.T.astype(int)]):
        scores = np.repeat(this.scores[:, 0], weights)
        hits = np.repeat(this.targets, weights)
        for p, share in enumerate(shares):
            size = math.ceil(round(share * 200, 9))
            edge = np.sort(scores)[::-1][size - 1]
            above, level = scores > edge, scores == edge
            caught = hits[above].sum() + (size - above.sum()) * hits[level].mean()
            assert found[p, b] == pytest.approx(caught / hits.sum())
        precision, recall, _ = precision_recall_curve(hits, scores)
        for p, wanted in enumerate(RECALLS):
            # From the lowest threshold up: the last that still has the recall is the highest.
            expected = precision[np.flatnonzero(recall >= wanted - 1e-9)[-1]]
            assert found[len(shares) + p, b] == pytest.approx(expected)


def test_on_one_split_a_band_is_the_noise_of_seeds_and_test_rows() -> None:
    runs = {Unit(0, seed): run(seed) for seed in range(4)}
    found = bands({"a": runs}, 0.05, varied=FIXED)
    assert found is not None
    band = found.recall["a"]
    at = int(np.flatnonzero(band.x == 0.05)[0])
    values = resample(list(runs.values()), "test/recall_at_q/0.05")
    expected = row_noise(values, run(0).targets)
    assert band.mean[at] == pytest.approx(values[:, 0].mean())
    assert band.low[at] == pytest.approx(max(0, expected.low), abs=0.02)
    assert band.high[at] == pytest.approx(min(1, expected.high), abs=0.02)
    for one in (*found.recall.values(), *found.precision.values()):
        assert (one.low <= one.mean + 1e-9).all() and (one.mean <= one.high + 1e-9).all()
        assert one.low.min() >= 0 and one.high.max() <= 1


@pytest.mark.parametrize(("varied", "ratio"), [(DRAWN, None), (SPLITS, 0.4)])
def test_elsewhere_a_band_is_the_spread_over_runs(varied: str, ratio: float | None) -> None:
    runs = {Unit(seed, 0): run(seed, draw=seed) for seed in range(5)}
    found = bands({"a": runs}, 0.1, varied=varied, ratio=ratio)
    assert found is not None
    band = found.recall["a"]
    at = int(np.flatnonzero(band.x == 0.1)[0])
    values = [resample([one], "test/recall_at_q/0.1")[0, 0] for one in runs.values()]
    error = math.sqrt((1 / 5 + (ratio or 0)) * np.var(values, ddof=1))
    half = stats.t.ppf(0.975, 4) * error
    assert band.mean[at] == pytest.approx(np.mean(values))
    assert band.low[at] == pytest.approx(max(0, np.mean(values) - half))
    assert band.high[at] == pytest.approx(min(1, np.mean(values) + half))


def test_where_there_are_no_bands() -> None:
    several = TestRows(np.zeros((6, 3)), np.array([0, 1, 2, 0, 1, 2]))
    none = TestRows(np.zeros((6, 1)), np.zeros(6, dtype=np.int64))
    other = TestRows(run(0).scores, 1 - run(0).targets)
    for runs in ({}, {"a": {Unit(0, 0): several}}, {"a": {Unit(0, 0): none}}):
        assert bands(runs, 0.1, varied=FIXED) is None
    mixed = {Unit(0, 0): run(0), Unit(0, 1): other}
    assert bands({"a": mixed}, 0.1, varied=FIXED) is None


@pytest.mark.parametrize("budget", [0.0001, 0.005, 0.5, 0.99])
def test_the_budget_is_on_the_axis(budget: float) -> None:
    shares = shares_around(budget, 1000)
    assert budget in shares and (np.diff(shares) > 0).all()
    assert shares[0] > 0 and shares[-1] <= 1 and len(shares) >= 60


def test_equal_runs_have_the_reliability_of_one() -> None:
    y = np.arange(2000) % 20 == 0
    y[:40] = True
    y = y[: np.flatnonzero(np.cumsum(y) == 120)[0] + 1]  # ten of 120 to a bin, however often
    p = 1 / (1 + np.exp(-np.random.default_rng(0).normal(size=len(y)) - 1.5 * y))
    one = reliability(torch.tensor(p), torch.tensor(y))
    three = reliability_of([(p, y)] * 3)
    for key in ("predicted", "rate", "low", "high"):
        assert three[key] == pytest.approx(one[key])
    assert np.sum(three["rows"]) == 3 * len(y)

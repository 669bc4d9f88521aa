"""The bootstrap over test rows: agrees with scikit-learn on the same weights, and covers."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.metrics import average_precision_score

from rarelab.compare import rows as rows_module
from rarelab.compare.rows import TestRows, read_test_rows, resample, row_noise, weigher
from rarelab.metrics.recorded import reported
from rarelab.runs.evaluation import write_predictions


def run(seed: int, *, rows: int = 300, shift: float = 1.0, step: float = 0.0) -> TestRows:
    rng = np.random.default_rng(99)
    targets = (rng.random(rows) < 0.1).astype(np.int64)
    scores = np.random.default_rng(seed).normal(size=rows) + shift * targets
    if step:
        scores = np.round(scores / step) * step
    return TestRows(scores[:, None], targets)


def weights(rows: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    drawn = rng.multinomial(rows, np.full(rows, 1 / rows), size=n)
    return drawn.T.astype(np.float32)


@pytest.mark.parametrize("step", [0.0, 0.5])
def test_average_precision_of_weighted_rows_equals_scikit_learns(step: float) -> None:
    this, drawn = run(0, step=step), weights(300, 15)
    found = weigher(this, "test/aucpr")(drawn)
    expected = [
        average_precision_score(this.targets, this.scores[:, 0], sample_weight=w) for w in drawn.T
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("step", [0.0, 0.5])
@pytest.mark.parametrize("quantile", ["0.005", "0.05", "0.5"])
def test_recall_and_precision_at_the_top_count_repeated_rows(step: float, quantile: str) -> None:
    this, drawn = run(1, step=step), weights(300, 10)
    recall = weigher(this, f"test/recall_at_q/{quantile}")(drawn)
    precision = weigher(this, f"test/precision_at_q/{quantile}")(drawn)
    size = math.ceil(round(float(quantile) * 300, 9))
    for b, w in enumerate(drawn.T.astype(int)):
        scores, hits = np.repeat(this.scores[:, 0], w), np.repeat(this.targets, w)
        edge = np.sort(scores)[::-1][size - 1]
        above, level = scores > edge, scores == edge
        caught = hits[above].sum() + (size - above.sum()) * hits[level].mean()
        assert recall[b] == pytest.approx(caught / hits.sum())
        assert precision[b] == pytest.approx(caught / size)


def test_several_classes_are_averaged_over_those_in_the_resample() -> None:
    rng = np.random.default_rng(0)
    targets = np.array([0] * 40 + [1] * 8 + [2] * 2)
    this = TestRows(rng.normal(size=(50, 3)), targets)
    drawn = weights(50, 30)
    found = weigher(this, "test/aucpr")(drawn)
    for b, w in enumerate(drawn.T):
        present = [c for c in range(3) if w[targets == c].sum()]
        expected = np.mean(
            [
                average_precision_score(targets == c, this.scores[:, c], sample_weight=w)
                for c in present
            ]
        )
        assert found[b] == pytest.approx(expected, rel=1e-5)


def test_all_runs_are_resampled_alike_and_the_first_column_is_as_recorded() -> None:
    values = resample([run(0), run(0), run(1)], "test/aucpr")
    np.testing.assert_array_equal(values[0], values[1])
    assert np.ptp(values[2] - values[0]) > 0
    expected = average_precision_score(run(1).targets, run(1).scores[:, 0])
    assert values[2, 0] == pytest.approx(expected)


def test_runs_on_different_rows_are_not_paired() -> None:
    other = TestRows(run(0).scores, 1 - run(0).targets)
    with pytest.raises(ValueError, match="different rows"):
        resample([run(0), other], "test/aucpr")


def in_groups(seed: int, size: int = 5) -> TestRows:
    this = run(seed)
    return replace(this, groups=np.arange(len(this.targets)) // size)


def test_whole_groups_are_drawn_and_share_their_weight() -> None:
    groups = in_groups(0).groups
    assert groups is not None
    _, *chunks = rows_module._weights(300, 50, np.random.default_rng(0), groups)
    drawn = np.concatenate(chunks, axis=1)
    assert drawn.shape == (300, 50) and (drawn.reshape(60, 5, 50) == drawn[::5, None]).all()
    assert (drawn.sum(axis=0) == 300).all() and drawn[::5].max() > 1  # 60 of 60 equal groups
    alone = replace(run(0), groups=np.arange(300))
    metric = "test/aucpr"
    np.testing.assert_array_equal(resample([alone], metric), resample([run(0)], metric))


@pytest.mark.parametrize(
    "metric", ["test/aucpr", "test/recall_at_q/0.05", "test/precision_at_q/0.1"]
)
def test_a_resample_of_uneven_groups_is_scored_as_its_rows_repeated(metric: str) -> None:
    groups = np.repeat(np.arange(30), np.arange(30) % 7 + 1)
    rng = np.random.default_rng(0)
    targets = (rng.random(len(groups)) < 0.2).astype(np.int64)
    this = TestRows(np.round(rng.normal(size=(len(groups), 1)), 1), targets, groups=groups)
    _, drawn = rows_module._weights(len(groups), 40, np.random.default_rng(1), groups)
    found = weigher(this, metric)(drawn)
    assert np.ptp(drawn.sum(axis=0)) > 0
    for b, weight in enumerate(drawn.T.astype(int)):
        scores = torch.tensor(np.repeat(this.scores, weight, axis=0))
        again = torch.tensor(np.repeat(targets, weight))
        assert found[b] == pytest.approx(reported(metric, scores, again, classes=()))


def test_groups_are_read_by_value_and_a_row_without_one_is_alone(tmp_path: Path) -> None:
    logits, targets = torch.randn(6, 1), torch.tensor([0, 1, 0, 1, 0, 1])
    cards = pd.Series(["b", None, "a", "b", None, "a"])
    origin = {"row": np.arange(6), "given/group": cards, "given/amount": np.arange(6) / 2}
    path = tmp_path / "predictions.parquet"
    write_predictions(path, {"test": (logits, targets)}, ("0", "1"), {"test": origin})
    read = read_test_rows(path)
    assert read.groups is not None and read.groups.tolist() == [0, 2, 1, 0, 3, 1]
    assert read.amounts is not None and read.amounts.tolist() == [0, 0.5, 1, 1.5, 2, 2.5]


def test_runs_share_the_groups_that_any_of_them_has() -> None:
    metric = "test/aucpr"
    both = resample([in_groups(0), in_groups(1)], metric)
    np.testing.assert_array_equal(resample([run(0), in_groups(1)], metric), both)
    with pytest.raises(ValueError, match="group the test rows differently"):
        resample([in_groups(0), in_groups(1, size=3)], metric)


def test_more_work_means_fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "_WORK", 300 * 2 * 150)
    assert resample([run(0), run(1)], "test/aucpr").shape == (2, 151)
    assert resample([run(0)] * 30, "test/aucpr").shape == (30, 1 + rows_module.FEWEST)


def test_the_percentile_interval_of_one_pair_agrees_with_its_p() -> None:
    rng = np.random.default_rng(0)
    for shift in np.linspace(0.0, 0.4, 9):
        found = np.concatenate([[shift], rng.normal(shift, 0.1, size=999)])[None]
        noise = row_noise(found, run(0).targets)
        assert (noise.low, noise.high) == pytest.approx(np.quantile(found[0, 1:], [0.025, 0.975]))
        if abs(noise.p - 0.05) > 0.005:
            assert (noise.low > 0 or noise.high < 0) == (noise.p <= 0.05)


def test_of_more_than_two_classes_no_one_counts_as_positive() -> None:
    differences = np.random.default_rng(0).normal(size=(2, 100))
    assert row_noise(differences, np.repeat([0, 1], [90, 10])).counts() == "100, 10 positive"
    several = row_noise(differences, np.repeat([0, 1, 2], [10, 80, 10]))
    assert several.counts(" test rows") == "100 test rows"


def test_several_pairs_combine_the_noise_of_seeds_and_rows() -> None:
    rng = np.random.default_rng(0)
    seeds, rows = rng.normal(0.1, 0.04, size=6), rng.normal(0, 0.02, size=4000)
    found = np.concatenate([seeds[:, None], seeds[:, None] + rows], axis=1)
    noise = row_noise(found, run(0).targets)
    assert noise.rows_error == pytest.approx(0.02, rel=0.05)
    of_seeds = seeds.var(ddof=1) / 6
    assert noise.error == pytest.approx(math.sqrt(of_seeds + noise.rows_error**2))
    # Without row noise it reduces to the t test over seeds.
    alone = row_noise(np.repeat(seeds[:, None], 100, axis=1), run(0).targets)
    plain = stats.ttest_1samp(seeds, 0.0)
    assert alone.p == pytest.approx(plain.pvalue)
    assert (alone.low, alone.high) == pytest.approx(tuple(plain.confidence_interval()))


def test_the_interval_over_rows_covers_the_truth_of_all_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two fixed models on many test sets: the interval covers their difference on all rows."""
    monkeypatch.setattr(rows_module, "MOST", 300)
    rng = np.random.default_rng(7)
    targets = (rng.random(200_000) < 0.05).astype(np.int64)
    base = rng.normal(size=200_000) + 1.5 * targets
    other = base + rng.normal(0, 0.6, size=200_000) + 0.3 * targets
    models = [TestRows(scores[:, None], targets) for scores in (base, other)]
    ones = np.ones((200_000, 1), np.float32)
    truth = np.diff([weigher(model, "test/aucpr")(ones)[0] for model in models])
    covered = 0
    studies = 200
    for study in range(studies):
        part = slice(study * 1000, (study + 1) * 1000)
        pair = [TestRows(m.scores[part], m.targets[part]) for m in models]
        values = resample(pair, "test/aucpr", seed=study)
        noise = row_noise(values[1:] - values[:1], pair[0].targets)
        covered += noise.low <= truth[0] <= noise.high
    assert 0.90 <= covered / studies <= 0.985

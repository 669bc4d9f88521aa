"""The exact metrics against loops over rows, scikit-learn, and invariances."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

import metric_reference as reference
from rarelab import metrics
from rarelab.errors import RequestError
from rarelab.metrics import table
from rarelab.metrics.bootstrap import bootstrap_interval
from rarelab.metrics.costs import cheapest_threshold
from rarelab.metrics.tie_groups import top_size

METRICS = {
    "average_precision": metrics.average_precision,
    "auroc": metrics.auroc,
    "recall_at_quantile": lambda s, y: metrics.recall_at_quantile(s, y, quantile=0.3),
    "precision_at_quantile": lambda s, y: metrics.precision_at_quantile(s, y, quantile=0.3),
    "recall_at_fpr": lambda s, y: metrics.recall_at_fpr(s, y, fpr=0.25),
    "precision_at_recall": lambda s, y: metrics.precision_at_recall(s, y, recall=0.6),
    "partial_auroc": lambda s, y: metrics.partial_auroc(s, y, fpr=0.25),
}
small = settings(deadline=None, max_examples=60)


@st.composite
def ranked(draw, max_rows=40, both=True):
    """Scores on a coarse grid (many ties), with a positive and, if ``both``, a negative."""
    n = draw(st.integers(2, max_rows))
    scores = draw(st.lists(st.integers(-4, 4), min_size=n, max_size=n))
    positives = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    positives[0] = True
    positives[-1] = positives[-1] and not both
    return torch.tensor(scores, dtype=torch.float32), torch.tensor(positives)


def rows(n, rate, seed, step=None, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    positives = torch.rand(n, generator=generator) < rate
    positives[0] = True
    scores = torch.randn(n, generator=generator, dtype=dtype) + 1.5 * positives
    return (scores / step).round() * step if step else scores, positives


@pytest.mark.parametrize("step", [None, 0.01, 0.5, 100.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_average_precision_and_auroc_match_scikit_learn(step, dtype):
    for seed, (n, rate) in enumerate([(30, 0.3), (999, 0.01), (20_000, 0.002), (5_000, 0.9)]):
        scores, positives = rows(n, rate, seed, step, dtype)
        expected = average_precision_score(positives, scores)
        assert abs(metrics.average_precision(scores, positives) - expected) < 1e-12
        assert abs(metrics.auroc(scores, positives) - roc_auc_score(positives, scores)) < 1e-12


@given(ranked())
@small
def test_average_precision_and_auroc_follow_their_definitions(case):
    scores, positives = case
    s, y = scores.tolist(), positives.tolist()
    assert metrics.average_precision(*case) == pytest.approx(reference.average_precision(s, y))
    assert metrics.auroc(*case) == pytest.approx(reference.auroc(s, y))


@given(ranked(max_rows=6, both=False), st.sampled_from(["0.1", "0.25", "0.5", "0.7", "1.0"]))
@settings(deadline=None, max_examples=25)
def test_top_of_the_list_averages_over_all_orders_of_ties(case, quantile):
    scores, positives = case
    size = reference.top_size(quantile, len(scores))
    hits = reference.hits_in_top(scores.tolist(), positives.tolist(), size)
    recall = metrics.recall_at_quantile(scores, positives, quantile=float(quantile))
    precision = metrics.precision_at_quantile(scores, positives, quantile=float(quantile))
    assert recall == pytest.approx(hits / int(positives.sum()), abs=1e-12)
    assert precision == pytest.approx(hits / size, abs=1e-12)


@given(ranked(), st.sampled_from(["0.0", "0.05", "0.2", "0.5", "1.0"]))
@small
def test_recall_at_fpr_is_the_best_admissible_threshold(case, fpr):
    expected = reference.recall_at_fpr(case[0].tolist(), case[1].tolist(), fpr)
    assert metrics.recall_at_fpr(*case, fpr=float(fpr)) == pytest.approx(expected, abs=1e-12)


@given(ranked(), st.sampled_from(["0.05", "0.3", "0.5", "0.99", "1.0"]))
@small
def test_precision_at_recall_uses_the_highest_threshold(case, recall):
    expected = reference.precision_at_recall(case[0].tolist(), case[1].tolist(), Fraction(recall))
    found = metrics.precision_at_recall(*case, recall=float(recall))
    assert found == pytest.approx(expected, abs=1e-12)


@given(ranked(), st.sampled_from([0.01, 0.05, 0.2, 0.5, 1.0]))
@small
def test_partial_auroc_is_scikit_learns_without_its_standardisation(case, fpr):
    scores, positives = case
    standardised = roc_auc_score(positives, scores, max_fpr=fpr)
    ours = metrics.partial_auroc(scores, positives, fpr=fpr)
    if fpr == 1:  # scikit-learn does not standardise the full area
        assert ours == pytest.approx(standardised, abs=1e-12)
    else:
        again = (1 + (ours - fpr / 2) / (1 - fpr / 2)) / 2
        assert again == pytest.approx(standardised, abs=1e-12)


@pytest.mark.parametrize("step", [None, 0.5])
def test_partial_auroc_of_many_rows_matches_scikit_learn(step):
    scores, positives = rows(20_000, 0.01, seed=9, step=step)
    for fpr in (0.001, 0.01, 0.3):
        ours = metrics.partial_auroc(scores, positives, fpr=fpr)
        again = (1 + (ours - fpr / 2) / (1 - fpr / 2)) / 2
        assert again == pytest.approx(roc_auc_score(positives, scores, max_fpr=fpr), abs=1e-12)


@given(ranked(), st.data())
@small
def test_integer_weights_equal_repeated_rows(case, data):
    scores, positives = case
    weights = data.draw(st.lists(st.integers(0, 3), min_size=len(scores), max_size=len(scores)))
    weights[0], weights[-1] = 1, 2
    repeats = torch.tensor(weights)
    again = scores.repeat_interleave(repeats), positives.repeat_interleave(repeats)
    weight = repeats.double()
    share = math.ceil(0.3 * len(again[0])) / len(again[0])  # a whole number of rows
    for metric in (metrics.recall_at_quantile, metrics.precision_at_quantile):
        found = metric(scores, positives, quantile=share, sample_weight=weight)
        repeated = reference.hits_of_the_first(*again, round(share * len(again[0])))
        top = int(repeats[positives].sum()) if metric is metrics.recall_at_quantile else None
        expected = repeated / (top or round(share * len(again[0])))
        assert found == pytest.approx(expected, abs=1e-9)
    for metric, options in (
        (metrics.average_precision, {}),
        (metrics.auroc, {}),
        (metrics.recall_at_fpr, {"fpr": 0.25}),
        (metrics.precision_at_recall, {"recall": 0.6}),
        (metrics.partial_auroc, {"fpr": 0.25}),
    ):
        found = metric(scores, positives, sample_weight=weight, **options)
        assert found == pytest.approx(metric(*again, **options), abs=1e-9), metric.__name__


def test_weighted_metrics_match_scikit_learn():
    for step in (None, 0.5):
        scores, positives = rows(3_000, 0.05, seed=10, step=step)
        weight = torch.rand(3_000, generator=torch.Generator().manual_seed(1)).double()
        weight[::7] = 0
        given = {"sample_weight": weight.numpy()}
        found = metrics.average_precision(scores, positives, sample_weight=weight)
        expected = average_precision_score(positives, scores, **given)
        assert found == pytest.approx(expected, abs=1e-12)
        found = metrics.auroc(scores, positives, sample_weight=weight)
        assert found == pytest.approx(roc_auc_score(positives, scores, **given), abs=1e-12)
        found = metrics.partial_auroc(scores, positives, fpr=0.1, sample_weight=weight)
        again = (1 + (found - 0.05) / 0.95) / 2
        expected = roc_auc_score(positives, scores, max_fpr=0.1, **given)
        assert again == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("bad", [[1.0, -1.0, 1.0], [1.0, math.nan, 1.0], [1.0, 1.0]])
def test_invalid_weights_are_refused(bad):
    with pytest.raises(ValueError, match=r"weights must be \[3\]"):
        metrics.auroc(
            torch.zeros(3), torch.tensor([True, False, True]), sample_weight=torch.tensor(bad)
        )


def test_levels_outside_their_range_are_refused():
    scores, positives = rows(50, 0.3, seed=5)
    for level in (0.0, 1.5):
        with pytest.raises(ValueError, match="recall must lie"):
            metrics.precision_at_recall(scores, positives, recall=level)
        with pytest.raises(ValueError, match="fpr must lie"):
            metrics.partial_auroc(scores, positives, fpr=level)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40))
@small
def test_calibration_errors_follow_their_definitions(pairs):
    p, y = [a for a, _ in pairs], [b for _, b in pairs]
    probabilities, positives = torch.tensor(p, dtype=torch.float64), torch.tensor(y)
    assert metrics.brier(probabilities, positives) == pytest.approx(reference.brier(p, y))
    for bins in (1, 7, 15):
        expected = reference.expected_calibration_error(p, y, bins)
        found = metrics.expected_calibration_error(probabilities, positives, bins=bins)
        assert found == pytest.approx(expected, abs=1e-12)


@given(ranked(), st.randoms(use_true_random=False))
@small
def test_order_of_rows_does_not_matter(case, random):
    order = list(range(len(case[0])))
    random.shuffle(order)
    for name, metric in METRICS.items():
        assert metric(case[0][order], case[1][order]) == metric(*case), name


@given(ranked(), st.sampled_from([lambda s: 8 * s - 3, torch.exp, lambda s: s.double() ** 3]))
@small
def test_only_the_order_of_scores_matters(case, increasing):
    for name, metric in METRICS.items():
        assert metric(increasing(case[0]), case[1]) == metric(*case), name


@pytest.mark.parametrize("name", METRICS)
def test_a_perfect_ranking_of_huge_logits_is_perfect(name):
    scores = torch.tensor([1e4, 9e3, 200.0, 100.0, 90.0, 80.0, -1e4, -2e4, -3e4, -4e4])
    positives = torch.arange(10) < 3
    assert METRICS[name](scores, positives) == 1.0


def test_negative_logits_rank_like_any_other():
    scores, positives = rows(500, 0.1, seed=3)
    for name, metric in METRICS.items():
        assert metric(scores - 1000, positives) == pytest.approx(metric(scores, positives)), name


def test_half_precision_scores_are_ranked_unchanged():
    scores, positives = rows(200, 0.2, seed=4)
    half = scores.bfloat16()
    expected = average_precision_score(positives, half.float())
    assert metrics.average_precision(half, positives) == pytest.approx(expected, abs=1e-12)


def test_undefined_values_are_nan():
    scores = torch.tensor([1.0, 2.0, 3.0])
    none, all_of_them = torch.zeros(3, dtype=torch.bool), torch.ones(3, dtype=torch.bool)
    for name, metric in METRICS.items():
        if name == "precision_at_quantile":
            assert metric(scores, none) == 0.0
        else:
            assert math.isnan(metric(scores, none)), name
        assert math.isnan(metric(scores[:0], none[:0])), name
    assert math.isnan(metrics.auroc(scores, all_of_them))
    assert math.isnan(metrics.recall_at_fpr(scores, all_of_them, fpr=0.1))
    assert math.isnan(metrics.partial_auroc(scores, all_of_them, fpr=0.1))
    assert metrics.average_precision(scores, all_of_them) == 1.0


def test_a_nan_score_gives_nan():
    scores, positives = rows(50, 0.3, seed=5)
    for at in (int(positives.nonzero()[0]), int((~positives).nonzero()[0])):
        broken = scores.clone()
        broken[at] = math.nan
        for name, metric in METRICS.items():
            assert math.isnan(metric(broken, positives)), name
        found = metrics.evaluate(broken[:, None], positives, classes=("a", "b"))
        assert all(math.isnan(v) for k, v in found.items() if k != "test/prevalence")


def test_infinite_scores_rank_at_the_ends():
    scores = torch.tensor([math.inf, 0.0, -math.inf, -math.inf])
    positives = torch.tensor([True, False, True, False])
    assert metrics.average_precision(scores, positives) == pytest.approx((1 + 2 / 4) / 2)


def test_quantile_sizes_follow_the_decimal_as_written():
    assert 0.07 * 100 > 7
    assert top_size(0.07, 100) == 7
    assert top_size(0.005, 71_000) == 355
    assert top_size(0.001, 10) == 1
    assert top_size(1, 10) == 10


@pytest.mark.parametrize("quantile", [0.0, -0.1, 1.5])
def test_a_quantile_outside_its_range_is_refused(quantile):
    with pytest.raises(ValueError, match="quantile must lie in"):
        metrics.recall_at_quantile(torch.zeros(3), torch.ones(3), quantile=quantile)


def test_mismatched_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\[3, 1\]"):
        metrics.average_precision(torch.zeros(3, 1), torch.ones(3, 1))
    with pytest.raises(ValueError, match="remove ignored rows"):
        metrics.validation_metrics(torch.zeros(3, 1), torch.tensor([0, 1, -100]))
    with pytest.raises(ValueError, match=r"targets must lie in 0\.\.2"):
        metrics.validation_metrics(torch.zeros(2, 3), torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="2 class names for 3 columns"):
        metrics.evaluate(torch.zeros(2, 3), torch.tensor([0, 2]), classes=("a", "b"))


def test_validation_metrics_equal_the_single_ones():
    scores, positives = rows(2_000, 0.01, seed=6, step=0.1)
    for logits, targets in [(scores, positives), (scores[:, None], positives.long()[:, None])]:
        assert metrics.validation_metrics(logits, targets) == {
            "val/aucpr": metrics.average_precision(scores, positives),
            "val/recall_at_q/0.005": metrics.recall_at_quantile(scores, positives, quantile=0.005),
        }


def test_evaluate_gives_the_recorded_keys_of_a_binary_run():
    scores, positives = rows(3_000, 0.02, seed=7)
    found = metrics.evaluate(scores[:, None], positives.long(), classes=("no", "yes"))
    levels = ("0.001", "0.005", "0.01", "0.05")
    single = ("aucpr", "aucpr_lo", "aucpr_hi", "auroc", "prevalence", "brier", "ece")
    by_level = ("recall_at_q", "precision_at_q", "recall_at_fpr")
    assert set(found) == {f"test/{key}" for key in single} | {
        f"test/{key}/{level}" for key in by_level for level in levels
    } | {"test/precision_at_recall/0.8", "test/pauc_at_fpr/0.01"}
    assert found["test/aucpr_lo"] < found["test/aucpr"] < found["test/aucpr_hi"]
    assert found["test/prevalence"] == pytest.approx(float(positives.double().mean()))
    assert found["test/brier"] == metrics.brier(scores.double().sigmoid(), positives)
    assert found["test/recall_at_fpr/0.05"] == metrics.recall_at_fpr(scores, positives, fpr=0.05)


def test_multi_class_values_average_over_the_classes_present():
    generator = torch.Generator().manual_seed(8)
    logits = torch.randn(600, 4, generator=generator)
    targets = torch.randint(0, 3, (600,), generator=generator)  # class 3 never occurs
    logits[torch.arange(600), targets] += 1.0
    names = ("a", "b", "c", "d")
    found = metrics.evaluate(logits, targets, classes=names, prefix="val")
    single = [average_precision_score(targets == c, logits[:, c]) for c in range(3)]
    assert found["val/aucpr"] == pytest.approx(np.mean(single), abs=1e-12)
    assert found["val/aucpr_lo"] < found["val/aucpr"] < found["val/aucpr_hi"]
    assert found["val/class/b/aucpr"] == pytest.approx(single[1], abs=1e-12)
    assert math.isnan(found["val/class/d/aucpr"])
    assert found["val/prevalence"] == pytest.approx(1 / 3)
    probabilities = logits.double().softmax(dim=1)
    briers = [metrics.brier(probabilities[:, c], targets == c) for c in range(3)]
    assert found["val/brier"] == pytest.approx(np.mean(briers))
    roc = [roc_auc_score(targets == c, logits[:, c]) for c in range(3)]
    assert found["val/auroc"] == pytest.approx(np.mean(roc), abs=1e-12)
    shares = logits.double().softmax(dim=1)
    ranked = [average_precision_score(targets == c, shares[:, c]) for c in range(3)]
    assert found["val/softmax_aucpr"] == pytest.approx(np.mean(ranked), abs=1e-12)
    shifted = logits + 5 * torch.randn(600, 1, generator=generator)  # the same probabilities
    moved = metrics.evaluate(shifted, targets, classes=names, prefix="val")
    assert moved["val/softmax_aucpr"] == pytest.approx(found["val/softmax_aucpr"], abs=1e-3)
    assert moved["val/aucpr"] < found["val/aucpr"] - 0.05
    assert sum("/class/" not in key for key in found) <= 40


def test_class_names_become_valid_distinct_keys():
    names = metrics.safe_names(["draw", "a/b", "a?b", "a*b", "größe", "", "x" * 300])
    assert names[:4] == ["draw", "a_b", "a_b:2", "a_b:3"]
    assert len(set(names)) == 7
    assert all(len(name) <= 210 for name in names)
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.: ")
    assert all(name and set(name) <= allowed for name in names)


WRONG_MARKS = {
    "-1 and 1": torch.tensor([1, -1, -1, 1]),
    "an ignored row": torch.tensor([1, -100, 0, 1]),
    "1 and 2": torch.tensor([2, 1, 1, 2]),
    "not a number": torch.tensor([1.0, math.nan, 0.0, 1.0]),
}


@pytest.mark.parametrize("marks", WRONG_MARKS.values(), ids=WRONG_MARKS)
def test_labels_other_than_zero_and_one_are_refused(marks):
    scores = torch.tensor([3.0, 1.0, 2.0, 0.0])
    asked = [*METRICS.values(), metrics.brier, metrics.expected_calibration_error]
    asked.append(lambda s, y: bootstrap_interval(s, y, seed=0, n=2))
    asked.append(lambda s, y: cheapest_threshold(s, y, np.array([[0.0, 1.0], [5.0, 0.0]])))
    for metric in asked:
        with pytest.raises(ValueError, match="positives must be bool, or 0 and 1, found"):
            metric(scores.sigmoid(), marks)
    with pytest.raises(ValueError, match="targets must"):
        metrics.evaluate(scores, marks, classes=["no", "yes"])


@pytest.mark.parametrize("kind", [torch.int64, torch.int8, torch.float32])
def test_zeros_and_ones_of_any_dtype_are_accepted(kind):
    scores, positives = rows(200, 0.1, seed=9)
    for metric in METRICS.values():
        assert metric(scores, positives.to(kind)) == metric(scores, positives)


def test_the_table_says_which_direction_is_better():
    worse_when_larger = ("brier", "ece", "calibrated/brier", "expected_cost")
    lower = [f"test/{name}" for name in worse_when_larger]
    lower += ["train/loss", "train/zero_grad_frac", "train/no_positive_batch_frac"]
    lower += ["train/no_positive_pool_frac"]
    assert not [key for key in lower if table.higher_is_better(key)]
    higher = ["test/aucpr", "test/recall_at_q/0.02", "test/class/a.b/aucpr", "best/val_aucpr"]
    assert all(map(table.higher_is_better, higher))
    assert all(map(table.is_share, [*lower[:3], *lower[-3:], *higher]))
    assert not table.is_share("test/expected_cost") and not table.is_share("train/loss")
    assert table.find("test/aucprr") is table.find("test/recall_at_q") is None
    for key in ("best/epoch", "test/prevalence", "train/temperature", "hp/loss/tau"):
        with pytest.raises(RequestError, match=f"metric={key}: neither higher nor lower"):
            table.higher_is_better(key)


def test_a_new_metric_is_one_row_of_the_table(monkeypatch):
    mine = table.Metric(
        "test/best_rank",
        table.LOWER,
        ranking=lambda groups: float(groups.above[0] + 1),
        shown={table.RUN: (), table.SWEEP: (), table.LEDGER: ()},
        label="best rank",
    )
    monkeypatch.setattr(table, "TABLE", (*table.TABLE, mine))
    scores, positives = torch.tensor([3.0, 2.0, 1.0]), torch.tensor([0, 1, 0])
    assert metrics.evaluate(scores, positives, classes="ny")["test/best_rank"] == 2
    assert not table.higher_is_better("test/best_rank") and table.in_ledger("test/best_rank")
    assert table.shown(table.SWEEP)[-1] == table.shown(table.RUN)[-1] == "test/best_rank"

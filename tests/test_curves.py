"""The two curves agree with the single metrics and with loops over thresholds."""

import json
import math
from fractions import Fraction

import pytest
import torch

import metric_reference as reference
from rarelab import metrics
from rarelab.metrics.curves import QUANTILE_STEPS, RECALL_STEPS, curves


def rows(n=3_000, rate=0.02, seed=0, step=0.25):
    generator = torch.Generator().manual_seed(seed)
    positives = torch.rand(n, generator=generator) < rate
    scores = torch.randn(n, generator=generator) + 2.0 * positives
    return (scores / step).round() * step, positives


def test_steps_cover_the_operating_region_in_at_most_320_points():
    assert set(range(1, 101)) | {500, 1000} <= set(QUANTILE_STEPS)
    assert list(QUANTILE_STEPS) == sorted(set(QUANTILE_STEPS))
    assert QUANTILE_STEPS[-1] == 1000 and RECALL_STEPS[-1] == 1000
    assert len(QUANTILE_STEPS) <= 320 and len(RECALL_STEPS) <= 320


@pytest.mark.parametrize("n", [3_000, 37])
def test_recall_curve_is_the_metric_at_every_step(n):
    scores, positives = rows(n, rate=0.1)
    curve = curves(scores[:, None], positives.long())["recall_at_q"]
    for step, value in zip(curve["steps"], curve["values"], strict=True):
        expected = metrics.recall_at_quantile(scores, positives, quantile=step / 10_000)
        assert value == pytest.approx(expected, abs=1e-12)


def test_no_scorer_passes_the_best_curve_and_a_perfect_one_reaches_it():
    scores, positives = rows()
    curve = curves(scores, positives)["recall_at_q"]
    assert all(v <= b for v, b in zip(curve["values"], curve["best"], strict=True))
    perfect = curves(scores + 1000.0 * positives, positives)["recall_at_q"]
    assert perfect["values"] == pytest.approx(perfect["best"], abs=1e-12)
    assert max(perfect["values"]) == 1.0
    assert min(perfect["values"]) < 0.05  # the budget is far below the positive rate there


def test_a_constant_score_lies_on_the_chance_curves():
    _, positives = rows()
    found = curves(torch.zeros(len(positives)), positives)
    assert found["recall_at_q"]["values"] == pytest.approx(found["recall_at_q"]["chance"])
    curve = found["precision_at_recall"]
    assert curve["values"] == pytest.approx(curve["chance"])
    assert curve["chance"][0] == pytest.approx(float(positives.double().mean()))


def test_precision_at_recall_is_that_of_the_highest_sufficient_threshold():
    scores, positives = rows(150, rate=0.2, seed=1)
    curve = curves(scores, positives)["precision_at_recall"]
    s, y = scores.tolist(), positives.tolist()
    for step, value in list(zip(curve["steps"], curve["values"], strict=True))[::7]:
        expected = reference.precision_at_recall(s, y, Fraction(step, 1000))
        assert value == pytest.approx(expected, abs=1e-12)


def test_exact_points_reproduce_average_precision():
    scores, positives = rows(seed=2)
    exact = curves(scores, positives.long(), classes=("no", "yes"))["exact"]
    assert list(exact) == ["yes"]
    points = exact["yes"]
    before = [0.0, *points["recall"][:-1]]
    steps = zip(points["recall"], before, points["precision"], strict=True)
    area = sum((r - r0) * p for r, r0, p in steps)
    assert area == pytest.approx(metrics.average_precision(scores, positives), abs=1e-12)
    assert points["threshold"] == sorted(set(scores[positives].tolist()), reverse=True)
    selected = [(scores >= t).sum().item() for t in points["threshold"]]
    assert points["selected"] == selected
    negatives = scores[~positives]
    assert points["fpr"] == pytest.approx(
        [(negatives >= t).double().mean().item() for t in points["threshold"]]
    )


def test_multi_class_curves_average_the_classes_present():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(400, 3, generator=generator)
    targets = torch.randint(0, 2, (400,), generator=generator)  # class 2 never occurs
    found = curves(logits, targets, classes=("a", "b", "c"))
    single = [curves(logits[:, c], targets == c)["recall_at_q"]["values"] for c in range(2)]
    mean = [(a + b) / 2 for a, b in zip(*single, strict=True)]
    assert found["recall_at_q"]["values"] == pytest.approx(mean)
    assert list(found["exact"]) == ["a", "b", "c"]
    assert found["exact"]["c"]["recall"] == []


def test_curves_are_plain_numbers():
    found = curves(*rows())
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_without_a_positive_or_with_a_nan_the_curves_are_nan():
    scores, positives = rows(100, rate=0.1)
    broken = torch.where(positives, math.nan, scores)
    for case in [(scores, torch.zeros(100)), (broken, positives)]:
        found = curves(*case)
        assert all(math.isnan(v) for v in found["recall_at_q"]["values"])
        assert all(math.isnan(v) for v in found["precision_at_recall"]["values"])


def test_a_wrong_number_of_names_is_refused():
    with pytest.raises(ValueError, match="expected 2 class names, got 3"):
        curves(*rows(50, rate=0.5), classes=("a", "b", "c"))

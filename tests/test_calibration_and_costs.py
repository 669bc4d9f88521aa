"""Calibrated probabilities, reliability diagrams and decision costs."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

import rarelab
from rarelab.errors import RequestError
from rarelab.metrics import average_precision, brier, expected_calibration_error, probabilities_of
from rarelab.metrics.calibration import fit, restored, scarce
from rarelab.metrics.costs import (
    cheapest_decisions,
    cheapest_threshold,
    cost_matrix,
    expected_cost,
    mean_cost,
)
from rarelab.metrics.reliability import reliability
from rarelab.metrics.table import find
from rarelab.training.history import read_rows

METHODS = ("platt", "isotonic")


def drawn(n: int = 40_000, seed: int = 0, slope: float = 3.0, offset: float = 2.0):
    """Scores that overstate the log-odds: the truth is σ((s − offset) / slope)."""
    generator = torch.Generator().manual_seed(seed)
    scores = 4 * torch.randn(n, 1, generator=generator) - 6
    truth = torch.sigmoid((scores[:, 0].double() - offset) / slope)
    return scores, (torch.rand(n, generator=generator) < truth).long(), truth


@pytest.mark.parametrize("method", METHODS)
def test_calibration_recovers_the_true_probabilities(method) -> None:
    scores, targets, truth = drawn()
    found = fit(method, scores, targets)(scores)[:, 0]
    assert (found - truth).abs().mean() < 0.01
    raw = probabilities_of(scores)[:, 0]
    fresh_scores, fresh, _ = drawn(seed=1)
    calibrated = fit(method, scores, targets)(fresh_scores)[:, 0]
    assert expected_calibration_error(calibrated, fresh == 1) < 0.01
    assert expected_calibration_error(raw, fresh == 1) > 0.04
    assert brier(calibrated, fresh == 1) < brier(raw, fresh == 1)


@pytest.mark.parametrize("method", METHODS)
def test_the_number_of_threads_changes_no_bit(method) -> None:
    scores, targets, _ = drawn(6781)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(fit(method, scores, targets))
    assert found[0] == found[1]


def test_platt_is_the_stated_logistic_regression() -> None:
    scores, targets, _ = drawn(n=500)
    [curve] = fit("platt", scores, targets).curves
    s, positive = scores[:, 0].double(), targets == 1
    high = (positive.sum() + 1) / (positive.sum() + 2)
    low = 1 / ((~positive).sum() + 2)
    goal = torch.where(positive, high, low).double()
    error = torch.sigmoid(curve.slope * s + curve.intercept) - goal
    # At the minimum of the cross-entropy both derivatives vanish.
    assert error.sum().abs() < 1e-4 * len(s)
    assert (error * s).sum().abs() < 1e-4 * len(s) * s.abs().max()


@pytest.mark.parametrize("method", METHODS)
def test_calibration_keeps_the_order_and_sums_to_one(method) -> None:
    scores, targets, _ = drawn(n=3000)
    found = fit(method, scores, targets)(scores)[:, 0]
    assert (found[scores[:, 0].argsort()].diff() >= -1e-15).all()
    if method == "platt":
        assert average_precision(found, targets == 1) == average_precision(
            scores[:, 0].double(), targets == 1
        )
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(2000, 4, generator=generator)
    labels = torch.randint(0, 3, (2000,), generator=generator)  # class 3 never occurs
    found = fit(method, logits, labels)(logits)
    torch.testing.assert_close(found.sum(1), torch.ones(2000, dtype=torch.float64))
    assert found[:, 3].max() == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_fit_survives_a_json_round_trip(method) -> None:
    scores, targets, _ = drawn(n=300)
    fitted = fit(method, scores, targets)
    again = restored(json.loads(json.dumps(fitted.state())))
    assert torch.equal(again(scores), fitted(scores))


def test_validation_with_a_single_class_gives_its_rate() -> None:
    scores = torch.randn(20, 1)
    for targets, rate in ((torch.zeros(20), 0.0), (torch.ones(20), 1.0)):
        assert (fit("platt", scores, targets)(scores) == rate).all()
    with pytest.raises(ValueError, match="expected platt or isotonic"):
        fit("none", scores, torch.ones(20))
    assert scarce(torch.tensor([0] * 30 + [1] * 3), ["a", "b"]) == ["b"]


def test_reliability_bins_have_equal_positives_and_never_split_ties() -> None:
    _, targets, truth = drawn()
    found = reliability(truth[:, None], (targets == 1)[:, None])
    n, rate = np.array(found["rows"]), np.array(found["rate"])
    hits = n * rate
    assert len(n) == 12
    assert n.sum() == len(targets)
    assert hits.sum() == pytest.approx(int(targets.sum()))
    assert hits.max() - hits.min() <= 2
    predicted, low, high = (np.array(found[key]) for key in ("predicted", "low", "high"))
    assert (np.diff(predicted) < 0).all()
    assert ((low <= predicted) & (predicted <= high)).mean() > 0.7
    tied = reliability(torch.full((50, 1), 0.2), torch.arange(50)[:, None] < 20)
    assert tied["rows"] == [50.0]
    assert tied["rate"] == [0.4]
    assert reliability(truth[:, None], torch.zeros(len(truth), 1, dtype=torch.bool))["rows"] == []


@st.composite
def bill(draw):
    n = draw(st.integers(1, 9))
    scores = draw(st.lists(st.integers(-2, 2), min_size=n, max_size=n))
    positives = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    weights = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    costs = draw(st.lists(st.integers(-3, 9), min_size=4, max_size=4))
    return scores, positives, weights, [costs[:2], costs[2:]]


@given(bill())
@settings(deadline=None, max_examples=100)
def test_the_threshold_is_the_cheapest_of_all(case) -> None:
    scores, positives, weights, costs = case

    def paid(threshold: float) -> float:
        rows = zip(scores, positives, weights, strict=True)
        return sum(w * costs[y][s >= threshold] for s, y, w in rows)

    found = cheapest_threshold(
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor(positives),
        cost_matrix(costs, ("n", "p")),
        sample_weight=torch.tensor(weights),
    )
    options = [*sorted(set(scores)), math.inf]
    least = min(map(paid, options))
    assert paid(found) == least
    assert found == max(t for t in options if paid(t) == least)


@given(bill(), st.lists(st.integers(0, 9), min_size=9, max_size=9), st.integers(0, 5))
@settings(deadline=None, max_examples=60)
def test_a_missed_positive_can_cost_what_it_is_worth(case, worth, false_alert) -> None:
    scores, positives, _, _ = case
    amounts = worth[: len(scores)]
    prices = {"false_alert": false_alert, "missed_positive": "amount"}
    costs = cost_matrix(prices, ("n", "p"))

    def paid(threshold: float) -> float:
        total = 0
        for s, y, amount in zip(scores, positives, amounts, strict=True):
            alert = s >= threshold
            total += (0 if alert else amount) if y else (false_alert if alert else 0)
        return total

    rows = torch.tensor(scores, dtype=torch.float32), torch.tensor(positives)
    found = cheapest_threshold(*rows, costs, amounts=amounts)
    options = [*sorted(set(scores)), math.inf]
    assert paid(found) == min(map(paid, options))
    alerts = (np.array(scores) >= found).astype(int)
    mean = mean_cost(rows[1].long(), alerts, costs, amounts=amounts)
    assert mean == pytest.approx(paid(found) / len(scores))
    numbers = cost_matrix({"false_alert": 5, "missed_positive": 120}, ("n", "p"))
    assert numbers.tolist() == cost_matrix([[0, 5], [120, 0]], ("n", "p")).tolist()


def test_decisions_minimise_the_expected_cost() -> None:
    generator = torch.Generator().manual_seed(3)
    probabilities = torch.rand(50, 3, generator=generator)
    costs = cost_matrix([[0, 1, 2], [5, 0, 1], [9, 9, -1]], ("a", "b", "c"))
    found = cheapest_decisions(probabilities, costs)
    for p, chosen in zip(probabilities.tolist(), found, strict=True):
        bills = [sum(p[c] * costs[c][d] for c in range(3)) for d in range(3)]
        assert bills[chosen] == pytest.approx(min(bills))
    targets = torch.randint(0, 3, (50,), generator=generator)
    paid = [costs[t][d] for t, d in zip(targets.tolist(), found, strict=True)]
    assert mean_cost(targets, found, costs) == pytest.approx(sum(paid) / 50)
    weight = torch.arange(50)
    weighed = sum(w * c for w, c in zip(weight.tolist(), paid, strict=True)) / weight.sum().item()
    assert mean_cost(targets, found, costs, sample_weight=weight) == pytest.approx(weighed)


def test_the_threshold_comes_from_validation_and_the_cost_from_test() -> None:
    val = torch.tensor([[3.0], [1.0], [0.0]]), torch.tensor([1, 1, 0])
    test = torch.tensor([[2.0], [0.5], [-1.0], [1.0]]), torch.tensor([0, 1, 0, 1])
    costs = cost_matrix([[0, 1], [10, 0]], ("n", "p"))
    cost, threshold = expected_cost(val, test, torch.empty(0), costs)
    assert threshold == 1.0
    assert cost == (1 + 10) / 4


@pytest.mark.parametrize(
    "bad", [[[0, 1]], [[0, 1], [2]], [[0, math.inf], [1, 0]], [["a", 1], [1, 0]]]
)
def test_invalid_costs_are_refused(bad) -> None:
    with pytest.raises(RequestError, match="expected 2 lists of 2 numbers"):
        cost_matrix(bad, ("n", "p"))


SMALL = ["dataset.n_samples=3000", "dataset.pos_rate=0.05", "trainer.max_epochs=4", "tracking=none"]


def test_a_run_records_calibrated_errors_and_costs_beside_the_raw_ones(capsys) -> None:
    request = [*SMALL, "loss=weighted_bce", "calibration=platt", "costs=[[0,1],[20,0]]"]
    done = rarelab.train(request)
    raw, calibrated = (done.metrics[f"test/{key}ece"] for key in ("", "calibrated/"))
    assert calibrated < raw
    assert 0 < done.metrics["test/expected_cost"] < 1  # alerting nobody costs 20 · 0.05
    assert {"calibration.json", "decision.json"} <= {p.name for p in done.directory.iterdir()}
    assert "calibrated Brier" in capsys.readouterr().out
    counted = [key for key in done.metrics if "/class/" not in key]
    assert len(counted) + len(("curve/recall_at_q", "curve/precision_at_recall")) <= 40
    rows = read_rows(done.directory / "history.jsonl")
    recorded = {key for row in rows for key in row["metrics"]} | done.metrics.keys()
    assert not [key for key in recorded if find(key) is None], "not in the table of metrics"


@pytest.mark.parametrize(
    ("override", "answer"),
    [
        ("calibration=plat", "did you mean 'platt'"),
        ("costs=[[0,1,2],[1,0,2],[1,2,0]]", "expected 2 lists of 2 numbers"),
        ("costs=5", "costs=5: expected"),
        ("costs={false_alrt:5,missed_positive:9}", "did you mean 'false_alert'"),
        ("costs={false_alert:5}", "costs.missed_positive=null: expected a number of at least 0 or"),
        ("costs={false_alert:amount,missed_positive:9}", "costs.false_alert=amount: expected a"),
        ("costs={false_alert:5,missed_positive:amount}", "expected dataset.amount to name"),
    ],
)
def test_wrong_requests_are_refused_before_training(override: str, answer: str, home) -> None:
    with pytest.raises(RequestError) as caught:
        rarelab.train([*SMALL, override])
    assert answer in str(caught.value)
    assert not home.exists()


def test_several_classes_have_calibration_and_costs_too() -> None:
    request = ["dataset=longtail_toy", "dataset.n_samples=3000", "loss=cross_entropy"]
    request += ["trainer.max_epochs=2", "tracking=none", "calibration=isotonic"]
    wrong_costs_one = (1 - np.eye(6)).tolist()
    done = rarelab.train([*request, f"costs={wrong_costs_one}"])
    assert 0 < done.metrics["test/expected_cost"] < 0.5
    assert 0 < done.metrics["test/calibrated/brier"] < 0.2

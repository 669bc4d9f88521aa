"""What the rows are worth: recall weighted by value, from the metric to the comparison."""

import itertools
import json
import math
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

import rarelab
from rarelab.cli import main
from rarelab.compare.rows import TestRows, can_be_resampled, read_test_rows, weigher
from rarelab.dashboard.view import metric_columns, state
from rarelab.metrics import recall_at_quantile
from rarelab.metrics.budget import budgets
from rarelab.metrics.curves import curves, value_curve
from rarelab.metrics.rankings import reporting, selecting
from rarelab.metrics.recorded import evaluate_value, reported, validation_value
from rarelab.metrics.table import Place, find, shown
from rarelab.metrics.tie_groups import recall_in_top, top_size
from rarelab.metrics.value import amount_per_row, value_recall_interval, valued_groups
from tables import transactions

LEVELS = (0.001, 0.005, 0.01, 0.05)


def slow_value_recall(scores, positives, amounts, quantile: float) -> float:
    """For each positive, the chance that it is in the top ⌈qN⌉ with ties in random order: a loop
    over the positives, and for each a loop over the rows."""
    size = top_size(quantile, len(scores))
    found = total = 0.0
    for i in range(len(scores)):
        if positives[i]:
            above = tied = 0
            for j in range(len(scores)):
                above += scores[j] > scores[i]
                tied += scores[j] == scores[i]
            found += amounts[i] * min(1.0, max(0.0, (size - above) / tied))
            total += amounts[i]
    return found / total if total else math.nan


def rows(n: int, seed: int, step: float = 0.0, rate: float = 0.1):
    rng = np.random.default_rng(seed)
    positives = rng.random(n) < rate
    scores = (rng.normal(size=n) + positives).astype(np.float32)
    scores = np.round(scores / step) * step if step else scores
    return scores.astype(np.float32), positives, np.round(rng.lognormal(3, 1, n), 2)


def valued_recall(scores, positives, amounts, quantile: float) -> float:
    groups = valued_groups(torch.tensor(scores), torch.tensor(positives), amounts)
    return recall_in_top(groups, quantile)


@pytest.mark.parametrize("step", [0.0, 0.5, 100.0])
@pytest.mark.parametrize("quantile", [0.005, 0.05, 0.3, 1.0])
def test_value_recall_equals_a_double_loop(step: float, quantile: float) -> None:
    for seed in range(3):
        case = rows(200, seed, step)
        expected = slow_value_recall(*case, quantile)
        assert valued_recall(*case, quantile) == pytest.approx(expected, abs=1e-12)


@given(st.data())
@settings(deadline=None, max_examples=30)
def test_it_is_the_mean_over_all_orders_of_ties(data) -> None:
    n = data.draw(st.integers(2, 6))
    scores = data.draw(st.lists(st.integers(-2, 2), min_size=n, max_size=n))
    positives = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    amounts = data.draw(st.lists(st.integers(0, 9), min_size=n, max_size=n))
    size = top_size(0.4, n)
    total = sum(a for a, y in zip(amounts, positives, strict=True) if y)
    found = valued_recall([float(s) for s in scores], positives, amounts, 0.4)
    if not total:
        assert math.isnan(found)
        return
    orders = [
        sum(a for _, a, y in sorted(order, key=lambda row: -row[0])[:size] if y) / total
        for order in itertools.permutations(zip(scores, amounts, positives, strict=True))
    ]
    assert found == pytest.approx(np.mean(orders), abs=1e-12)


def test_equal_amounts_give_counted_recall() -> None:
    scores, positives, _ = rows(500, 4, 0.25)
    for amount in (1.0, 0.1, 1e6):
        for q in LEVELS:
            counted = recall_at_quantile(torch.tensor(scores), torch.tensor(positives), quantile=q)
            valued = valued_recall(scores, positives, np.full(500, amount), q)
            assert valued == pytest.approx(counted, abs=1e-12)


def test_a_nan_score_and_no_positive_give_nan() -> None:
    scores, positives, amounts = rows(50, 5)
    assert math.isnan(valued_recall(scores, np.zeros(50, bool), amounts, 0.1))
    scores[3] = np.nan
    assert math.isnan(valued_recall(scores, positives, amounts, 0.1))
    with pytest.raises(ValueError, match=r"amounts must be \[50\]"):
        valued_groups(torch.tensor(scores), torch.tensor(positives), amounts[1:])


@pytest.mark.parametrize("step", [0.0, 0.5])
@pytest.mark.parametrize("metric", ["test/value_recall_at_q/0.05", "test/value_recall_at_q/0.3"])
def test_weighted_rows_count_as_repeated_rows(step: float, metric: str) -> None:
    scores, positives, amounts = rows(300, 6, step)
    quantile = float(metric.rpartition("/")[2])
    drawn = np.random.default_rng(1).multinomial(300, np.full(300, 1 / 300), size=8)
    run = TestRows(scores[:, None].astype(float), positives.astype(np.int64), amounts=amounts)
    found = weigher(run, metric)(drawn.T.astype(np.float32))
    for b, w in enumerate(drawn):
        repeated = (np.repeat(part, w) for part in (scores, positives, amounts))
        assert found[b] == pytest.approx(slow_value_recall(*repeated, quantile))
    assert can_be_resampled(metric)
    with pytest.raises(ValueError, match="amounts"):
        weigher(TestRows(run.scores, run.targets), metric)


def test_the_interval_is_that_of_resampled_rows() -> None:
    scores, positives, amounts = rows(2000, 7, 0.1)
    case = torch.tensor(scores), torch.tensor(positives), amounts
    low, high = value_recall_interval(*case, 40, seed=0, n=3000)
    rng = np.random.default_rng(2)
    draws = (rng.integers(0, 2000, 2000) for _ in range(3000))
    drawn = np.stack([np.bincount(draw, minlength=2000) for draw in draws])
    run = TestRows(scores[:, None].astype(float), positives.astype(np.int64), amounts=amounts)
    slow = weigher(run, "test/value_recall_at_q/0.02")(drawn.T.astype(np.float32))
    assert [low, high] == pytest.approx(np.quantile(slow, [0.025, 0.975]), rel=0.1)
    assert low < valued_recall(scores, positives, amounts, 0.02) < high
    assert (low, high) == value_recall_interval(*case, 40, seed=0, n=3000)
    few = positives & (np.cumsum(positives) <= 6)
    assert np.isnan(value_recall_interval(case[0], torch.tensor(few), amounts, 40, seed=0)).all()


def test_the_curve_and_the_metrics_agree() -> None:
    scores, positives, amounts = rows(4000, 8, rate=0.02)
    logits, targets = torch.tensor(scores)[:, None], torch.tensor(positives).long()
    found = evaluate_value(logits, targets, amounts)
    curve = value_curve(logits, targets, amounts)
    by_step = dict(zip(curve["steps"], curve["values"], strict=True))
    for level in LEVELS:
        key = f"test/value_recall_at_q/{level}"
        assert by_step[round(level * 10_000)] == pytest.approx(found[key], abs=1e-12)
        assert reported(key, logits, targets, classes=("n", "p"), amounts=amounts) == found[key]
        assert reported(key, logits, targets, classes=("n", "p")) is None
    counted = curves(logits, targets)["recall_at_q"]
    assert (curve["steps"], curve["chance"]) == (counted["steps"], counted["chance"])
    assert np.all(np.array(curve["values"]) <= np.array(curve["best"]) + 1e-12)
    worth = np.where(positives, amounts, 0)
    top = np.sort(worth)[::-1][: top_size(0.01, 4000)].sum() / worth.sum()
    assert curve["best"][curve["steps"].index(100)] == pytest.approx(top)
    assert found["test/amount_per_row"] == pytest.approx(worth.mean())
    assert amount_per_row(targets == 1, amounts) == found["test/amount_per_row"]
    assert [key for key in found if find(key) is None] == []


@pytest.mark.parametrize("asked", [0.02, {"alerts": 37, "per": "2000 rows"}])
def test_at_a_budget_it_is_that_of_so_many_alerts(asked) -> None:
    scores, positives, amounts = rows(2000, 9, 0.1, rate=0.03)
    logits, targets = torch.tensor(scores)[:, None], torch.tensor(positives).long()
    budget = budgets(asked)[0]
    alerts = budget.alerts(2000)
    found = evaluate_value(logits, targets, amounts, budgets=(budget, *budgets([0.03])))
    case = scores, positives, amounts
    expected = slow_value_recall(*case, alerts / 2000)
    assert found["test/value_recall_at_budget"] == pytest.approx(expected, abs=1e-12)
    further = slow_value_recall(*case, 0.03)
    assert found["test/value_recall_at_q/0.03"] == pytest.approx(further, abs=1e-12)
    low, high = (found[f"test/value_recall_at_budget_{end}"] for end in ("lo", "hi"))
    assert low < expected < high
    assert "test/value_recall_at_q_lo/0.005" not in found
    chosen = validation_value(logits, targets, amounts, alerts)
    assert chosen["best/val_value_recall_at_budget"] == found["test/value_recall_at_budget"]
    key = "test/value_recall_at_budget"
    assert reported(key, logits, targets, classes=("n", "p"), amounts=amounts) is None
    again = reported(key, logits, targets, classes=("n", "p"), amounts=amounts, alerts=alerts)
    assert again == found[key]
    assert [key for key in {**found, **chosen} if find(key) is None] == []


def test_value_recall_is_a_metric_of_test_rows_only() -> None:
    reporting("test/value_recall_at_q/0.02")
    with pytest.raises(ValueError, match="expected a validation metric"):
        selecting("val/value_recall_at_q/0.005")
    with pytest.raises(ValueError, match="no run has it"):
        reporting("test/class/a/value_recall_at_q/0.005")


class Seen(NamedTuple):
    params: dict[str, str]
    metrics: dict[str, float]


SMALL = ["dataset=file", "dataset.target=verdict", "dataset.positive_label=fraud", "debug=fast"]


@pytest.fixture
def table(tmp_path):
    frame = transactions()
    frame["amount"] = frame["amount"].fillna(0.0).round(2)
    path = tmp_path / "payments.csv"
    frame.to_csv(path, index=False)
    return [*SMALL, f"dataset.path={path}", "dataset.drop=[id]", "dataset.amount=amount"]


def test_runs_record_show_and_compare_value_recall(table, home, capsys) -> None:
    asked = [*table, "tracking.experiment=money"]
    runs = [rarelab.train([*asked, f"loss={loss}"]) for loss in ("bce", "smooth_ap")]
    said = [line for line in capsys.readouterr().out.splitlines() if "positives' amount" in line]
    assert len(said) == 2 and all(line.startswith("  value  ") for line in said)
    assert "of the positives' amount, at 0.5 % [" in said[0]

    done = runs[0]
    kept = pq.read_table(done.directory / "predictions.parquet").to_pandas()
    parts = {
        split: [part[name].to_numpy() for name in ("score", "target", "given/amount")]
        for split, part in kept.groupby("split", observed=True)
    }
    for level in LEVELS:
        expected = slow_value_recall(*parts["test"], level)
        assert done.metrics[f"test/value_recall_at_q/{level}"] == pytest.approx(expected, abs=1e-12)
    expected = slow_value_recall(*parts["val"], 0.005)
    assert done.metrics["best/val_value_recall_at_q/0.005"] == pytest.approx(expected, abs=1e-12)
    curve = json.loads((done.directory / "curves.json").read_text(encoding="utf-8"))
    assert len(curve["value_recall_at_q"]["values"]) == len(curve["recall_at_q"]["values"])
    amounts = read_test_rows(done.directory / "predictions.parquet").amounts
    np.testing.assert_array_equal(amounts, parts["test"][2])

    request = ["compare", "experiment=money", "baseline=bce"]
    assert main([*request, "metric=test/value_recall_at_q/0.02"]) == 0
    said = capsys.readouterr().out
    assert "test/value_recall_at_q/0.02" in said
    assert "test-row noise is not" not in said and "cannot be resampled" not in said

    month = ["costs.rows_per_month=100000", "costs.currency=EUR"]
    assert main([*request, *month, "costs.missed_positive=amount"]) == 0
    said = capsys.readouterr().out
    (line,) = [line for line in said.splitlines() if " EUR of value caught; " in line]
    top = [slow_caught(run, 0.005) / len(parts["test"][0]) * 100_000 for run in runs]
    told = float(line.partition("): ")[2].partition(" [")[0].replace(",", ""))
    assert told == pytest.approx(top[1] - top[0], abs=1)
    assert main([*request, *month, "costs.missed_positive=amout"]) == 2
    assert "expected a number, 0 or more, or amount" in capsys.readouterr().err


def test_costs_by_amount_are_those_of_the_rows(table, tmp_path, capsys) -> None:
    priced = "costs={false_alert: 5, missed_positive: amount}"
    done = rarelab.train([*table, "tracking=none", "loss=bce", priced, "budget=0.02"])
    decision = json.loads((done.directory / "decision.json").read_text(encoding="utf-8"))
    assert decision["costs"] == [[0.0, 5.0], [None, 0.0]]
    kept = pq.read_table(done.directory / "predictions.parquet").to_pandas()
    total = {}
    for split in ("val", "test"):
        part = kept[kept["split"] == split]
        for cut in [decision["threshold"], *part["score"], math.inf]:
            paid = 0.0
            for score, y, worth in zip(
                part["score"], part["target"], part["given/amount"], strict=True
            ):
                paid += (worth if y else 0.0) if score < cut else (0.0 if y else 5.0)
            total.setdefault(split, []).append(paid / len(part))
    assert total["val"][0] == pytest.approx(min(total["val"]))
    assert done.metrics["test/expected_cost"] == pytest.approx(total["test"][0])
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  budget ")]
    assert "; value " in said[0] and "of the positives' amount, [" in said[0]
    path = next(part for part in table if part.startswith("dataset.path=")).partition("=")[2]
    output = tmp_path / "scores.parquet"
    asked = ["predict", done.directory.name, path, "budget=none", f"output={output}"]
    assert main(asked) == 0
    scores = pq.read_table(output).to_pandas()
    assert ((scores["score"] >= decision["threshold"]) == (scores["decision"] == "fraud")).all()


def test_metrics_can_be_weighed_and_the_table_says_so(table, capsys) -> None:
    asked = [*table, "dataset.sample_weight=age", "dataset.weigh_metrics=true", "tracking=none"]
    done = rarelab.train([*asked, "loss=smooth_ap"])
    kept = pq.read_table(done.directory / "predictions.parquet").to_pandas()
    for split, key in (("test", "test/weighted/aucpr"), ("val", "best/val_weighted_aucpr")):
        part = kept[kept["split"] == split]
        target, score, weight = (part[n] for n in ("target", "score", "given/weight"))
        expected = average_precision_score(target, score, sample_weight=weight)
        assert done.metrics[key] == pytest.approx(expected, abs=1e-12)
    part = kept[kept["split"] == "test"].sort_values("score", ascending=False)
    within = part["given/weight"].cumsum() / part["given/weight"].sum() <= 0.05
    hits = (part["given/weight"] * part["target"])[within].sum()
    total = (part["given/weight"] * part["target"]).sum()
    near = part["given/weight"].max() / total
    assert done.metrics["test/weighted/recall_at_q/0.05"] == pytest.approx(hits / total, abs=near)
    assert done.metrics["test/aucpr"] != done.metrics["test/weighted/aucpr"]
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  weighted ")]
    assert len(said) == 1 and f"AUCPR {done.metrics['test/weighted/aucpr']:.4f}, recall" in said[0]


def slow_caught(run, quantile: float) -> float:
    """The amount of the positives in the top of a run's test rows."""
    kept = pq.read_table(run.directory / "predictions.parquet").to_pandas()
    test = kept[kept["split"] == "test"]
    case = [test[name].to_numpy() for name in ("score", "target", "given/amount")]
    return slow_value_recall(*case, quantile) * float(case[2][case[1] == 1].sum())


def test_tables_and_the_dashboard_show_it_where_runs_have_it() -> None:
    key = "test/value_recall_at_q/0.005"
    counted, valued = (Seen({}, {"curve/recall_at_q": 0.5} | more) for more in ({}, {key: 0.4}))
    assert key not in metric_columns([counted]) and key in metric_columns([counted, valued])
    assert key not in shown(Place.SWEEP, counted.metrics)
    assert key in shown(Place.SWEEP, valued.metrics)
    curved = Seen({}, {"curve/recall_at_q": 0.5, "curve/value_recall_at_q": 0.4})
    drawn = [chart["metricKey"] for chart in state([curved], [])["compareRunCharts"][:3]]
    assert drawn[-1] == "curve/value_recall_at_q"


def test_runs_without_amounts_have_no_value_recall(home, capsys) -> None:
    small = ["debug=fast", "tracking.experiment=counted"]
    runs = [rarelab.train([*small, f"loss={loss}"]) for loss in ("bce", "weighted_bce")]
    assert "value" not in capsys.readouterr().out
    assert not [key for run in runs for key in run.metrics if "value" in key or "amount" in key]
    asked = ["compare", "experiment=counted", "metric=test/value_recall_at_q/0.02"]
    assert main(asked) == 2
    assert "no run has it, or the predictions to compute it from" in capsys.readouterr().err

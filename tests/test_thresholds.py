"""Thresholds for a precision, a recall and a cost, against scikit-learn and scipy; and the command
that takes them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import precision_recall_curve

import rarelab as package
from rarelab.cli import main
from rarelab.errors import RequestError
from rarelab.metrics.table import find
from rarelab.metrics.thresholds import AlertRule, Threshold, chosen, exact_interval
from tables import transactions

SHARES = (0.05, 0.3, 0.5, 0.75, 0.9, 1.0)


def choose(rule: AlertRule, scores: np.ndarray, positives: np.ndarray) -> Threshold:
    return chosen(rule, scores, positives, ("fine", "fraud"))


def draws() -> list[tuple[np.ndarray, np.ndarray]]:
    """Validation sets of few rows whose scores mostly tie, each with a positive."""
    found = []
    for seed in range(60):
        draw = np.random.default_rng(seed)
        positives = draw.random(n := int(draw.integers(2, 60))) < 0.3
        positives[0] = True
        levels = int(draw.integers(1, 12))
        scores = draw.integers(0, levels, n) / 3 + positives * draw.integers(0, 2, n)
        found.append((scores.astype(np.float32), positives))
    return found


def test_precision_and_recall_are_those_of_scikit_learns_curve() -> None:
    missed = 0
    for scores, positives in draws():
        precision, recall, values = precision_recall_curve(positives, scores)
        precision, recall = precision[:-1], recall[:-1]  # the last point has no threshold
        for share in SHARES:
            by_recall = choose(AlertRule(recall=share), scores, positives)
            assert by_recall.value == values[recall >= share].max()
            at = values == by_recall.value
            assert [by_recall.precision, by_recall.recall] == [precision[at][0], recall[at][0]]
            enough = precision >= share
            if enough.any():
                got = choose(AlertRule(precision=share), scores, positives)
                assert got.recall == recall[enough].max() and got.precision >= share
                assert got.value == values[enough & (recall == got.recall)].max()
                assert got.alerts == (scores >= got.value).sum()
                continue
            missed += 1
            alerts = max((scores >= t).sum() for t in values[precision == precision.max()])
            said = f"the highest precision is {precision.max():.4g}, at {alerts} alert"
            with pytest.raises(RequestError, match=f"precision={share:g} is not reached.*{said}"):
                choose(AlertRule(precision=share), scores, positives)
    assert missed > 20


def test_costs_are_lowest_at_the_threshold() -> None:
    costs = np.array([[0, 1], [7, 2]])
    for scores, positives in draws():
        got = choose(AlertRule(costs=costs.tolist()), scores, positives)
        bills = {
            t: sum(costs[int(y), int(s >= t)] for s, y in zip(scores, positives, strict=True))
            for t in [*scores.tolist(), np.inf]
        }
        assert bills[got.value] == min(bills.values())


def test_the_interval_is_clopper_and_pearsons() -> None:
    for count in (1, 2, 7, 100, 5000):
        for hits in {0, 1, count // 3, count - 1, count}:
            oracle = binomtest(hits, count).proportion_ci(0.95, method="exact")
            assert exact_interval(hits, count) == pytest.approx((oracle.low, oracle.high), abs=1e-9)
    assert exact_interval(0, 0) == (0, 1)


def test_validation_without_a_positive_is_refused_and_so_are_two_rules() -> None:
    scores, none = np.ones(3, dtype=np.float32), np.zeros(3, dtype=bool)
    for rule in (AlertRule(recall=0.5), AlertRule(precision=0.5)):
        with pytest.raises(RequestError, match="none of the run's 3 validation rows is positive"):
            choose(rule, scores, none)
    with pytest.raises(RequestError, match="budget and recall are both given"):
        AlertRule(budget=0.1, recall=0.5)
    with pytest.raises(RequestError, match="expected one of budget, precision"):
        AlertRule()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run with costs, one without, and the table both were trained on."""
    folder = tmp_path_factory.mktemp("thresholds")
    transactions().to_csv(folder / "t.csv", index=False)
    asked = ["dataset=file", f"dataset.path={folder / 't.csv'}", "dataset.target=verdict"]
    asked += ["dataset.positive_label=fraud", "dataset.drop=[id]", "tracking=none", "loss=bce"]
    asked += ["model=linear", "trainer.max_epochs=5", "schedule=constant", "optimizer.lr=0.05"]
    asked += [f"paths.home={folder / 'home'}"]
    runs = {
        name: package.train([*asked, *extra]).directory
        for name, extra in {"plain": [], "costly": ["costs=[[0,1],[20,0]]"]}.items()
    }
    return {"file": folder / "t.csv", "home": folder / "home", **runs}


def ask(trained: dict[str, Path], run: str, output: Path, *settings: str) -> int:
    asked = [trained[run].name, str(trained["file"]), *settings, f"output={output}"]
    return main(["predict", *asked, "--home", str(trained["home"])])


def test_the_command_says_what_a_rule_gave_on_validation_and_gives_here(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    rows = pd.read_parquet(trained["plain"] / "predictions.parquet")
    val = rows[rows["split"] == "val"]
    scores, positives = val["score"].to_numpy(), val["target"].to_numpy() == 1
    _, recall, values = precision_recall_curve(positives, scores)
    value = values[recall[:-1] >= 0.8].max()
    capsys.readouterr()
    output = tmp_path / "recall.parquet"
    assert ask(trained, "plain", output, "recall=0.8") == 0
    said, table = capsys.readouterr().out, pd.read_parquet(output)
    assert (table["alert"] == (table["score"] >= value)).all()
    alerts, hits = (scores >= value).sum(), ((scores >= value) & positives).sum()
    assert f"alert at a recall of at least 0.8: score >= {value:.6g}, chosen on validation" in said
    assert f"({alerts:,} of its {len(val):,} rows, {hits} of its {positives.sum()} pos" in said
    for name, count in {"precision": alerts, "recall": positives.sum()}.items():
        exact = binomtest(int(hits), int(count)).proportion_ci(method="exact")
        assert f"{name} {hits / count:.3f} ({exact.low:.3f} to {exact.high:.3f})" in said
    assert f"{table['alert'].sum():,} of {len(table):,} rows alert" in said


def test_costs_come_from_the_run_or_from_the_request(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for i, (run, rule) in enumerate({"costly": "cost", "plain": "costs=[[0,1],[20,0]]"}.items()):
        assert ask(trained, run, tmp_path / f"{i}.parquet", rule) == 0
    own, given = (pd.read_parquet(tmp_path / f"{i}.parquet") for i in (0, 1))
    assert (own["alert"] == (own["decision"] == "fraud")).all()
    assert own["alert"].equals(given["alert"]) and 0 < own["alert"].sum() < len(own)
    said = capsys.readouterr().out
    assert "alert where the run's costs are lowest: score >= " in said
    assert "alert where costs=[[0,1],[20,0]] are lowest: score >= " in said


def test_what_cannot_be_had_is_one_line_and_writes_nothing(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    capsys.readouterr()
    for settings, said in {
        ("precision=0.9", "recall=0.8"): "precision and recall are both given",
        ("cost", "alerts=3"): "cost and alerts are both given",
        ("cost",): "cost: the run's record has no costs; give them, for example costs=[[0,1],[50",
        ("cost=1",): "cost=1: expected the word cost alone",
        ("costs=[[0,1]]",): "expected 2 lists of 2 numbers, costs[true class][decision]",
        ("costs=50",): "costs=50: expected a list for each true class",
        ("precision=90",): "precision=90.0 is out of range: expected a number in (0, 1]",
        ("recall=most",): "recall=most: expected a number, for example 0.8",
        ("recal=0.8",): "recal: there is no such setting; did you mean 'recall'?",
    }.items():
        assert ask(trained, "plain", tmp_path / "x.csv", *settings) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
        assert not any(tmp_path.iterdir())


def test_the_model_folder_alone_is_enough(trained: dict[str, Path], tmp_path: Path) -> None:
    """As MLflow keeps it: without the run's folder."""
    folder = shutil.copytree(trained["costly"] / "model", tmp_path / "model")
    alone, run = package.load(folder), package.load(trained["costly"])
    for rule in ({"recall": 0.8}, {"precision": 0.3}, {"cost": True}, {"costs": [[0, 1], [9, 0]]}):
        threshold = run.threshold(**rule)
        assert alone.threshold(**rule) == threshold
        table = alone.score(trained["file"], **rule)
        assert (table["alert"] == (table["score"] >= threshold.value)).all()
    low, high = threshold.recall_interval
    assert low < threshold.recall < high


def test_training_records_on_test_what_the_threshold_promised_on_validation(
    home: Path, capsys: pytest.CaptureFixture
) -> None:
    small = ["dataset.n_samples=4000", "dataset.pos_rate=0.05", "debug=fast", "loss=bce"]
    run = package.train([*small, "threshold.recall=0.8", "tracking=none"])
    rows = pd.read_parquet(run.directory / "predictions.parquet")
    val, test = (rows[rows["split"] == split] for split in ("val", "test"))
    _, recall, values = precision_recall_curve(val["target"], val["score"])
    value = values[recall[:-1] >= 0.8].max()
    kept = json.loads((run.directory / "threshold.json").read_text(encoding="utf-8"))
    assert kept["rule"] == "recall=0.8" and kept["test"]["value"] == value
    (said,) = [line for line in capsys.readouterr().out.splitlines() if "  threshold " in line]
    for name, part in (("val", val), ("test", test)):
        alerts = part["score"] >= value
        hits, positives = int((alerts & (part["target"] == 1)).sum()), int(part["target"].sum())
        for kind, count in (("precision", int(alerts.sum())), ("recall", positives)):
            assert run.metrics[f"{name}/threshold/{kind}"] == hits / count
            exact = binomtest(hits, count).proportion_ci()
            if name == "test":
                assert f"{kind} {hits / count:.4f} [{exact.low:.4f}, {exact.high:.4f}]" in said
            else:
                assert f"{kind} {hits / count:.4f}" in said.partition(" on validation")[0]
        if name == "test":
            assert run.metrics["test/threshold/alerts"] == alerts.sum()
    assert [key for key in run.metrics if find(key) is None] == []


def test_a_promise_that_validation_cannot_keep_is_said_and_not_recorded(
    home: Path, capsys: pytest.CaptureFixture
) -> None:
    small = ["dataset.n_samples=2000", "dataset.pos_rate=0.05", "debug=fast", "loss=bce"]
    hard = ["dataset.flip_y=0.9", "threshold.precision=1", "seed=1"]
    run = package.train([*small, *hard, "tracking=none"])
    said = "".join(capsys.readouterr())
    assert said.count("note: threshold: precision=1 is not reached on validation: the highest") == 1
    assert "nothing is recorded at it" in said
    assert not [key for key in run.metrics if "threshold" in key]
    assert not (run.directory / "threshold.json").exists()


@pytest.mark.parametrize(
    ("override", "answer"),
    [
        ("threshold.precison=0.9", "threshold.precison: there is no such key; did you mean"),
        ("threshold.precision=1.5", "threshold.precision=1.5 is out of range"),
        ("threshold.precision=high", "threshold.precision=high: expected a share"),
        ("threshold={precision:0.9,recall:0.8}", "expected the word cost, or one of"),
        ("threshold=0.9", "as in threshold.precision=0.9"),
        ("threshold.alerts=200", "how many rows alert depends on how many are scored"),
        ("threshold=cost", "threshold=cost: there are no costs"),
    ],
)
def test_rules_that_training_cannot_keep_are_refused(
    override: str, answer: str, home: Path
) -> None:
    with pytest.raises(RequestError) as caught:
        package.train([override, "tracking=none"])
    assert answer in str(caught.value) and not home.exists()
    if override == "threshold=cost":
        several = ["dataset=longtail_toy", "loss=cross_entropy", "threshold.recall=0.5"]
        with pytest.raises(RequestError, match="alerts need two classes"):
            package.train([*several, "tracking=none"])

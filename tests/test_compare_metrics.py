"""``rarelab compare`` by a metric that the runs did not record, computed from their predictions."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import rarelab
from rarelab import cli
from rarelab.compare.rows import metric_of, read_test_rows
from rarelab.errors import RequestError
from rarelab.metrics import evaluate
from rarelab.records.load import Records
from rarelab.runs.evaluation import write_predictions
from recorded import BCE, SMOOTH_AP, record, scored

RECALL = "test/recall_at_q/0.02"
ARMS = {"bce": (BCE, 1.0), "smooth_ap": (SMOOTH_AP, 1.5)}


def recall_in_top(scores: np.ndarray, positives: np.ndarray, size: int) -> float:
    """Recall of the first ``size`` rows, row by row; the last tie group counts in proportion."""
    cut = sorted(scores, reverse=True)[size - 1]
    above, tied = scores > cut, scores == cut
    share = (size - above.sum()) / tied.sum()
    return (positives[above].sum() + share * positives[tied].sum()) / positives.sum()


def study(home: Path, seeds: int = 6, without: tuple[str, ...] = ()) -> dict[str, list]:
    """Two arms on the same test rows, some of them (``bce-0``) without kept predictions; the
    scores of each run."""
    found: dict[str, list] = {}
    for loss, (arm, shift) in ARMS.items():
        for seed in range(seeds):
            own = scored(1000, 40, shift, draw=2, noise=0.3, seed=seed)
            keep = f"{loss}-{seed}" not in without
            finish(home, f"{loss}-{seed}", arm, seed, *own, classes=("no", "yes"), keep=keep)
            found.setdefault(loss, []).append(own)
    return found


def finish(home: Path, name: str, arm, seed, logits, targets, *, classes, keep=True) -> None:
    """Record a run with the metrics of its test rows, and keep its predictions."""
    directory = home / "runs" / "study" / name
    directory.mkdir(parents=True)
    if keep:
        write_predictions(directory / "predictions.parquet", {"test": (logits, targets)}, classes)
    metrics = evaluate(logits, targets, classes=classes, bootstrap_samples=0)
    record(home, arm, seed, metrics, directory=directory)


def compared(*overrides: str):
    return rarelab.compare(["experiment=study", "baseline=bce", *overrides])


def mixed(columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores with ties, some of them between numbers that only float64 tells apart, and labels."""
    rng = np.random.default_rng(columns)
    scores = np.round(rng.normal(size=(400, columns)), 1) + rng.choice([0, 1e-7], (400, columns))
    labels = np.where(rng.random(400) < 0.1, rng.integers(1, max(columns, 2), 400), 0)
    return torch.tensor(scores, dtype=torch.float32), torch.tensor(labels)


@pytest.mark.parametrize(("columns", "names"), [(1, ("no", "yes")), (4, ("a", "b/c", "d", "e"))])
def test_predictions_give_what_the_run_recorded_to_the_last_bit(
    tmp_path: Path, columns: int, names: tuple[str, ...]
) -> None:
    logits, targets = mixed(columns)
    recorded = evaluate(logits, targets, classes=names, bootstrap_samples=0)
    write_predictions(tmp_path / "predictions.parquet", {"test": (logits, targets)}, names)
    rows = read_test_rows(tmp_path / "predictions.parquet")
    neither = ("test/prevalence", "test/brier", "test/ece", "test/softmax_aucpr")
    keys = [key for key in recorded if key not in neither]
    assert len(keys) == 16 + (columns if columns > 1 else 0)
    assert {key: metric_of(rows, key) for key in keys} == {key: recorded[key] for key in keys}


def test_other_levels_and_single_classes_equal_a_loop_over_the_rows(tmp_path: Path) -> None:
    logits, targets = mixed(3)
    write_predictions(tmp_path / "p.parquet", {"test": (logits, targets)}, ("a", "b", "c"))
    rows = read_test_rows(tmp_path / "p.parquet")
    scores, labels = logits.numpy(), targets.numpy()
    for level in (0.0125, 0.07, 0.3):
        each = [
            recall_in_top(scores[:, c], labels == c, math.ceil(round(level * 400, 9)))
            for c in range(3)
        ]
        assert metric_of(rows, f"test/recall_at_q/{level}") == pytest.approx(np.mean(each))
        own = metric_of(rows, f"test/class/b/recall_at_q/{level}")
        assert own == pytest.approx(each[1])
    assert metric_of(rows, "test/class/z/recall_at_q/0.07") is None


def test_a_level_that_no_run_recorded_is_compared_and_resampled(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = study(home)
    assert not any(RECALL in run.metrics for run in Records(home).runs("study"))
    table = compared(f"metric={RECALL}").set_index("arm")
    expected = {
        loss: np.mean([recall_in_top(s.numpy()[:, 0], y.numpy() == 1, 20) for s, y in several])
        for loss, several in found.items()
    }
    for loss, mean in expected.items():
        assert table.loc[f"loss={loss}", "mean"] == pytest.approx(mean)
    assert cli.main(["compare", "experiment=study", "baseline=bce", f"metric={RECALL}"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("Switch to smooth_ap: recall higher by ")
    assert "\ncreditcard: loss=smooth_ap against loss=bce: better" in told
    assert "the noise of the test rows (1,000, 40 positive" in told and RECALL in told
    folder = home / "reports" / "study" / "compare-1"
    assert RECALL in (folder / "report.html").read_text(encoding="utf-8")
    with (folder / "table.csv").open(encoding="utf-8", newline="") as stream:
        first = next(csv.DictReader(stream))
    assert float(first["mean"]) == table.loc["loss=bce", "mean"]


def test_costs_are_told_at_a_budget_that_no_run_recorded(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = study(home)
    bce, better = (
        np.mean([recall_in_top(s.numpy()[:, 0], y.numpy() == 1, 20) for s, y in found[loss]])
        for loss in ("bce", "smooth_ap")
    )
    costs = ("budget=0.02", "costs.missed_positive=100", "costs.rows_per_month=100000")
    assert cli.main(["compare", "experiment=study", "baseline=bce", *costs]) == 0
    told = capsys.readouterr().out
    caught = 100_000 * 0.04 * (better - bce)  # 40 of 1 000 test rows are positive
    assert "per month, 2 % of the rows flagged (2,000 alerts):" in told
    assert f"{caught:+,.1f} [" in told and "positives caught" in told


@pytest.mark.parametrize(
    "metric",
    ["precision_at_q/0.02", "recall_at_fpr/0.2", "precision_at_recall/0.5", "pauc_at_fpr/0.3"],
)
def test_every_ranking_metric_is_compared_at_any_level(home: Path, metric: str) -> None:
    study(home, seeds=1)
    assert compared(f"metric=test/{metric}")["mean"].between(0, 1).all()


def test_runs_without_predictions_are_named_or_all_refused_in_one_line(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study(home, 2, without=("bce-0",))
    assert cli.main(["compare", "experiment=study", f"metric={RECALL}"]) == 0
    note = f"loss=bce: no {RECALL}, nor predictions to compute it from, left out: seed 0"
    assert f"note: {note}" in capsys.readouterr().out
    for file in home.rglob("predictions.parquet"):
        file.unlink()
    with pytest.raises(RequestError, match="no run has it, or the predictions to compute it from"):
        compared(f"metric={RECALL}")


@pytest.mark.parametrize(
    ("metric", "answer"),
    [
        ("test/recall_at_q/1e-2", "no run has it; did you mean 'test/recall_at_q/0.01'"),
        ("test/recall_at_q/2e-2", "no run has it; did you mean 'test/recall_at_q/0.02'"),
        ("test/recal_at_q/0.02", "no run has it; did you mean 'test/recall_at_q/0.02'"),
        ("test/pauc_at_fpr/2", "expected a level above 0 and below 1, as in test/pauc_at_fpr/0.01"),
        ("test/class/yes/aucpr", "no run has it"),
        ("val/recall_at_q/0.02", "no run has it; did you mean 'test/recall_at_q/0.02'"),
    ],
)
def test_a_level_is_written_as_it_is_recorded(home: Path, metric: str, answer: str) -> None:
    study(home, seeds=1)
    with pytest.raises(RequestError) as error:
        compared(f"metric={metric}")
    assert str(error.value).startswith(f"metric={metric}: {answer}")


def test_two_runs_are_compared_at_any_level_within_0_and_1(home: Path) -> None:
    study(home, seeds=1)
    runs = f"runs=[{','.join(run.run_id for run in Records(home).runs('study'))}]"
    assert len(rarelab.compare([runs, f"metric={RECALL}"])) == 2
    assert len(rarelab.compare([runs, "metric=test/precision_at_q/5e-05"])) == 2
    for level in ("0.0", "2.0", "1e-2", "."):
        with pytest.raises(RequestError, match=r"did you mean 'test/recall_at_q/0\.005'"):
            rarelab.compare([runs, f"metric=test/recall_at_q/{level}"])


def test_a_class_is_compared_by_a_metric_that_was_recorded_for_all_only(home: Path) -> None:
    names, labels = ("a", "b", "c"), torch.arange(300) % 3
    for loss, (arm, shift) in ARMS.items():
        noise = torch.randn(300, 3, generator=torch.Generator().manual_seed(0))
        logits = noise + shift * torch.eye(3)[labels]
        finish(home, loss, arm, 0, logits, labels, classes=names)
    assert compared("metric=test/class/b/auroc")["mean"].between(0.5, 1).all()
    with pytest.raises(RequestError, match=r"did you mean 'test/class/b/auroc'"):
        compared("metric=test/class/bb/auroc")

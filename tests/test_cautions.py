"""What is said of runs that rest on too little: few positives in test, too few epochs."""

import logging
import math

import pytest
import torch

from rarelab.compare.arms import group
from rarelab.config.prepare import warn_before
from rarelab.config.sizes import Sizes
from rarelab.data.splits import Splits, Table, make_splits
from rarelab.metrics import evaluate
from rarelab.metrics.bootstrap import FEWEST_POSITIVES
from rarelab.records.load import Run
from rarelab.runs.summary import test_table as shown_table
from rarelab.runs.summary import trained_too_short
from rarelab.training import Trainer


def splits(*rows: int) -> Splits:
    """Validation has plenty; test has ``rows`` of class 1, 2 and so on."""
    y = torch.tensor([0] * 60 + [c for c, n in enumerate(rows, 1) for _ in range(n)])
    table, plenty = Table(torch.zeros(len(y), 1), y), torch.arange(120) % (len(rows) + 1)
    many = Table(torch.zeros(120, 1), plenty)
    classes = [f"c{c}" for c in range(len(rows) + 1)]
    return make_splits(many, many, table, classes=classes, features=["x"], name="t")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ((1,), "test has 1 rows of class c1: fewer than 7"),
        ((FEWEST_POSITIVES - 1,), "test has 6 rows of class c1"),
        ((FEWEST_POSITIVES,), ""),
        ((30, 3), "test has 3 rows of class c2"),
        ((30, 20), ""),
    ],
)
def test_too_few_positives_in_test_are_said_before_training_and_leave_no_interval(
    rows: tuple[int, ...], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = splits(*rows)
    with caplog.at_level(logging.WARNING, "rarelab"):
        warn_before(Sizes(data, Trainer()), None)
    assert (said in caplog.text and "interval" in caplog.text) if said else not caplog.text
    scores = torch.randn(len(data.test), data.num_outputs, generator=torch.manual_seed(0))
    found = evaluate(scores, data.test.y, classes=data.classes, bootstrap_samples=50)
    assert math.isnan(found["test/aucpr_lo"]) == math.isnan(found["test/aucpr_hi"]) == bool(said)
    table = shown_table(found, data)
    assert ("no interval: fewer than 7 positives" in table) == bool(said)
    assert ("95 % over test rows" in table) != bool(said) and "nan" not in table


def run(seed: int, best: float, *, loss: str = "bce", **params: str) -> Run:
    metrics: dict[str, float] = {"test/aucpr": 0.5 + seed / 100, "best/epoch": best}
    params = {"loss": loss, "seed": str(seed), "trainer.max_epochs": "5", **params}
    return Run(f"{loss}{seed}", "", "e", params, {}, metrics, "done", seed)


@pytest.mark.parametrize(
    ("best", "said"), [([4, 4, 1], "2 of 3"), ([4, 1, 1], ""), ([4, 1], ""), ([5, 5], "")]
)
def test_an_arm_that_was_best_at_its_last_epoch_is_said_to_be_trained_too_short(
    best: list[int], said: str
) -> None:
    (data,) = group([run(seed, epoch) for seed, epoch in enumerate(best)], "test/aucpr")
    if not said:
        assert data.notes == []
        return
    (note,) = data.notes
    assert f"trained too short: the best epoch was the last one in {said} runs; raise tr" in note


def test_of_a_booster_the_rounds_count() -> None:
    grown = [run(seed, 59, **{"model.num_iterations": "60"}) for seed in range(3)]
    (data,) = group(grown, "test/aucpr")
    assert "best round was the last one in 3 of 3 runs; raise model.num_it" in data.notes[0]
    assert "last one (60 of 60)" in trained_too_short({"best/epoch": 59.0}, 60, rounds=True)


def test_one_epoch_or_rounds_without_epochs_say_nothing() -> None:
    single = [run(seed, 0, **{"trainer.max_epochs": "1"}) for seed in range(3)]
    rounds = [run(seed, 0, loss="none") for seed in range(3)]
    longer = [run(seed, 4, loss="pauc", **{"model.num_iterations": "60"}) for seed in range(3)]
    for data in group([*single, *rounds, *longer], "test/aucpr"):
        assert data.notes == []


def test_a_run_that_was_best_at_its_last_epoch_says_so() -> None:
    assert "the last one (5 of 5)" in trained_too_short({"best/epoch": 4.0}, 5)
    assert "raise trainer.max_epochs" in trained_too_short({"best/epoch": 1.0}, 2)
    for best, epochs in ((3.0, 5), (0.0, 1), (0.0, 5)):
        assert trained_too_short({"best/epoch": best}, epochs) == ""
    assert trained_too_short({}, 5) == ""

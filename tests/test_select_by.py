"""`trainer.select_by`: the metric that chooses the epoch, from the trainer to a search."""

import copy
import logging
import math
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import rarelab
from rarelab.config import build
from rarelab.config.compose import compose_train
from rarelab.config.prepare import warn_before
from rarelab.config.signature import signature
from rarelab.data.splits import Splits, Table, make_splits
from rarelab.errors import Pruned, RequestError
from rarelab.metrics import table, validation_metrics
from rarelab.search.method import Method, StudyAddress, Told, ask, tell
from rarelab.search.prune import PruneReport
from rarelab.search.search import objective
from rarelab.search.space import Numbers, Space
from rarelab.training.history import read_rows
from rarelab.training.selection import Selection

RECALL, BEST = "val/recall_at_q/0.02", "best/val_recall_at_q/0.02"
SMALL = [
    *("tracking=none", "dataset=toy", "dataset.n_samples=4000", "dataset.pos_rate=0.05"),
    *("model=linear", "loss=bce", "trainer.max_epochs=8", "trainer.batch_size=64"),
    *("optimizer.lr=0.3", "seed=1", "tracking.figures=false"),
]
# Steps of 1/4, so that several epochs tie.
SEEN = st.tuples(st.integers(0, 4), st.integers(0, 4), st.booleans())


def seen(selection: Selection, epochs: list[tuple[int, int, bool]], first: int = 0) -> int:
    """Show epochs to a selection until its patience ends; the number shown."""
    model = nn.Linear(1, 1, bias=False)
    for epoch, (recall, aucpr, main) in enumerate(epochs, first):
        if selection.exhausted:
            return epoch
        nn.init.constant_(model.weight, epoch)
        selection.see(epoch, {RECALL: recall / 4, "val/aucpr": aucpr / 4}, model, main=main)
    return first + len(epochs)


@given(st.lists(SEEN, min_size=1, max_size=12), st.none() | st.integers(1, 3), st.booleans())
def test_the_selection_is_the_naive_one(
    epochs: list[tuple[int, int, bool]], patience: int | None, main: bool
) -> None:
    best, since, shown = None, 0, 0
    for epoch, (recall, aucpr, at_main) in enumerate(epochs):
        if patience is not None and since >= patience:
            break
        shown += 1
        if main and not at_main:
            continue
        if best is None or recall > best[0] or (recall == best[0] and aucpr > best[1]):
            best, since = (recall, aucpr, epoch), 0
        else:
            since += 1
    selection = Selection("main" if main else "any", patience, RECALL)
    assert seen(selection, epochs) == shown
    if best is None:
        assert selection.best_epoch is None
        return
    found = selection.metrics()
    assert (found[BEST], found["best/val_aucpr"]) == (best[0] / 4, best[1] / 4)
    assert found["best/epoch"] == best[2]
    assert selection.best_state is not None
    assert selection.best_state["weight"].item() == best[2]
    warmup = [aucpr / 4 for _, aucpr, at_main in epochs[:shown] if not at_main]
    assert found.get("best/warmup_val_aucpr", -1) == max(warmup, default=-1)


@given(st.lists(SEEN, min_size=1, max_size=10), st.integers(0, 10))
def test_a_selection_restored_at_any_epoch_goes_on_as_if_uninterrupted(
    epochs: list[tuple[int, int, bool]], at: int
) -> None:
    whole, first, rest = (Selection("any", 2, RECALL) for _ in range(3))
    seen(whole, epochs)
    done = seen(first, epochs[:at])
    rest.load_state_dict(copy.deepcopy(first.state_dict()))
    seen(rest, epochs[done:], done)
    assert repr(rest.state_dict()) == repr(whole.state_dict())  # NaN is NaN


def test_a_checkpoint_from_before_select_by_still_loads() -> None:
    earlier = Selection("any", 3)
    earlier.see(0, {"val/aucpr": 0.4}, nn.Linear(1, 1), main=True)
    state = earlier.state_dict()
    del state["best_aucpr"]
    later = Selection("any", 3)
    later.load_state_dict(state)
    assert later.metrics() == {"best/val_aucpr": 0.4, "best/epoch": 0.0}
    assert not later.see(1, {"val/aucpr": 0.4}, nn.Linear(1, 1), main=True)
    assert later.see(2, {"val/aucpr": 0.5}, nn.Linear(1, 1), main=True)


@pytest.mark.parametrize("level", [0.003, 0.02, 0.5, 0.999])
def test_the_recall_at_any_level_is_recorded_beside_the_others(level: float) -> None:
    generator = torch.Generator().manual_seed(0)
    scores, y = torch.randn(500, generator=generator), torch.rand(500, generator=generator) < 0.1
    key = f"val/recall_at_q/{level}"
    found = validation_metrics(scores, y.long(), key)
    top = np.argsort(-scores.numpy())[: math.ceil(level * 500 - 1e-9)]
    assert found[key] == pytest.approx(y.numpy()[top].sum() / y.sum().item())
    assert set(found) == {"val/aucpr", "val/recall_at_q/0.005", key}
    assert set(validation_metrics(scores, y.long())) == {"val/aucpr", "val/recall_at_q/0.005"}


@pytest.mark.parametrize(
    ("key", "answer"),
    [
        ("val/aucrp", "expected a validation metric; did you mean 'val/aucpr'?"),
        ("test/aucpr", "expected a validation metric; did you mean 'val/aucpr'?"),
        ("val/recal_at_q/0.02", "did you mean 'val/recall_at_q/0.02'?"),
        ("val/recall_at_q", "did you mean 'val/recall_at_q/0.005'?"),
        ("val/recall_at_q/1e-2", "did you mean 'val/recall_at_q/0.01'?"),
        ("val/recall_at_q/1", "expected a level above 0 and below 1"),
        ("val/recall_at_q/0", "expected a level above 0 and below 1"),
        ("val/recall_at_q/nan", "expected a level above 0 and below 1"),
        ("train/loss", "expected a validation metric; "),
    ],
)
def test_another_name_is_refused_in_one_line_with_the_nearest(key: str, answer: str) -> None:
    cfg, _ = compose_train([*SMALL, f"trainer.select_by={key}"])
    with pytest.raises(RequestError) as caught:
        build.check(cfg)
    assert str(caught.value).startswith(f"trainer.select_by={key}: ")
    assert answer in str(caught.value) and "\n" not in str(caught.value)


def test_earlier_signatures_stay_and_another_metric_has_its_own() -> None:
    plain = build.OmegaConf.to_container(compose_train(SMALL)[0], resolve=True)
    other = copy.deepcopy(plain)
    other["trainer"]["select_by"] = RECALL
    before = copy.deepcopy(plain)
    del before["trainer"]["select_by"]
    assert signature(before) == signature(plain) != signature(other)


def trained(*overrides: str) -> tuple[dict[str, float], list[dict[str, float]]]:
    run = rarelab.train([*SMALL, *overrides])
    rows = read_rows(Path(run.directory) / "history.jsonl")
    return run.metrics, [row["metrics"] for row in rows if "val/aucpr" in row["metrics"]]


@pytest.mark.usefixtures("home")
def test_a_run_keeps_the_epoch_of_its_own_metric(capsys: pytest.CaptureFixture[str]) -> None:
    usual, rows = trained()
    assert "moves in steps" not in capsys.readouterr().out
    found, again = trained(f"trainer.select_by={RECALL}")
    said = capsys.readouterr().out
    ranks = [(row[RECALL], row["val/aucpr"]) for row in again]
    chosen = ranks.index(max(ranks))
    assert [row["val/aucpr"] for row in again] == [row["val/aucpr"] for row in rows]
    assert found["best/epoch"] == chosen != usual["best/epoch"]
    assert (found[BEST], found["best/val_aucpr"]) == ranks[chosen]
    assert BEST not in usual and found["best/val_aucpr"] < usual["best/val_aucpr"]
    assert said.count("validation positives); ties go to the higher AUCPR") == 1
    assert said.count(f"  {RECALL} ") == len(again)
    assert f"  {RECALL} {ranks[0][0]:6.4f}" in said


@pytest.mark.usefixtures("home")
def test_a_model_that_fits_itself_says_that_it_stops_by_another_rule(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found, rows = trained("model=hist_gradient_boosting", f"trainer.select_by={RECALL}")
    assert found[BEST] == rows[0][RECALL]
    said = capsys.readouterr().out
    assert said.count("HistGradientBoosting fits itself and stops by a rule of its own") == 1
    assert "moves in steps" not in said


@pytest.mark.usefixtures("home")
def test_a_booster_stops_by_it() -> None:
    rounds = ("model=lightgbm", "model.num_iterations=40", "model.early_stopping_round=5")
    found, rows = trained(*rounds, f"trainer.select_by={RECALL}")
    ranks = [(row[RECALL], row["val/aucpr"]) for row in rows]
    assert found["best/epoch"] == ranks.index(max(ranks))
    assert len(rows) == min(40, found["best/epoch"] + 6)


def test_the_sweep_table_shows_it_beside_the_aucpr() -> None:
    shown = table.shown(table.SWEEP, ["test/aucpr", BEST, "best/val_recall_at_q/0.3"])
    assert shown[:3] == ["best/val_aucpr", BEST, "best/val_recall_at_q/0.3"]
    assert set(table.shown(table.SWEEP)) == set(shown) - {BEST, "best/val_recall_at_q/0.3"}
    assert table.higher_is_better(BEST) and table.in_ledger(BEST)


def test_a_search_maximises_the_metric_that_selects() -> None:
    assert objective(None, {"val/aucpr"}) == objective("val/aucpr", {RECALL}) == "val/aucpr"
    assert objective(None, {RECALL}) == objective(RECALL, {RECALL}) == RECALL
    assert objective("val/aucpr", {RECALL, "val/aucpr"}) == "val/aucpr"
    with pytest.raises(RequestError, match="compared by one metric, found 2"):
        objective(None, {RECALL, "val/aucpr"})
    with pytest.raises(RequestError, match=r"hydra\.sweeper\.metric=val/aucrp: .*'val/aucpr'"):
        objective("val/aucrp", {RECALL})
    with pytest.raises(RequestError, match=r"hydra\.sweeper\.metric=val/recall_at_q/0\.02"):
        objective(RECALL, {"val/aucpr"})


def test_the_pruner_compares_it(tmp_path: Path) -> None:
    space = Space((Numbers("x", 0.0, 1.0),), (), ())
    at = StudyAddress(str(tmp_path / "j"), "s", Method(startup_trials=1, pruner_warmup=0))
    good = {"val/aucpr": 0.1, RECALL: 0.9}
    asked = ask(at.open(), at.method, space)
    PruneReport(at, asked.number, RECALL)({"step": 0, "time": 0, "metrics": good})
    tell(at.open(), Told(asked.number, "done", 0.9))
    asked = ask(at.open(), at.method, space)
    report = pickle.loads(pickle.dumps(PruneReport(at, asked.number, RECALL)))
    with pytest.raises(Pruned, match=f"{RECALL} 0.2000 is not promising"):
        report({"step": 0, "time": 0, "metrics": {"val/aucpr": 0.8, RECALL: 0.2}})


def splits(*counts: int) -> Splits:
    """Splits with so many rows of each class, and no others, in every part."""
    y = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    part = Table(torch.zeros(len(y), 1), y)
    classes = [f"c{c}" for c in range(len(counts))]
    return make_splits(part, part, part, classes=classes, features=["x"], name="t")


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ((60, 23), "moves in steps of 0.043 (23 validation positives); ties go to the higher"),
        ((60, 10, 50), "up to 0.033 (10 validation rows of class c1, one of 3 averaged); ties"),
    ],
)
def test_the_note_says_how_coarse_it_is(
    counts: tuple[int, ...], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    loss = "bce" if len(counts) == 2 else "cross_entropy"
    cfg, _ = compose_train([*SMALL, f"loss={loss}", f"trainer.select_by={RECALL}"])
    data, trainer = splits(*counts), build.trainer(cfg)
    ready = build.Sizes(data, trainer)
    work = build.work(cfg, ready, build.model(cfg, ready), torch.device("cpu"))
    with caplog.at_level(logging.INFO, "rarelab"):
        warn_before(ready, work)
    assert caplog.text.count(said) == caplog.text.count("ties go") == 1
    caplog.clear()
    with caplog.at_level(logging.INFO, "rarelab"):
        warn_before(build.Sizes(data, replace(trainer, select_by="val/aucpr")), work)
    assert "ties go" not in caplog.text

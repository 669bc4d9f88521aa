"""XGBoost grown by several processes, each on its part of the rows, grows as in one."""

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

import rarelab as package
from rarelab import losses
from rarelab.boosting import XGBoost, XGBoostLogLoss
from rarelab.cli import main
from rarelab.data.splits import Table
from rarelab.training import Trainer
from rarelab.training.history import History, read_rows
from rarelab.training.rounds import RoundWork, fit_rounds
from rarelab.training.team import Ranks, Team
from test_boosting import SMALL, blended, table
from test_devices import ITSELF, WAYS, descendants, folders, left, other, started, status, wait_for
from test_devices import rows as history

__all__ = ["started"]  # a fixture

ROUNDS = 30


@dataclass(frozen=True)
class Scenario:
    """A model on a loss; ``rows`` of training; whether the quantiles are ``exact``."""

    name: str
    loss: str = "smooth_ap"
    cls: type = XGBoost
    classes: int = 2
    weighted: bool = False
    rows: int = 1501
    exact: bool = True

    @property
    def outputs(self) -> int:
        return 1 if self.classes == 2 else self.classes

    def table(self, rows: int, seed: int) -> Table:
        return table(rows, self.classes, seed, self.weighted)

    def make_loss(self) -> nn.Module:
        return losses.SigmoidFocalLoss() if self.loss == "focal" else blended(self.outputs)


# Up to 2,048 rows XGBoost's quantiles are exact, and so are those of several processes.
SCENARIOS = [
    Scenario("binary"),
    Scenario("weighted", weighted=True),
    Scenario("three classes", classes=3),
    Scenario("a mean over rows", "focal"),
    Scenario("log-loss of its own", cls=XGBoostLogLoss, weighted=True),
    Scenario("more rows", rows=6000, exact=False),
]


def grown(scenario: Scenario, team: Team, folder: Path) -> dict[str, Any]:
    """Grow; the history, the scores of other rows, and how many rows this process held."""
    options = {**SMALL["xgboost"], "subsample": 1.0, "num_iterations": ROUNDS}
    model = scenario.cls(6, scenario.outputs, **options)
    train, val = scenario.table(scenario.rows, 0), scenario.table(501, 1)
    rare, seed = scenario.classes - 1, 5
    work = RoundWork(model, scenario.make_loss(), train, val, rare, 3, seed, team=team)
    path = folder / f"{os.getpid()}.jsonl"
    path.unlink(missing_ok=True)
    fit_rounds(Trainer(threads=1, select="any"), work, History(path))
    return {
        "rows": [row["metrics"] for row in read_rows(path)],
        "scores": model.scores(scenario.table(800, 2).x),
        "text": model.text(),
        "held": model._data.num_row(),
    }


def worker(rank: int, size: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=size)
    found = [grown(scenario, Ranks(), Path(folder)) for scenario in SCENARIOS]
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_several_processes_grow_as_one(size: int, tmp_path: Path) -> None:
    mp.spawn(worker, (size, str(tmp_path)), nprocs=size)
    each = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(size)]
    for index, scenario in enumerate(SCENARIOS):
        alone, ours = grown(scenario, Team(), tmp_path), [found[index] for found in each]
        parts = [found["held"] for found in ours]
        assert sum(parts) == alone["held"] == scenario.rows
        assert max(parts) - min(parts) <= 1
        for found in ours[1:]:
            assert found["text"] == ours[0]["text"], scenario.name
            assert found["rows"] == ours[0]["rows"]
        apart = (ours[0]["scores"] - alone["scores"]).abs().max().item()
        if scenario.exact:
            assert apart <= 1e-5, scenario.name
            for mine, theirs in zip(ours[0]["rows"], alone["rows"], strict=True):
                assert mine == pytest.approx(theirs, abs=1e-5, nan_ok=True)
        else:
            spread = alone["scores"].std().item()
            squared = (ours[0]["scores"] - alone["scores"]).square().mean().item()
            assert 0 < squared**0.5 < 0.25 * spread
            last, other = ours[0]["rows"][-1]["val/aucpr"], alone["rows"][-1]["val/aucpr"]
            assert last == pytest.approx(other, abs=0.03)


SHORT = [
    *("model=xgboost", "loss=smooth_ap", "dataset.n_samples=3000", "dataset.pos_rate=0.03"),
    *("trainer.max_epochs=5", "schedule.warmup_epochs=1", "schedule.blend_epochs=1"),
    *("model.num_iterations=20", "model.early_stopping_round=null"),
]
LONG = [*SHORT, "model.num_iterations=4000"]


@pytest.mark.slow
def test_the_record_matches_that_of_one_process(home, monkeypatch, tmp_path) -> None:
    found = {}
    for way, command in {"one": ITSELF[:-1], **WAYS}.items():
        place = tmp_path / way
        variables = {**os.environ, "RARELAB_HOME": str(place)}
        settings = [*SHORT, "model.subsample=1"]
        done = subprocess.run(
            [*command, *settings], env=variables, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("recorded in") == 1 and "got rank" not in done.stdout
        found[way] = history(place)
    assert found["itself"] == found["torchrun"]
    for (step, one), (also, two) in zip(found["one"], found["itself"], strict=True):
        assert step == also
        assert two == pytest.approx(one, abs=1e-4, nan_ok=True)
    monkeypatch.setenv("RARELAB_HOME", str(tmp_path / "itself"))
    assert main(["reproduce", folders(tmp_path / "itself")[0].name]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_process_that_dies_ends_the_run_with_a_message(started, home, way, tmp_path) -> None:
    process = started([*WAYS[way], *LONG], home)
    family = descendants(process.pid)
    os.kill(other(process), signal.SIGKILL)
    wait_for(lambda: left(process, family), seconds=45)
    assert process.returncode == 1
    said = (tmp_path / "output.txt").read_text()
    if way == "itself":
        assert "error: process 1 of 2 (counted from 0) is gone: its process was killed" in said
    else:
        assert "error: another process is gone (" in said
    assert "Stack trace" not in said
    assert status(home) == "error"


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_resumes_to_the_same_bits(
    started, home, sent: int, tmp_path, monkeypatch
) -> None:
    settings = [*SHORT, "model.num_iterations=400", "trainer.checkpoint_every=5 steps"]
    process = started([*ITSELF, *settings], home)
    family = descendants(process.pid)
    process.send_signal(sent)
    wait_for(lambda: left(process, family), seconds=45)
    assert len(history(home)) < 400
    package.train(["trainer.devices=2", *settings])
    ours = history(home)
    assert len(folders(home)) == 1 and status(home) == "done"
    monkeypatch.setenv("RARELAB_HOME", str(tmp_path / "whole"))
    package.train(["trainer.devices=2", *settings])
    assert ours == history(tmp_path / "whole")


def test_more_processes_than_rows_are_refused(capsys, home) -> None:
    settings = ["trainer.devices=1000", "model=xgboost", "dataset.n_samples=1000"]
    assert main(["train", *settings]) == 2
    said = "error: trainer.devices=1000: expected at most one process per training row, of 600\n"
    assert capsys.readouterr().err == said
    assert not home.exists()

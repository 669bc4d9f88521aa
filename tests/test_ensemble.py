"""An ensemble of recorded runs: averaged, recorded, compared, predicted and reproduced as a run."""

import inspect
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import rankdata
from torch import nn

import rarelab as package
from rarelab.cli import main
from rarelab.errors import RequestError
from rarelab.models import Ensemble
from rarelab.paths import config_root
from rarelab.records.load import from_directory
from rarelab.records.seedless import for_every_seed
from refitted import QUICK
from tables import transactions

SEEDS, SPLITS = range(4), range(2)


class Trained:
    """Four seeds of a network on each of two splits, and a booster on the first."""

    def __init__(self, folder: Path) -> None:
        self.file, self.home = folder / "transactions.csv", folder / "home"
        transactions().to_csv(self.file, index=False)
        self.data = ["dataset=file", f"dataset.path='{self.file}'", "dataset.target=verdict"]
        self.data += ["dataset.positive_label=fraud", "dataset.drop=[id]"]
        self.data += ["dataset.categorical=[shop]", f"paths.home='{self.home}'", *QUICK]
        self.data += ["tracking.experiment=members"]
        self.networks = {
            (split, seed): self.run("model=mlp", f"dataset.split_seed={split}", f"seed={seed}")
            for split in SPLITS
            for seed in SEEDS
        }
        self.booster = self.run("model=hist_gradient_boosting")

    def run(self, *overrides: str) -> Path:
        return package.train([*self.data, *overrides]).directory

    def ensemble(self, *overrides: str, experiment: str = "ensembles") -> Path:
        asked = ["model=ensemble", *overrides, f"tracking.experiment={experiment}"]
        return self.run(*asked, "calibration=none")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("ensemble"))


def scores(run: Path, split: str = "test") -> NDArray[np.float64]:
    rows = pd.read_parquet(run / "predictions.parquet")
    return np.array(rows.loc[rows["split"] == split, "score"], dtype=np.float64)


def listed(*runs: Path) -> str:
    return f"model.runs=[{','.join(run.name for run in runs)}]"


def members(run: Path) -> str:
    return from_directory(run).params["model.members"]


NETWORKS = ["model.experiment=members", "model.arm={model:mlp}"]


def test_the_scores_are_the_logit_of_the_mean_probability(trained: Trained) -> None:
    of = [trained.networks[0, 0], trained.networks[0, 1], trained.booster]
    run = trained.ensemble(listed(*of))
    for split in ("val", "test"):
        expected = logit(np.mean([expit(scores(member, split)) for member in of], axis=0))
        assert scores(run, split) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    own = from_directory(run)
    assert own.status == "done" and own.metrics["test/aucpr"] > 0
    assert own.params["model"] == "ensemble" and "loss" not in own.params


def test_ranks_are_the_mean_place_among_the_validation_scores(trained: Trained) -> None:
    of = [trained.networks[0, 0], trained.booster]
    run = trained.ensemble(listed(*of), "model.average=rank")
    found = [scores(member, "val") for member in of]
    places = [rankdata(own) / (len(own) + 1) for own in found]
    expected = logit(np.mean(places, axis=0))
    assert scores(run, "val") == pytest.approx(expected, rel=1e-3, abs=1e-4)


class Given(nn.Module):
    """A member whose score is a feature."""

    def __init__(self, place: int, log_odds: bool = True) -> None:
        super().__init__()
        self.place, self.gives_log_odds = place, log_odds

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, self.place]


def rows(x: torch.Tensor) -> Any:
    return SimpleNamespace(x=x, y=torch.arange(len(x)) % 2, sample_weight=None)


@pytest.mark.parametrize(("log_odds", "average"), [(True, "probability"), (False, "rank")])
def test_scores_that_are_no_log_odds_are_averaged_by_rank(log_odds: bool, average: str) -> None:
    model = Ensemble(1, runs=["a", "b"])
    model.take([Given(0), Given(1, log_odds)], [{}, {}])
    model.fit(rows(torch.randn(9, 2)), rows(torch.randn(9, 2)), 0)
    assert model.average == average


def test_ranks_do_not_depend_on_a_members_scale_and_keep_the_order_beyond_validation() -> None:
    draw = torch.Generator().manual_seed(0)
    val, new = (torch.randn(200, 2, generator=draw, dtype=torch.float64) for _ in range(2))
    new[:50] *= 30  # beyond all validation scores
    found = []
    for scale in (1.0, 1000.0):
        model = Ensemble(1, runs=["a", "b"], average="rank")
        model.take([Given(0), Given(1)], [{}, {}])
        by = torch.tensor([1.0, scale])
        model.fit(rows(val), rows((val * by).float()), 0)
        found.append(model.scores((new * by).float())[:, 0])
        alone = Ensemble(1, runs=["a"], average="rank")
        alone.take([Given(0)], [{}])
        alone.fit(rows(val), rows(val.float()), 0)
        order = alone.scores(new.float())[:, 0].argsort()
        assert order.tolist() == new[:, 0].float().argsort().tolist()
    assert torch.allclose(*found, rtol=1e-3, atol=1e-4)


def test_predict_needs_no_folder_of_a_member(trained: Trained, tmp_path: Path) -> None:
    run = trained.ensemble(*NETWORKS)
    moved = tmp_path / "elsewhere"
    shutil.copytree(run / "model", moved / "model")
    loaded = package.load(moved)
    recorded = pd.read_parquet(run / "predictions.parquet")
    frame = pd.read_csv(trained.file)
    found = loaded.score(frame)["score"].to_numpy()[recorded["row"]]
    assert found == pytest.approx(recorded["score"].to_numpy(), rel=1e-4, abs=1e-5)
    with pytest.raises(RequestError, match="Ensemble gives no reasons"):
        loaded.reasons(frame)


def test_an_ensemble_of_ranks_is_loaded_with_its_order(trained: Trained) -> None:
    run = trained.ensemble(*NETWORKS, "model.average=rank", "model.size=3")
    recorded = pd.read_parquet(run / "predictions.parquet")
    found = package.load(run).score(pd.read_csv(trained.file))["score"].to_numpy()
    expected = recorded["score"].to_numpy()
    assert found[recorded["row"]] == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_the_members_follow_the_split_and_the_seed(trained: Trained) -> None:
    for split in SPLITS:
        where = f"dataset.split_seed={split}"
        ids = [from_directory(trained.networks[split, seed]).run_id for seed in SEEDS]
        assert members(trained.ensemble(*NETWORKS, where)) == str(ids)
        halves = [
            trained.ensemble(*NETWORKS, where, "model.size=2", f"seed={seed}") for seed in (0, 1)
        ]
        assert [members(half) for half in halves] == [str(ids[:2]), str(ids[2:])]


def test_the_members_are_part_of_the_identity_but_not_of_the_arm(trained: Trained) -> None:
    first, other = (
        from_directory(trained.ensemble(*NETWORKS, "model.size=2", f"seed={s}")) for s in (0, 1)
    )
    assert first.arm == other.arm
    named = [from_directory(trained.ensemble(listed(trained.networks[0, seed]))) for seed in (0, 1)]
    assert named[0].arm != named[1].arm
    signatures = {run.tags["rarelab.signature"] for run in (first, other, *named)}
    assert len(signatures) == 4


def test_a_sweep_resolves_its_ensembles_when_it_is_planned(
    trained: Trained, capsys: pytest.CaptureFixture
) -> None:
    asked = ["train", "-m", *trained.data, "model=ensemble", *NETWORKS, "calibration=none"]
    asked += ["dataset.split_seed=0,1", "tracking.experiment=swept"]
    assert main(asked) == 0
    shown = capsys.readouterr().out
    assert "split_seed=0" in shown and "members=" not in shown
    assert main(asked) == 0
    assert "2 done" in capsys.readouterr().out
    again = trained.run("model=mlp", "seed=9")  # a new member makes it another run
    assert main([*asked, "sweep.dry_run=true"]) == 0
    assert "1 done, 1 to run" in capsys.readouterr().out
    shutil.rmtree(again)


def test_an_ensemble_of_every_seed_stands_beside_each_of_them(trained: Trained) -> None:
    singles = [from_directory(trained.networks[0, seed]) for seed in SEEDS]
    whole = from_directory(trained.ensemble(*NETWORKS))
    found = for_every_seed([*singles, whole])
    assert sorted(run.seed or 0 for run in found if run.every_seed) == [*SEEDS]
    part = from_directory(trained.ensemble(*NETWORKS, "model.size=2", "seed=1"))
    assert [run.seed for run in for_every_seed([*singles, part])] == [*SEEDS, 1]


def test_it_is_reproduced_from_its_members(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: Any
) -> None:
    monkeypatch.setenv("RARELAB_HOME", str(trained.home))
    extra = trained.run("model=mlp", "seed=7", "tracking.experiment=extra")
    run = trained.ensemble(listed(trained.networks[0, 0], extra), experiment="kept")
    assert main(["refit", run.name]) == 2
    assert "an ensemble trains nothing that could be refitted" in capsys.readouterr().err
    assert main(["reproduce", run.name]) == 0
    assert "is reproduced: all" in capsys.readouterr().out
    shutil.rmtree(trained.home / "runs" / "reproduced")
    gone = from_directory(extra).run_id
    shutil.rmtree(extra)
    assert main(["reproduce", run.name]) == 2
    assert f"model.members: there is no run {gone} in " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (["model.experiment=members"], r"2 arms match \(model=hist_gradient_boosting"),
        (["model.experiment=member"], "did you mean 'members'"),
        (["model.experiment=members", "model.arm={model:mlpp}"], "did you mean 'model=mlp'"),
        ([*NETWORKS, "model.size=3", "seed=1"], "has 4 seeds .* takes number 4 to 6"),
        ([*NETWORKS, "dataset.split_seed=5"], "on other data or another split"),
        ([*NETWORKS, "dataset.max_categories=3"], "on other data or another split"),
    ],
)
def test_what_an_experiment_does_not_have_is_refused(
    trained: Trained, asked: list[str], answer: str
) -> None:
    with pytest.raises(RequestError, match=answer):
        trained.ensemble(*asked)


def test_runs_of_other_rows_are_refused(trained: Trained) -> None:
    here, there = trained.networks[0, 0], trained.networks[1, 0]
    with pytest.raises(RequestError, match=f"{there.name}: its rows are not those of this run"):
        trained.ensemble(listed(here, there))
    with pytest.raises(RequestError, match="expected 2 different runs"):
        trained.ensemble(f"model.runs=[{here.name},members/{here.name}]")
    whole = trained.ensemble(*NETWORKS)
    with pytest.raises(RequestError, match="it is an ensemble itself; name its members"):
        trained.ensemble(listed(whole))


def test_classes_are_averaged_as_probabilities_only(tmp_path: Path) -> None:
    data = ["dataset=longtail_toy", "loss=cross_entropy", f"paths.home='{tmp_path}'"]
    data += [*QUICK[:4], "tracking.figures=false"]
    runs = [
        package.train([*data, f"model={model}"]).directory
        for model in ("mlp", "hist_gradient_boosting")
    ]
    run = package.train([*data, "model=ensemble", listed(*runs)]).directory
    columns = [
        np.stack([frame[name] for name in frame if name.startswith("score/")], axis=1)
        for frame in (pd.read_parquet(r / "predictions.parquet") for r in (*runs, run))
    ]
    odds = [np.exp(c - c.max(axis=1, keepdims=True)) for c in columns]
    shares = [o / o.sum(axis=1, keepdims=True) for o in odds]
    assert shares[2] == pytest.approx((shares[0] + shares[1]) / 2, abs=1e-5)
    with pytest.raises(RequestError, match="ranks are of two classes"):
        package.train([*data, "model=ensemble", listed(*runs), "model.average=rank"])


def test_the_config_names_every_parameter_but_the_models_themselves() -> None:
    leaf = yaml.safe_load((config_root() / "conf" / "model" / "ensemble.yaml").read_text("utf-8"))
    assert leaf.pop("_target_") == "rarelab.models.Ensemble"
    assert {**leaf, "models": ()}.keys() == inspect.signature(Ensemble).parameters.keys()
    assert not any(leaf.values())

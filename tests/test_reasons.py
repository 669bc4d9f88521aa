"""Why a row has its score: what each raw column added, against outside oracles."""

import json
import tempfile
from collections.abc import Callable, Iterator
from itertools import combinations
from math import factorial
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
import torch
import xgboost
from torch import Tensor, nn

import rarelab as package
from rarelab import losses
from rarelab.boosting import CatBoost, LightGBM, XGBoost
from rarelab.cli import main
from rarelab.data.splits import Table
from rarelab.errors import RequestError
from rarelab.functional.threads import limited_threads
from rarelab.models import (
    MLP,
    FTTransformer,
    Linear,
    TabM,
    TabularResNet,
    gradients,
    integrated_gradients,
)
from rarelab.predict import command, read_model
from rarelab.predict.reasons import Reasons
from rarelab.training import Trainer
from rarelab.training.history import History
from rarelab.training.rounds import RoundWork, fit_rounds
from refitted import alike, trained

pytestmark = pytest.mark.as_users_do


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with limited_threads(1):
        yield


# Boosters: Shapley values of the trees.


def table(rows: int = 400, seed: int = 0) -> Table:
    x = torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed))
    return Table(x, (x[:, 0] + x[:, 1] * x[:, 2] > 1.2).long())


SMALL: dict[type, dict[str, Any]] = {
    LightGBM: {"min_data_in_leaf": 5, "num_leaves": 8, "feature_fraction": 1.0},
    XGBoost: {"max_depth": 3, "colsample_bytree": 1.0},
    CatBoost: {"depth": 3},
}


def grown(cls: type, folder: Path) -> Any:
    if cls is CatBoost:
        model = cls(3, 1, iterations=6, early_stopping_round=None, **SMALL[cls])
        model.fit(table(), table(seed=1), 5)
        return model
    model = cls(3, 1, num_iterations=6, early_stopping_round=None, **SMALL[cls])
    work = RoundWork(model, losses.plain_loss(1), table(), table(seed=1), 1, 3, seed=5)
    fit_rounds(Trainer(), work, History(folder / "history.jsonl"), None)
    model.keep(6)
    return model


Node = Any
"""A leaf's value, or (goes left, feature, left, right, the share of the rows that go left)."""


def lightgbm_trees(model: LightGBM) -> list[Node]:
    def node(found: dict[str, Any]) -> Node:
        if "leaf_value" in found:
            return found["leaf_value"]
        counts = [
            below.get("internal_count", below.get("leaf_count"))
            for below in (found["left_child"], found["right_child"])
        ]
        edge, left, right = found["threshold"], node(found["left_child"]), found["right_child"]
        goes = lambda value: value <= edge  # noqa: E731
        return goes, found["split_feature"], left, node(right), counts[0] / sum(counts)

    dumped = lightgbm.Booster(model_str=model.text()).dump_model()
    return [node(tree["tree_structure"]) for tree in dumped["tree_info"]]


def xgboost_trees(model: XGBoost) -> list[Node]:
    def node(found: dict[str, Any]) -> Node:
        if "leaf" in found:
            return found["leaf"]
        below = {child["nodeid"]: child for child in found["children"]}
        left, right = below[found["yes"]], below[found["no"]]
        edge = np.float32(found["split_condition"])
        goes = lambda value: value < edge  # noqa: E731
        share = left["cover"] / (left["cover"] + right["cover"])
        return goes, int(found["split"][1:]), node(left), node(right), share

    booster = xgboost.Booster()
    booster.load_model(bytearray(model.text().encode()))
    return [node(json.loads(one)) for one in booster.get_dump(with_stats=True, dump_format="json")]


def catboost_trees(model: CatBoost) -> list[Node]:
    """From its own JSON, in which a tree asks the same question of all nodes of a level, and bit i
    of a leaf's number is the answer to question i. The last question is the root's."""
    import catboost

    cbm = catboost.CatBoost().load_model(blob=model.state()["cbm"].tobytes())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trees.json"
        cbm.save_model(str(path), format="json")
        dumped = json.loads(path.read_text())

    def node(tree: dict[str, Any], level: int, leaf: int) -> tuple[Node, float]:
        if level < 0:
            return tree["leaf_values"][leaf], tree["leaf_weights"][leaf]
        split = tree["splits"][level]
        (left, few), (right, rest) = (node(tree, level - 1, leaf | up << level) for up in (0, 1))
        goes = lambda value: not value > split["border"]  # noqa: E731
        share = few / (few + rest) if few + rest else 0.5
        return (goes, split["float_feature_index"], left, right, share), few + rest

    trees = [node(tree, len(tree["splits"]) - 1, 0)[0] for tree in dumped["oblivious_trees"]]
    return [*trees, dumped["scale_and_bias"][1][0]]


def expected(node: Node, row: np.ndarray, known: set[int]) -> float:
    """The mean of a tree where only some features of the row are known."""
    if not isinstance(node, tuple):
        return node
    goes_left, feature, left, right, share = node
    if feature in known:
        return expected(left if goes_left(row[feature]) else right, row, known)
    return share * expected(left, row, known) + (1 - share) * expected(right, row, known)


def shapley(trees: list[Node], row: np.ndarray) -> list[float]:
    """The definition: the mean gain of a feature over all orders in which features become known."""
    found = []
    for feature in range(3):
        others = [other for other in range(3) if other != feature]
        value = 0.0
        for size in range(3):
            weight = factorial(size) * factorial(2 - size) / factorial(3)
            for subset in combinations(others, size):
                for sign, known in ((1, {*subset, feature}), (-1, {*subset})):
                    value += sign * weight * sum(expected(tree, row, known) for tree in trees)
        found.append(value)
    return found


TREES: dict[type, Callable[[Any], list[Node]]] = {
    LightGBM: lightgbm_trees,
    XGBoost: xgboost_trees,
    CatBoost: catboost_trees,
}


@pytest.mark.parametrize(
    "cls",
    [
        *(LightGBM, XGBoost),
        pytest.param(CatBoost, marks=pytest.mark.slow),  # an extra that only the slow tests install
    ],
)
def test_a_boosters_contributions_are_the_shapley_values_by_their_definition(
    tmp_path: Path, cls: type
) -> None:
    model, x = grown(cls, tmp_path), table(40, seed=2).x
    found = model.contributions(x)
    trees = TREES[cls](model)
    assert sum(isinstance(tree, tuple) for tree in trees) > 2
    by_definition = [shapley(trees, row) for row in x.numpy()]
    torch.testing.assert_close(found, torch.tensor(by_definition).double(), atol=2e-6, rtol=1e-4)
    start = 0.0 if isinstance(model, CatBoost) else model.start
    mean = start + sum(expected(tree, x[0].numpy(), set()) for tree in trees)
    torch.testing.assert_close(
        found.sum(1) + mean, model.scores(x)[:, 0].double(), atol=1e-5, rtol=0
    )
    assert model.contributions(x[:0]).shape == (0, 3)


# Networks: integrated gradients.


def test_a_linear_networks_contributions_are_weight_times_distance() -> None:
    torch.manual_seed(0)
    model, x, baseline = Linear(5, 1), torch.randn(20, 5), torch.randn(5)
    found = integrated_gradients(model, x, baseline)
    torch.testing.assert_close(found, model.head.weight.detach() * (x - baseline))


class Product(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0] * x[:, 1] + 0 * x[:, 2]


def test_a_product_is_shared_equally_and_an_unused_feature_gets_nothing() -> None:
    x = torch.randn(20, 3)
    found = integrated_gradients(Product(), x, torch.zeros(3))
    half = x[:, 0] * x[:, 1] / 2
    torch.testing.assert_close(found, torch.stack([half, half, 0 * half], dim=1))


@pytest.mark.parametrize(
    "make",
    [
        lambda: MLP(6, 1, hidden=(32, 32)),
        lambda: MLP(6, 1, activation="tanh", dropout=0.5),
        lambda: TabularResNet(6, 1, d_block=32),
        lambda: FTTransformer(6, 1, d_block=16, attention_n_heads=2),
        lambda: TabM(6, 1, k=2, d_block=16, bin_edges=[[-1, 0, 1]] * 6, one_hot=[[4, 5]]),
    ],
)
def test_a_networks_contributions_sum_to_the_score_less_the_baselines(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], nn.Module]
) -> None:
    """Up to the error of 32 steps, per cent where the network bends sharply."""
    assert gradients.STEPS == 32
    torch.manual_seed(0)
    model, x, baseline = make(), 2 * torch.randn(200, 6), torch.randn(6)
    wrong = []
    for steps in (32, 256):
        monkeypatch.setattr(gradients, "STEPS", steps)
        found = integrated_gradients(model, x, baseline)
        with torch.no_grad():
            difference = (model(x) - model(baseline[None]))[:, 0]
        wrong.append((found.sum(dim=1) - difference).abs().mean() / difference.abs().mean())
    assert wrong[0] < 0.08 and (wrong[1] < wrong[0] / 3 or wrong[1] < 1e-4)


# Whole runs.


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    models = ("linear", "mlp", "hist_gradient_boosting", "lightgbm")
    return trained(tmp_path_factory.mktemp("reasons"), *models)


def predicted(runs: dict[str, Path], model: str, file: Path, *settings: str) -> pd.DataFrame:
    output = file.with_name("scores.parquet")
    asked = [runs[model].name, str(file), f"output={output}", "overwrite=true", *settings]
    assert main(["predict", *asked, "--home", str(runs["home"])]) == 0
    return pd.read_parquet(output)


@pytest.fixture
def new(runs: dict[str, Path], tmp_path: Path) -> Path:
    """Rows to score; the amount of the third cannot be read."""
    frame = pd.read_csv(runs["file"], dtype={"zip": str}).head(300).drop(columns=["verdict"])
    frame = frame.astype({"amount": object})
    frame.loc[2, "amount"] = "?!"
    frame.to_csv(tmp_path / "new.csv", index=False)
    return tmp_path / "new.csv"


def by_hand(run: Path, file: Path) -> pd.DataFrame:
    """What each raw column adds in a linear run: of the features named after it, weight times
    distance from the training mean, summed."""
    scorer = read_model(run / "model")
    fitted: Any = scorer.preprocessor
    model: Any = scorer.model
    rows = pd.read_csv(file, dtype={"zip": str})
    everything = fitted.transform(rows).astype(float)
    mean = everything[alike(rows).train].mean(axis=0)
    added = (everything - mean) * model.head.weight.detach().numpy()
    return pd.DataFrame(
        {
            name: added[
                :,
                [
                    f == name or f == f"missing({name})" or f.startswith(f"{name}=")
                    for f in fitted.feature_names
                ],
            ].sum(axis=1)
            for name in fitted.columns
        }
    )


def test_the_reasons_of_a_linear_run_are_those_by_hand(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    """Including columns of several features: levels, and the flags of missing values."""
    file = tmp_path / "all.csv"
    file.write_bytes(runs["file"].read_bytes())
    found = predicted(runs, "linear", file, "reasons=6")
    added = by_hand(runs["linear"], file)
    assert len(added.columns) == 6 and "id" not in added
    for row in range(200):
        ordered = added.loc[row].sort_values(ascending=False)
        ordered = ordered[ordered > 1e-6]
        names = [found.loc[row, f"reason_{i}"] for i in range(1, 7)]
        effects = [found.loc[row, f"reason_{i}_effect"] for i in range(1, 7)]
        assert names[: len(ordered)] == [*ordered.index]
        assert all(pd.isna(name) for name in names[len(ordered) :])
        assert effects[: len(ordered)] == pytest.approx(ordered.to_list(), abs=1e-5)
        assert np.isnan(effects[len(ordered) :]).all()


@pytest.mark.parametrize("model", ["mlp", "lightgbm"])
def test_the_effects_of_all_columns_sum_to_the_score_less_a_constant(
    runs: dict[str, Path], model: str
) -> None:
    scorer = read_model(runs[model] / "model")
    frame = pd.read_csv(runs["file"], dtype={"zip": str})
    x = scorer.features(frame)
    constant = scorer.scores_of(x)[:, 0] - Reasons.of(scorer, 3).effects(x).sum(dim=1)
    spread = float(scorer.scores_of(x).std())
    assert float(constant.std()) < (1e-5 if model == "lightgbm" else 0.02 * spread)
    if model == "mlp":
        mean = scorer.features(frame.iloc[alike(frame).train]).mean(dim=0, keepdim=True)
        at_mean = float(scorer.scores_of(mean))
        assert float(constant.mean()) == pytest.approx(at_mean, abs=0.02 * spread)


@pytest.mark.parametrize("model", ["mlp", "lightgbm"])
def test_the_command_and_python_give_the_same_reasons_whatever_the_pieces(
    runs: dict[str, Path], new: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    plain = predicted(runs, model, new)
    found = predicted(runs, model, new, "reasons=2", "budget=0.05")
    columns = [f"reason_{i}{end}" for i in (1, 2) for end in ("", "_effect")]
    assert [*found.columns] == [*plain.columns[:3], "alert", "rank", *columns, "status"]
    assert plain["score"].equals(found["score"])
    assert found.loc[2, columns].isna().all()
    assert (found.loc[found["alert"] == True, "reason_1_effect"] > 0).all()  # noqa: E712
    both: Any = found.dropna()
    assert len(both) > 100 and (both["reason_1_effect"] >= both["reason_2_effect"]).all()
    monkeypatch.setattr(command, "CELLS", 1800)
    pd.testing.assert_frame_equal(found, predicted(runs, model, new, "reasons=2", "budget=0.05"))
    rows = pd.read_csv(new, dtype={"zip": str}).drop(index=2).astype({"amount": float})
    here = package.load(runs[model].name, home=runs["home"]).reasons(rows, n=2, drop=["id"])
    assert here.index.tolist() == rows.index.tolist()
    others: Any = found[columns].drop(index=2)
    pd.testing.assert_frame_equal(here, others, rtol=1e-4)


def test_the_amount_is_why_a_row_alerts(runs: dict[str, Path], new: Path) -> None:
    """The label of these rows depends on the amount alone."""
    found = predicted(runs, "lightgbm", new, "reasons=1", "alerts=10")
    reasons = found.loc[found["alert"].fillna(False).astype(bool), "reason_1"]
    assert (reasons == "amount").mean() > 0.7


@pytest.mark.parametrize(
    ("model", "setting", "said"),
    [
        ("hist_gradient_boosting", "reasons=3", "LightGBM, XGBoost, CatBoost and networks do"),
        ("mlp", "reasons=7", "reasons=7: expected 1 to 6, the run's columns"),
        ("mlp", "reasons=0", "reasons=0: expected how many reasons each row gets"),
        ("mlp", "reasns=3", "did you mean 'reasons'?"),
    ],
)
def test_what_gives_no_reasons_is_refused_in_one_line(
    runs: dict[str, Path],
    new: Path,
    capsys: pytest.CaptureFixture,
    model: str,
    setting: str,
    said: str,
) -> None:
    asked = [runs[model].name, str(new), setting, "--home", str(runs["home"])]
    assert main(["predict", *asked]) == 2
    told = capsys.readouterr().err
    assert said in told and len(told.splitlines()) == 1
    assert not new.with_name("new.scores.csv").exists()


def test_a_network_recorded_before_reasons_were_says_so(runs: dict[str, Path]) -> None:
    scorer = read_model(runs["mlp"] / "model")
    older = type(scorer)(**{**vars(scorer), "baseline": None})
    with pytest.raises(RequestError, match="recorded before reasons were"):
        Reasons.of(older, 3)
    with pytest.raises(RequestError, match="two classes, this run has 3"):
        Reasons.of(type(scorer)(**{**vars(scorer), "classes": ("a", "b", "c")}), 3)

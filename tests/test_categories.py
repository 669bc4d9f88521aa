"""Categorical columns as categories of the booster's own, and codes of columns with many levels."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
import torch
import xgboost

import rarelab
from rarelab import losses
from rarelab.boosting import CatBoost, LightGBM, LightGBMLogLoss, XGBoost, XGBoostLogLoss
from rarelab.boosting.categories import Recoded
from rarelab.cli import main
from rarelab.data.splits import Table
from rarelab.data.tables.preprocess import Preprocessor
from rarelab.errors import RequestError
from rarelab.functional.threads import limited_threads
from rarelab.training import Trainer
from rarelab.training.history import History
from rarelab.training.keeper import Checkpoints
from rarelab.training.rounds import RoundWork, fit_rounds
from test_boosting import blended, booster, checkpoints
from test_resume import Stopped

pytestmark = pytest.mark.as_users_do
OF_CATBOOST = pytest.mark.slow  # an extra that only the slow tests install

BLOCK, CODED = [1, 2, 3, 4], [[5, 40]]
NATIVE: dict[str, Any] = {"categories": "native", "one_hot": [BLOCK], "codes": CODED}
PLAIN: dict[type, dict[str, Any]] = {
    LightGBM: {"feature_fraction": 1.0, "bagging_fraction": 1.0},
    XGBoost: {"colsample_bytree": 1.0, "subsample": 1.0},
    CatBoost: {},
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with limited_threads(1):
        yield


def table(rows: int = 1500, seed: int = 0, outputs: int = 1) -> tuple[Table, np.ndarray]:
    """A number, four levels as 0/1 features, a code of 40 levels; and the columns as they were."""
    draw = np.random.default_rng(seed)
    number, few, many = (
        draw.normal(size=rows),
        draw.integers(0, 4, rows),
        draw.integers(0, 40, rows),
    )
    signal = number + 1.5 * (few == 2) + 2.0 * (many * 7 % 5 == 0) + draw.normal(size=rows)
    x = np.concatenate([number[:, None], np.eye(4)[few], many[:, None]], axis=1).astype(np.float32)
    y = np.digitize(signal, [2.5] if outputs == 1 else [1.0, 2.5])
    return Table(torch.from_numpy(x), torch.from_numpy(y)), np.stack([number, few, many], axis=1)


def grown(model: Any, folder: Path, rounds: int, rows: Table) -> Any:
    folder.mkdir(exist_ok=True)
    outputs = model.num_outputs
    work = RoundWork(model, losses.plain_loss(outputs), rows, table(seed=1)[0], outputs, 3, seed=5)
    fit_rounds(Trainer(), work, History(folder / "history.jsonl"), None)
    model.keep(rounds)
    return model


def test_blocks_become_codes_and_what_a_code_adds_stands_at_its_first_feature() -> None:
    rows, raw = table(50)
    recoded = Recoded(6, [BLOCK], CODED)
    assert recoded.width == 3 and recoded.categories == [1, 2]
    assert recoded.rows(rows.x) == pytest.approx(raw.astype(np.float32))
    unseen = rows.x[:1].clone()
    unseen[:, BLOCK], unseen[:, 5] = 0.0, 40.0
    assert np.isnan(recoded.rows(unseen)).tolist() == [[False, True, True]]
    spread = recoded.spread(torch.tensor([[1.0, 2.0, 3.0]]))
    assert spread.tolist() == [[1.0, 2.0, 0.0, 0.0, 0.0, 3.0]]
    with pytest.raises(ValueError, match="beyond the 6"):
        Recoded(6, [[5, 6]], [])


def test_lightgbm_grows_the_trees_that_it_grows_alone(tmp_path: Path) -> None:
    rows, raw = table()
    model = LightGBMLogLoss(
        6, 1, num_iterations=12, early_stopping_round=None, **PLAIN[LightGBM], **NATIVE
    )
    found = grown(model, tmp_path, 12, rows).scores(rows.x)[:, 0].numpy()
    data = lightgbm.Dataset(raw.astype(np.float32), rows.y.numpy(), categorical_feature=[1, 2])
    options = {**model._options, "seed": 5, "objective": "binary", "num_threads": 1}
    alone = lightgbm.train(options, data, num_boost_round=12)
    expected = alone.predict(raw, raw_score=True)
    assert found == pytest.approx(expected, abs=1e-5)
    split = alone.dump_model()["tree_info"]
    assert "'decision_type': '=='" in str(split)  # it does split by categories


def test_xgboost_grows_the_trees_that_it_grows_alone(tmp_path: Path) -> None:
    rows, raw = table()
    model = XGBoostLogLoss(
        6, 1, num_iterations=12, early_stopping_round=None, **PLAIN[XGBoost], **NATIVE
    )
    found = grown(model, tmp_path, 12, rows).scores(rows.x)[:, 0].numpy()
    frame = pd.DataFrame({"number": raw[:, 0].astype(np.float32)})
    for place, name in enumerate(("few", "many"), 1):
        frame[name] = pd.Categorical(raw[:, place].astype(int))
    rate = float(rows.y.double().mean())
    alone = xgboost.XGBClassifier(
        n_estimators=12,
        learning_rate=0.1,
        max_depth=6,
        reg_lambda=10.0,
        base_score=rate,
        enable_categorical=True,
        tree_method="hist",
    ).fit(frame, rows.y.numpy())
    assert found == pytest.approx(alone.predict(frame, output_margin=True), abs=1e-4)
    assert '"split_type":[1' in model.text().replace(" ", "") or "categories" in model.text()


@OF_CATBOOST
def test_catboost_grows_the_trees_that_it_grows_alone() -> None:
    import catboost

    rows, raw = table()
    model = CatBoost(6, 1, iterations=12, early_stopping_round=None, **NATIVE)
    model.fit(rows, table(seed=1)[0], 3)
    frame = pd.DataFrame({"number": raw[:, 0], "few": raw[:, 1].astype(int)})
    frame["many"] = raw[:, 2].astype(int)
    alone = catboost.CatBoostClassifier(
        iterations=12,
        learning_rate=0.1,
        depth=6,
        l2_leaf_reg=3.0,
        random_seed=3,
        thread_count=1,
        cat_features=["few", "many"],
        logging_level="Silent",
        allow_writing_files=False,
    ).fit(frame, rows.y.numpy())
    expected = alone.predict(frame, prediction_type="RawFormulaVal")
    assert model.scores(rows.x)[:, 0].numpy() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("cls", [LightGBM, XGBoost, pytest.param(CatBoost, marks=OF_CATBOOST)])
@pytest.mark.parametrize("outputs", [1, 3])
def test_a_stored_fit_scores_the_same_and_serves_unseen_levels(
    tmp_path: Path, cls: type, outputs: int
) -> None:
    rows, _ = table(outputs=outputs)
    sizes = {"iterations": 60} if cls is CatBoost else {"num_iterations": 8}
    options = {**sizes, "early_stopping_round": None, **PLAIN[cls], **NATIVE}
    model = cls(6, outputs, **options)
    if cls is CatBoost:
        model.fit(rows, rows, 0)
    else:
        grown(model, tmp_path, 8, rows)
    again = cls(6, outputs, **options)
    again.load_state(model.state())
    new = table(300, seed=9)[0].x
    new[:20, BLOCK], new[20:40, 5] = 0.0, 40.0
    assert torch.equal(model.scores(new), again.scores(new))
    assert model.scores(new).isfinite().all() and model.scores(new[:0]).shape == (0, outputs)
    if outputs == 1:
        added = again.contributions(new)
        assert added.shape == (300, 6) and added[:, BLOCK[1:]].abs().max() == 0
        rest = again.scores(new)[:, 0].double() - added.sum(dim=1)
        assert float(rest.std()) < 1e-5 and float(added[:, 5].std()) > 0.05
    with pytest.raises(ValueError, match="features"):
        other = {**NATIVE, "one_hot": []}
        cls(6, outputs, **sizes, **other).load_state(model.state())
    if not isinstance(model, CatBoost):
        with pytest.raises(RequestError, match="categories=native has no ONNX form"):
            model.onnx_graph()


@pytest.mark.parametrize("cls", [LightGBM, XGBoost])
def test_the_last_steps_sum_to_the_scores(tmp_path: Path, cls: type) -> None:
    rows, _ = table()
    model = cls(6, 1, num_iterations=6, early_stopping_round=None, **PLAIN[cls], **NATIVE)
    seen = table(200, seed=4)[0].x
    steps: list[torch.Tensor] = []
    grow = model.grow

    def growing(objective: Any) -> None:
        grow(objective)
        steps.append(model.last_step(seen))

    model.grow = growing
    grown(model, tmp_path, 6, rows)
    expected = model.scores(seen).double() - model.start
    assert torch.allclose(sum(steps, torch.zeros(1)), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("cls", [LightGBM, LightGBMLogLoss, XGBoost])
def test_a_stopped_run_on_categories_resumes_to_the_same_bits(tmp_path: Path, cls: type) -> None:
    rows, _ = table()

    def scores(folder: Path, keeper: Checkpoints | None = None) -> torch.Tensor:
        folder.mkdir(exist_ok=True)
        model = booster(cls, **NATIVE)
        work = RoundWork(model, blended(), rows, table(seed=1)[0], 1, 3, seed=5)
        history = History(folder / "history.jsonl")
        if keeper is not None:
            history.cut(keeper.find(len(history)))
        selection = fit_rounds(Trainer(), work, history, keeper)
        model.keep(selection.state_dict()["best_state"]["steps"])
        return model.scores(table(300, seed=2)[0].x)

    whole, folder = scores(tmp_path / "whole"), tmp_path / "stopped"
    folder.mkdir()
    for stop_after in (2, 5):
        with pytest.raises(Stopped):
            scores(folder, checkpoints(folder, stop_after))
    assert torch.equal(scores(folder, checkpoints(folder)), whole)
    assert len(whole.unique()) > 50


# Codes of columns with many levels.


def shops(rows: int = 2000, levels: int = 60) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    shop, city = draw.integers(0, levels, rows), draw.choice([*"abcd"], rows)
    fraud = draw.random(rows) < np.where(shop % 5 == 0, 0.4, 0.02)
    names = pd.Series([f"shop {i}" for i in shop]).where(draw.random(rows) > 0.1, None)
    made = {"shop": names, "city": city, "x": draw.random(rows), "fraud": fraud.astype(int)}
    return pd.DataFrame(made)


def test_a_column_of_many_levels_is_one_code_and_others_stay_one_hot() -> None:
    frame = shops().drop(columns="fraud")
    frame.loc[:2, "shop"] = "rare"
    fitted = Preprocessor("none", 8, high_cardinality="codes")
    x = fitted.fit_transform(frame)
    assert fitted.feature_names == ("x", "code(shop)", *(f"city={c}" for c in "abcd"))
    texts = frame["shop"].fillna("(missing)")
    common = [*sorted({*texts} - {"rare", "(missing)"}), "(missing)"]
    expected = [common.index(text) if text in common else len(common) for text in texts]
    assert x[:, 1].tolist() == expected
    assert fitted.codes == [[1, len(common) + 1]] and fitted.one_hot == [[2, 3, 4, 5]]
    new = frame.head(1).assign(shop="new")
    assert fitted.transform(new)[0, 1] == len(common)  # as the rare levels
    facts, arrays = fitted.state()
    again = Preprocessor.restored(json.loads(json.dumps(facts)), arrays)
    assert again.transform(frame).tobytes() == x.tobytes()
    assert again.codes == fitted.codes and again.sources == fitted.sources


def test_without_rare_levels_an_unseen_one_has_a_code_of_its_own() -> None:
    frame = pd.DataFrame({"shop": [f"s{i % 9}" for i in range(90)]})
    fitted = Preprocessor("none", 8, high_cardinality="codes")
    fitted.fit_transform(frame)
    assert fitted.codes == [[0, 9]]
    assert fitted.transform(pd.DataFrame({"shop": ["new", "s8"]}))[:, 0].tolist() == [9, 8]


@pytest.mark.parametrize(
    "model", ["lightgbm", "xgboost", pytest.param("catboost", marks=OF_CATBOOST)]
)
def test_a_run_on_categories_is_predicted_explained_and_reproduced(
    tmp_path: Path, capsys: pytest.CaptureFixture, model: str
) -> None:
    frame, path, home = shops(), tmp_path / "s.csv", tmp_path / "home"
    frame.to_csv(path, index=False)
    described = ["data", "describe", str(path), "target=fraud", "high_cardinality=codes"]
    assert main(described) == 0
    assert "codes of 61 levels, for model.categories=native" in capsys.readouterr().out
    rounds = "model.iterations=20" if model == "catboost" else "model.num_iterations=20"
    done = rarelab.train(
        [
            *("dataset=file", f"dataset.path='{path}'", "dataset.target=fraud"),
            *(f"model={model}", rounds, "model.categories=native", f"paths.home={home}"),
            *([] if model == "catboost" else ["loss=bce"]),
            *("dataset.high_cardinality=codes", "tracking=none", "tracking.figures=false"),
        ]
    )
    assert done.metrics["test/aucpr"] > 0.2
    kept = pd.read_parquet(done.directory / "predictions.parquet")
    test = kept[kept["split"] == "test"]
    new = frame.iloc[test["row"]].drop(columns="fraud")
    new = pd.concat([new, new.head(1).assign(shop="a shop that opened today", city="z")])
    new.to_csv(tmp_path / "new.csv", index=False)
    name, to = done.directory.name, tmp_path / "scores.csv"
    scored = ["predict", "--home", str(home), name, str(tmp_path / "new.csv"), f"output={to}"]
    assert main([*scored, "reasons=2"]) == 0
    scores = pd.read_csv(to)
    assert scores["score"].iloc[:-1].to_numpy() == pytest.approx(test["score"], rel=1e-5)
    assert np.isfinite(scores["score"].iloc[-1]) and "shop" in {*scores["reason_1"]}
    capsys.readouterr()
    assert main(["export", name, "onnx", "--home", str(home)]) == 2
    assert "has no ONNX form" in capsys.readouterr().err
    assert main(["reproduce", "--home", str(home), name]) == 0
    assert "is reproduced: all" in capsys.readouterr().out

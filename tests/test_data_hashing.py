"""Hashed levels: scikit-learn's buckets, nothing kept of a level, new ones served."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction import FeatureHasher

import rarelab
from rarelab.cli import main
from rarelab.config.signature import signature
from rarelab.data.file import TableFile
from rarelab.data.tables.hashing import hashed
from rarelab.data.tables.preprocess import Preprocessor
from rarelab.errors import RequestError

SMALL = {
    "lightgbm": ["model.num_iterations=20"],
    "tabm": ["model.k=4", "model.d_block=32", "trainer.max_epochs=2"],
}

pytestmark = pytest.mark.as_users_do


def shops(rows: int = 600, levels: int = 200) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    shop = draw.integers(0, levels, rows)
    fraud = draw.random(rows) < np.where(shop % 5 == 0, 0.4, 0.02)
    names = pd.Series([f"shop {i}" for i in shop]).where(draw.random(rows) > 0.1, None)
    return pd.DataFrame({"shop": names, "x": draw.random(rows), "fraud": fraud.astype(int)})


def fitted_on(frame: pd.DataFrame, **options: Any) -> tuple[Preprocessor, np.ndarray]:
    made = Preprocessor("none", max_categories=8, high_cardinality="hash", **options)
    return made, made.fit_transform(frame)


def test_the_buckets_are_those_of_scikit_learn_and_only_used_ones_are_features() -> None:
    frame = shops()[["shop"]]
    fitted, x = fitted_on(frame, hash_buckets=64)
    texts = frame["shop"].fillna("").tolist()
    each = [[text] if text else [] for text in texts]
    hasher = FeatureHasher(64, input_type="string", alternate_sign=False)
    right = hasher.transform(each).toarray()
    used = right.any(axis=0)
    assert (x[:, :-1] == right[:, used]).all() and used.sum() == x.shape[1] - 1
    assert (x[:, -1] == frame["shop"].isna()).all()
    names = [f"hash(shop, {bucket})" for bucket in np.flatnonzero(used)]
    assert fitted.feature_names == (*names, "missing(shop)")
    assert fitted.sources == ("shop",) * x.shape[1]


def test_the_buckets_never_change() -> None:
    # Values of MurmurHash3 (32 bits, seed 0): recorded runs depend on them.
    assert hashed(["shop 1", "shop 2", "école", ""], 2**16).tolist() == [*(12045, 59164, 34674, 0)]


def test_a_new_level_shares_the_features_of_its_bucket() -> None:
    fitted, x = fitted_on(shops()[["shop"]], hash_buckets=16)
    new = pd.DataFrame({"shop": [f"opened today {i}" for i in range(40)]})
    served = fitted.transform(new)
    assert (served.sum(axis=1) == 1).all() and not served[:, -1].any()
    assert (fitted.transform(pd.DataFrame({"shop": [None]})) == x[x[:, -1] == 1][0]).all()


def test_a_level_in_an_unused_bucket_and_an_unknown_gap_are_all_zeros() -> None:
    fitted, x = fitted_on(pd.DataFrame({"shop": [f"s{i}" for i in range(9)]}), hash_buckets=4096)
    assert x.shape[1] == 9 and (x.sum(axis=1) == 1).all()
    served = fitted.transform(pd.DataFrame({"shop": ["elsewhere", None]}))
    assert not served.any()


@pytest.mark.parametrize("as_number", [True, False])
def test_other_spellings_of_a_code_are_the_same_level(as_number: bool) -> None:
    codes = pd.Series(np.arange(500) % 100)
    frame = pd.DataFrame({"c": codes if as_number else codes.astype(str)})
    fitted, x = fitted_on(frame, categorical=["c"])
    for other in (codes.astype(float), codes.astype(float).astype(str), codes.astype(str)):
        assert (fitted.transform(pd.DataFrame({"c": other})) == x).all()
    assert fitted.example() == {"c": 0.0 if as_number else "0"}


def test_few_levels_and_the_default_are_one_hot_as_before() -> None:
    frame = pd.DataFrame({"few": ["a", "b", None] * 50, "shop": shops(150)["shop"]})
    usual = Preprocessor("none", 8).fit_transform(frame[["few"]])
    fitted, x = fitted_on(frame)
    assert (x[:, : usual.shape[1]] == usual).all()
    assert fitted.columns == {"few": "text", "shop": "hashed"}
    of_few, of_shop = fitted.one_hot  # what a network embeds
    assert of_few + of_shop == [*range(x.shape[1])] and len(of_few) == usual.shape[1]
    assert Preprocessor("none", 8).fit_transform(frame).shape[1] < x.shape[1]


def test_stored_buckets_give_the_same_bits(tmp_path: Path) -> None:
    frame = shops().drop(columns="fraud")
    fitted = Preprocessor("quantile", 8, high_cardinality="hash")
    fitted.fit_transform(frame)
    facts, arrays = fitted.state()
    assert "shop 17" not in json.dumps(facts)
    again = Preprocessor.restored(json.loads(json.dumps(facts)), arrays)
    new = shops(50, 1000).drop(columns="fraud")
    assert again.transform(new).tobytes() == fitted.transform(new).tobytes()
    assert again.transform(new.iloc[[7]]).tobytes() == fitted.transform(new)[7].tobytes()
    assert again.sources == fitted.sources and again.example() == fitted.example()
    facts["hashed"]["places"]["shop"].pop()
    with pytest.raises(ValueError, match="buckets of column 'shop' are not 128"):
        Preprocessor.restored(facts, arrays)


def test_the_default_is_no_part_of_a_run_and_sizes_are_checked(tmp_path: Path) -> None:
    before = {"dataset": {"_target_": "rarelab.data.file.TableFile", "path": "a.csv"}}
    usual, other = ({"dataset": {**before["dataset"], "hash_buckets": n}} for n in (128, 64))
    assert signature(usual) == signature(before) != signature(other)
    with pytest.raises(RequestError, match=r"dataset\.hash_buckets=0 is out of range"):
        TableFile(str(tmp_path / "a.csv"), target="y", hash_buckets=0)


@pytest.mark.parametrize("model", ["lightgbm", "tabm"])
def test_a_run_on_buckets_serves_new_levels(tmp_path: Path, capsys, model: str) -> None:
    frame, path, home = shops(1500), tmp_path / "s.csv", tmp_path / "home"
    frame.to_csv(path, index=False)
    assert main(["data", "describe", str(path), "target=fraud", "high_cardinality=hash"]) == 0
    assert "195 levels in 98 hash buckets and a flag for missing" in capsys.readouterr().out
    done = rarelab.train(
        [
            *("dataset=file", f"dataset.path='{path}'", "dataset.target=fraud", "loss=bce"),
            *(f"model={model}", *SMALL[model], "dataset.high_cardinality=hash"),
            *(f"paths.home={home}", "tracking=none", "tracking.figures=false"),
        ]
    )
    kept = pd.read_parquet(done.directory / "predictions.parquet")
    test = kept[kept["split"] == "test"]
    new = frame.iloc[test["row"]].drop(columns="fraud")
    new = pd.concat([new, new.head(1).assign(shop="a shop that opened today")])
    new.to_csv(tmp_path / "new.csv", index=False)
    scored = ["predict", "--home", str(home), done.directory.name, str(tmp_path / "new.csv")]
    assert main([*scored, f"output={tmp_path / 'scores.csv'}", "reasons=1"]) == 0
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert scores["score"].iloc[:-1].to_numpy() == pytest.approx(test["score"], rel=1e-5)
    assert {*scores["reason_1"].dropna()} <= {"shop", "x"} and "shop" in {*scores["reason_1"]}
    assert main(["export", done.directory.name, "onnx", "--home", str(home)]) == 2
    assert "column 'shop' is hashed (dataset.high_cardinality=hash)" in capsys.readouterr().err

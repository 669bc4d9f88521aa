"""Target encoding of columns with many levels: scikit-learn's values, no leak, served."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import TargetEncoder

import rarelab
from rarelab.cli import main
from rarelab.config.signature import signature
from rarelab.data.file import TableFile
from rarelab.data.tables.preprocess import Preprocessor
from rarelab.errors import RequestError

pytestmark = pytest.mark.as_users_do


def labels(draw: np.random.Generator, rows: int, classes: int) -> np.ndarray:
    """The class of each row, every class at least twice."""
    y = draw.choice(classes, rows, p=[1 - 0.1 * (classes - 1)] + [0.1] * (classes - 1))
    y[: 2 * classes] = np.repeat(np.arange(classes), 2)
    return draw.permutation(y)


def texts(draw: np.random.Generator, rows: int, levels: int) -> pd.Series:
    column = pd.Series([f"m{i}" for i in draw.integers(0, levels, rows)])
    return column.where(draw.random(rows) > 0.1, None)


def merchants(rows: int, levels: int, *, signal: bool = True, rate: float = 0.02) -> pd.DataFrame:
    """A merchant that decides how probable fraud is, and an amount that tells little; without
    signal, they decide nothing."""
    draw = np.random.default_rng(0)
    merchant = draw.integers(0, levels, rows)
    risk = np.exp(1.5 * draw.standard_normal(levels))[merchant] if signal else np.ones(rows)
    fraud = draw.random(rows) < np.minimum(rate * risk / risk.mean(), 0.9)
    amount = draw.lognormal(3, 1, rows) * np.where(fraud & signal, 1.3, 1.0)
    names = [f"shop {i:05}" for i in merchant]
    return pd.DataFrame({"merchant": names, "amount": amount, "fraud": fraud.astype(int)})


def by_scikit_learn(column: pd.Series, y: np.ndarray, new: pd.Series):
    """The encoding of training rows and of new ones."""
    folds = min(5, np.bincount(y).min())
    kind = "binary" if y.max() == 1 else "multiclass"
    shown, others = (c.fillna("(missing)").to_numpy(object)[:, None] for c in (column, new))
    how: Any = {"target_type": kind, "cv": folds, "shuffle": True, "random_state": 0}
    encoder = TargetEncoder(**how)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn 1.9 takes the folds in another way
        crossed = encoder.fit_transform(shown, y)
    return crossed, encoder.transform(others), encoder.target_mean_


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(30, 300),
    levels=st.integers(5, 60),
    classes=st.integers(2, 4),
)
def test_the_encoding_is_scikit_learns(seed: int, rows: int, levels: int, classes: int) -> None:
    draw = np.random.default_rng(seed)
    column, y = texts(draw, rows, levels), labels(draw, rows, classes)
    new = texts(draw, 50, 2 * levels)
    fitted = Preprocessor("none", max_categories=2, high_cardinality="target")
    found = fitted.fit_transform(pd.DataFrame({"m": column}), y, [*"abcd"][:classes])
    expected, served, mean = by_scikit_learn(column, y, new)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert fitted.transform(pd.DataFrame({"m": new})) == pytest.approx(served, rel=1e-6, abs=1e-9)
    unseen = fitted.transform(pd.DataFrame({"m": ["nowhere"]}))[0]
    assert unseen == pytest.approx(np.atleast_1d(mean), rel=1e-6)
    names = ["m"] if classes == 2 else [f"m, {c}" for c in [*"abcd"][:classes]]
    assert fitted.feature_names == tuple(f"target({name})" for name in names)


@pytest.mark.parametrize("numeric", ["quantile", "standard", "none"])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_stored_encoding_gives_the_same_bits(numeric, classes: int, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"m": texts(draw, 400, 40), "few": draw.choice(["a", "b"], 400), "x": draw.random(400)}
    )
    fitted = Preprocessor(numeric, 8, high_cardinality="target")
    x = fitted.fit_transform(frame, labels(draw, 400, classes), [*"abc"])
    facts, arrays = fitted.state()
    np.savez(tmp_path / "arrays.npz", allow_pickle=False, **arrays)
    with np.load(tmp_path / "arrays.npz", allow_pickle=False) as stored:
        again = Preprocessor.restored(json.loads(json.dumps(facts)), dict(stored))
    new = frame.assign(m=texts(draw, 400, 80))
    assert again.transform(new).tobytes() == fitted.transform(new).tobytes()
    assert x.shape[1] == len(again.feature_names) == len(fitted.feature_names)
    if numeric != "none":
        encoded = x[:, [name.startswith("target(") for name in fitted.feature_names]]
        assert encoded.mean(axis=0) == pytest.approx(0, abs=1e-5)
        assert encoded.std(axis=0) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_graph_encodes_as_the_run_does(classes: int) -> None:
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    from rarelab.predict.export import probes
    from rarelab.predict.graph import preprocessing_graph

    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"few": draw.choice(["a", "b"], 400), "m": texts(draw, 400, 40)})
    fitted = Preprocessor("standard", 8, high_cardinality="target")
    fitted.fit_transform(frame, labels(draw, 400, classes), [*"abc"])
    rows, inputs = probes(fitted)
    graph = preprocessing_graph(fitted).SerializeToString()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    assert (np.asarray(session.run(None, inputs)[0]) == fitted.transform(rows)).all()


def test_no_row_sees_its_own_label() -> None:
    y = np.random.default_rng(0).permutation(np.arange(500) < 50).astype(int)
    alone = pd.DataFrame({"m": [f"m{i}" for i in range(500)]})
    fitted = Preprocessor("none", 4, high_cardinality="target")
    x = fitted.fit_transform(alone, y)[:, 0]
    # A level of one row is unknown to the other folds, which all have one positive in ten.
    assert x == pytest.approx(np.full(500, 0.1))
    pairs = pd.DataFrame({"m": [f"m{i // 2}" for i in range(500)]})
    same_fold, first = 0, np.arange(0, 500, 2)
    x = Preprocessor("none", 4, high_cardinality="target").fit_transform(pairs, y)[:, 0]
    for own, other in [*zip(first, first + 1, strict=True), *zip(first + 1, first, strict=True)]:
        # Of two rows, each sees the other's label, or none if both are in the same fold.
        same_fold += x[own] == pytest.approx(0.1)
        assert x[own] == pytest.approx(0.1) or (x[own] > 0.1) == (y[other] == 1)
    assert same_fold < 200


@pytest.mark.parametrize("classes", [2, 3])
def test_no_row_sees_a_label_of_its_group(classes: int) -> None:
    # A level in one group only: a row of it knows nothing but the share of the other folds.
    draw = np.random.default_rng(0)
    groups = draw.integers(0, 60, 900)
    y = draw.integers(0, classes, 60)[groups]
    frame = pd.DataFrame({"m": [f"m{g}" for g in groups]})

    def encoded(labels: np.ndarray, by: np.ndarray | None) -> np.ndarray:
        made = Preprocessor("none", 4, high_cardinality="target")
        return made.fit_transform(frame, labels, [*"abc"][:classes], groups=by)

    by_rows, by_groups = encoded(y, None), encoded(y, groups)
    assert roc_auc_score(y == classes - 1, by_rows[:, -1]) > 0.9
    assert len(np.unique(by_groups, axis=0)) <= 5  # the shares of five folds, whatever the level
    assert (pd.DataFrame(by_groups).groupby(groups).nunique() == 1).all(axis=None)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(12, 80), count=st.integers(1, 12))
def test_any_groups_can_be_kept_whole(seed: int, rows: int, count: int) -> None:
    draw = np.random.default_rng(seed)
    y, groups = labels(draw, rows, 3), draw.integers(0, count, rows) * 7
    frame = pd.DataFrame({"m": texts(draw, rows, 30)})
    fitted = Preprocessor("none", 2, high_cardinality="target")
    x = fitted.fit_transform(frame, y, [*"abc"], groups=groups)
    assert x.shape == (rows, 3) and np.isfinite(x).all() and ((x >= 0) & (x <= 1)).all()
    alone = Preprocessor("none", 2, high_cardinality="target")
    own = alone.fit_transform(frame, y, [*"abc"], groups=np.arange(rows))
    by_rows = Preprocessor("none", 2, high_cardinality="target").fit_transform(frame, y, [*"abc"])
    assert own == pytest.approx(by_rows, abs=0.5)
    new = pd.DataFrame({"m": texts(draw, 9, 60)})
    assert (alone.transform(new) == fitted.transform(new)).all()


def test_the_group_column_of_a_table_is_kept_whole(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    owner = draw.integers(0, 90, 900)
    fraud = (draw.random(90) < 0.3)[owner].astype(int)
    frame = pd.DataFrame({"card": [f"c{o}" for o in owner], "owner": owner, "fraud": fraud})
    for group, low, high in ((None, 0.9, 1.0), ("owner", 0.0, 0.6)):
        options = {"group": group, "drop": ["owner"], "split": "stratified"}
        how = {**options, "high_cardinality": "target", "numeric": "none"}
        splits = table(tmp_path / "m.csv", frame, **how).splits(0)
        assert splits.features == ("target(card)",)
        assert low <= roc_auc_score(splits.train.y.numpy(), splits.train.x.numpy()[:, 0]) <= high


def test_the_default_and_few_levels_are_one_hot_as_before() -> None:
    draw = np.random.default_rng(0)
    frame, y = pd.DataFrame({"m": texts(draw, 300, 12)}), labels(draw, 300, 2)
    usual = Preprocessor("none", 32).fit_transform(frame)
    assert (Preprocessor("none", 32, (), "target").fit_transform(frame, y) == usual).all()
    assert (Preprocessor("none", 32).fit_transform(frame, y) == usual).all()


def test_the_default_is_no_part_of_a_run() -> None:
    before = {"dataset": {"_target_": "rarelab.data.file.TableFile", "path": "a.csv"}}
    usual, other = (
        {"dataset": {**before["dataset"], "high_cardinality": value}}
        for value in ("onehot", "target")
    )
    assert signature(usual) == signature(before) != signature(other)


def table(path: Path, frame: pd.DataFrame, **options) -> TableFile:
    frame.to_csv(path, index=False)
    return TableFile(str(path), target="fraud", **options)


@pytest.mark.parametrize("rate", [0.02, 0.3])
def test_noise_stays_noise_and_signal_is_found(tmp_path: Path, rate: float) -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    def auroc(how: str, *, signal: bool) -> float:
        frame = merchants(60_000, 20_000 if not signal else 2000, signal=signal, rate=rate)
        splits = table(tmp_path / "m.csv", frame, high_cardinality=how).splits(0)
        model = HistGradientBoostingClassifier(max_iter=50, random_state=0)
        model.fit(splits.train.x.numpy(), splits.train.y.numpy())
        scores = model.predict_proba(splits.test.x.numpy())[:, 1]
        return float(roc_auc_score(splits.test.y.numpy(), scores))

    # The area's own standard error is .017 with 300 positives, .005 with 4,500.
    assert auroc("target", signal=False) == pytest.approx(0.5, abs=0.05 if rate < 0.1 else 0.02)
    assert auroc("target", signal=True) > auroc("onehot", signal=True) + 0.05


def test_the_note_points_to_it_and_describe_shows_it(tmp_path: Path, capsys) -> None:
    path = tmp_path / "m.csv"
    made = table(path, merchants(4000, 500))
    (note,) = (note for note in made.splits(0).notes if "merchant" in note)
    assert note == (
        "'merchant' has 500 levels, of which at most 31 are kept:"
        " dataset.high_cardinality=target encodes all"
    )
    options = ["target=fraud", "high_cardinality=target"]
    assert main(["data", "describe", str(path), *options]) == 0
    said = capsys.readouterr().out
    assert "target encoding of" in said and "are kept" not in said
    with pytest.raises(RequestError, match="high_cardinality=targett is unknown"):
        table(path, merchants(400, 50), high_cardinality="targett")


def test_an_encoding_that_does_not_match_its_levels_is_refused() -> None:
    draw = np.random.default_rng(0)
    fitted = Preprocessor("none", 4, high_cardinality="target")
    fitted.fit_transform(pd.DataFrame({"m": texts(draw, 300, 40)}), labels(draw, 300, 2))
    facts, arrays = fitted.state()
    short = {name: array[:-1] for name, array in arrays.items()}
    with pytest.raises(ValueError, match="encoding of column 'm' does not match its levels"):
        Preprocessor.restored(facts, short)


def test_a_class_with_one_row_is_refused() -> None:
    frame = pd.DataFrame({"m": [f"l{i}" for i in range(20)]})
    fitted = Preprocessor("none", 4, high_cardinality="target")
    with pytest.raises(RequestError, match="one training row, expected at least 2"):
        fitted.fit_transform(frame, np.arange(20) // 19)


def test_a_run_serves_known_and_new_levels(tmp_path: Path, capsys) -> None:
    frame = merchants(6000, 300)
    path, home = tmp_path / "m.csv", tmp_path / "home"
    frame.to_csv(path, index=False)
    done = rarelab.train(
        [
            *("dataset=file", f"dataset.path='{path}'", "dataset.target=fraud", "model=lightgbm"),
            *("loss=bce", "model.num_iterations=20", "dataset.high_cardinality=target"),
            *(f"paths.home={home}", "tracking=none", "tracking.figures=false"),
        ]
    )
    kept = pd.read_parquet(done.directory / "predictions.parquet")
    test = kept[kept["split"] == "test"]
    new = frame.iloc[test["row"]].drop(columns="fraud")
    new = pd.concat([new, new.head(1).assign(merchant="a shop that opened today")])
    new.to_csv(tmp_path / "new.csv", index=False)
    output = tmp_path / "scores.csv"
    asked = [done.directory.name, str(tmp_path / "new.csv"), f"output={output}"]
    assert main(["predict", *asked, "--home", str(home)]) == 0
    scores = pd.read_csv(output)["score"].to_numpy()
    assert scores[:-1] == pytest.approx(np.asarray(test["score"]), rel=1e-6)
    assert np.isfinite(scores[-1])
    said = capsys.readouterr()
    assert "a shop that opened today" in said.out + said.err

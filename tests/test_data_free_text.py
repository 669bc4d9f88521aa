"""Free text as numbers: scikit-learn's TF-IDF and singular vectors, from training rows alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.pipeline import make_pipeline

import rarelab
from rarelab.cli import main
from rarelab.config.signature import signature
from rarelab.data.file import TableFile
from rarelab.data.tables.free_text import FreeTextColumns, is_free_text
from rarelab.data.tables.preprocess import Preprocessor
from rarelab.errors import RequestError

pytestmark = pytest.mark.as_users_do

WORDS = ["please", "send", "money", "now", "account", "because", "my", "old", "card", "was", "lost"]


def sentences(rows: int, seed: int = 0, words: int = 8) -> list[str]:
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, words)) + f" {i}" for i in range(rows)]


def claims(rows: int = 900) -> pd.DataFrame:
    """Claims of which those that tell of urgency, however it is inflected, are mostly fraud."""
    draw = np.random.default_rng(0)
    urgent = draw.random(rows) < 0.15
    form = np.where(urgent, draw.choice(["urgently", "urgent", "URGENCY"], rows), "calmly")
    texts = [f"{text} {extra}" for text, extra in zip(sentences(rows), form, strict=True)]
    fraud = draw.random(rows) < np.where(urgent, 0.6, 0.02)
    told = pd.Series(texts).where(draw.random(rows) > 0.05, None)
    return pd.DataFrame({"claim": told, "x": draw.random(rows), "fraud": fraud.astype(int)})


def fitted_on(frame: pd.DataFrame, components: int = 5, **options: Any):
    made = Preprocessor("none", free_text=["t"], text_components=components, **options)
    return made, made.fit_transform(frame)


def test_the_components_are_scikit_learns() -> None:
    texts, new = sentences(200), [*sentences(20, seed=1), "", "?", "völlig anderes"]
    how: Any = {"analyzer": "char_wb", "ngram_range": (3, 4), "n_features": 2**15}
    by_hand = make_pipeline(
        HashingVectorizer(**how, norm=None, alternate_sign=False),
        TfidfTransformer(),
        TruncatedSVD(5, random_state=0),
    )
    right = by_hand.fit_transform(texts)
    fitted, x = fitted_on(pd.DataFrame({"t": texts}))
    assert x == pytest.approx(right, abs=1e-5)
    served = fitted.transform(pd.DataFrame({"t": new}))
    assert served == pytest.approx(by_hand.transform(new), abs=1e-5)
    assert not served[20].any()
    assert fitted.feature_names == tuple(f"text(t, {i})" for i in range(5))
    assert fitted.sources == ("t",) * 5


def test_a_missing_text_is_the_median_and_flagged_an_empty_one_is_zeros() -> None:
    texts = [*sentences(50), "", "  "]
    frame = pd.DataFrame({"n": np.arange(53.0), "t": [*texts, None]})
    fitted, x = fitted_on(frame)
    assert fitted.feature_names[-1] == "missing(t)"
    assert x[:, -1].tolist() == [0] * 52 + [1]
    assert x[52, 1:6] == pytest.approx(np.median(x[:52, 1:6], axis=0), abs=1e-6)
    assert not x[50:52, 1:6].any()
    assert fitted.example() == {"n": 26.0, "t": "some text"}


@pytest.mark.parametrize("numeric", ["quantile", "standard", "none"])
def test_the_stored_state_gives_the_same_bits_row_by_row(numeric, tmp_path: Path) -> None:
    frame = pd.DataFrame({"t": [*sentences(300), None], "c": ["a", "b", "c"] * 100 + ["a"]})
    fitted = Preprocessor(numeric, free_text=["t"], text_components=4)
    x = fitted.fit_transform(frame)
    facts, arrays = fitted.state()
    assert "money" not in json.dumps(facts)
    np.savez(tmp_path / "arrays.npz", allow_pickle=False, **arrays)
    with np.load(tmp_path / "arrays.npz", allow_pickle=False) as stored:
        again = Preprocessor.restored(json.loads(json.dumps(facts)), dict(stored))
    assert again.transform(frame).tobytes() == x.tobytes()
    assert again.sources == fitted.sources
    for row in (0, 17, 300):
        assert again.transform(frame.iloc[[row]]).tobytes() == x[row].tobytes()
    spoilt = {name: array[..., :-1] for name, array in arrays.items() if "free_text" in name}
    with pytest.raises(ValueError, match="n-grams of column 't' are not 32,768"):
        Preprocessor.restored(facts, arrays | spoilt)


def test_a_fit_is_repeated_bit_for_bit_with_any_number_of_threads() -> None:
    from threadpoolctl import threadpool_limits

    frame = pd.DataFrame({"t": sentences(2000)})
    fits = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            fits.append(fitted_on(frame, 20)[1].tobytes())
    assert fits[0] == fits[1]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(max_size=30)), min_size=1, max_size=12))
def test_any_texts_become_finite_numbers(texts: list[str | None]) -> None:
    frame = pd.DataFrame({"n": np.arange(float(len(texts))), "t": pd.Series(texts, dtype=object)})
    fitted, x = fitted_on(frame)
    again = Preprocessor.restored(*fitted.state())
    other = frame.assign(t="something that was never said before")
    for found in (x, again.transform(frame), again.transform(other)):
        assert found.shape == (len(texts), len(fitted.feature_names))
        assert np.isfinite(found).all() and np.abs(found).max() <= max(len(texts), 2)


def test_texts_that_span_few_directions_have_few_components() -> None:
    frame = pd.DataFrame({"t": ["yes please do", "no thank you"] * 20})
    assert fitted_on(frame, 30)[1].shape[1] == 2
    assert fitted_on(pd.DataFrame({"n": [1.0, 2.0], "t": ["a b c d", None]}))[1].shape[1] == 3
    assert fitted_on(pd.DataFrame({"n": [1.0, 2.0], "t": ["", None]}))[1].shape[1] == 1


def test_only_some_of_many_texts_are_learnt_from_and_all_are_served(monkeypatch) -> None:
    from rarelab.data.tables import free_text

    texts = sentences(500)
    whole = FreeTextColumns(["t"], 5)
    whole.fit(pd.DataFrame({"t": texts}))
    for limit, value in (("FIT_ROWS", 100), ("FIT_CHARACTERS", 4000)):
        with monkeypatch.context() as patched:
            patched.setattr(free_text, limit, value)
            patched.setattr(free_text, "_PIECE", 64)
            some = FreeTextColumns(["t"], 5)
            some.fit(pd.DataFrame({"t": texts}))
            assert (some.topics["t"].idf != whole.topics["t"].idf).any()
            found = some.values(pd.DataFrame({"t": texts}))
        assert found.shape == (500, 5)
        assert (found == some.values(pd.DataFrame({"t": texts}))).all()


@pytest.mark.parametrize(
    ("values", "free"),
    [
        (sentences(40), True),
        ([*sentences(30), *[None] * 20], True),
        (sentences(10) * 4, False),
        ([f"shop {i}" for i in range(40)], False),
        ([f"a1b2-{i:06}" for i in range(40)], False),
        (np.arange(40.0), False),
        (pd.date_range("2024-01-01", periods=40), False),
        ([None] * 3, False),
    ],
)
def test_free_text_is_told_from_levels_and_identifiers(values, free: bool) -> None:
    assert is_free_text(pd.Series(values)) is free


def table(path: Path, frame: pd.DataFrame, **options: Any) -> TableFile:
    frame.to_csv(path, index=False)
    return TableFile(str(path), target="fraud", **options)


def test_nothing_of_validation_and_test_rows_is_learnt(tmp_path: Path) -> None:
    frame = claims(300)
    before = table(tmp_path / "a.csv", frame, text="tfidf").splits(0)
    assert before.preprocessor.columns["claim"] == "free"
    others = np.concatenate([part.origin["row"] for part in (before.val, before.test)])
    changed = frame.copy()
    changed.loc[others, "claim"] = [f"nothing like it {i}" for i in others]
    after = table(tmp_path / "b.csv", changed, text="tfidf").splits(0)
    assert after.train.x.numpy().tobytes() == before.train.x.numpy().tobytes()
    assert after.test.x.numpy().tobytes() != before.test.x.numpy().tobytes()
    (facts, arrays), (_, known) = before.preprocessor.state(), after.preprocessor.state()
    assert facts == after.preprocessor.state()[0]
    assert all((known[name] == array).all() for name, array in arrays.items())


def test_columns_can_be_named_and_kept_out(tmp_path: Path) -> None:
    frame = claims(300).assign(shop=[f"shop {i % 40}" for i in range(300)])
    usual = table(tmp_path / "a.csv", frame).splits(0).preprocessor.columns
    assert usual == {"claim": "text", "x": "number", "shop": "text"}
    for options, kinds in (
        ({}, ("free", "text")),
        ({"text_columns": ["shop"]}, ("text", "free")),
        ({"categorical": ["claim"]}, ("text", "text")),
        ({"text_columns": []}, ("text", "text")),
    ):
        made = table(tmp_path / "a.csv", frame, text="tfidf", **options).splits(0)
        found = made.preprocessor.columns
        assert (found["claim"], found["shop"]) == kinds
    dated = frame.assign(on=[f"2024-01-{1 + i % 28:02}" for i in range(300)])
    how = {"text": "tfidf", "text_columns": ["on"], "dates": "parts"}
    found = table(tmp_path / "a.csv", dated, **how).splits(0)
    assert found.preprocessor.columns["on"] == "free"
    assert {f"text(on, {i})" for i in range(3)} < {*found.features}
    assert not [name for name in found.features if name.endswith("(on)")]
    with pytest.raises(RequestError, match=r"text_columns=clam is not a feature: did you mean"):
        table(tmp_path / "a.csv", frame, text="tfidf", text_columns=["clam"]).splits(0)
    with pytest.raises(RequestError, match=r"text_columns=\[shop\]: expected dataset\.text=tfidf"):
        table(tmp_path / "a.csv", frame, text_columns=["shop"])
    with pytest.raises(RequestError, match=r"text_components=0 is out of range"):
        table(tmp_path / "a.csv", frame, text_components=0)
    with pytest.raises(RequestError, match=r"dataset\.text=tfdif is unknown: did you mean 'tfidf'"):
        table(tmp_path / "a.csv", frame, text="tfdif")


def test_the_note_points_to_it_and_describe_shows_it(tmp_path: Path, capsys) -> None:
    path = tmp_path / "c.csv"
    (note,) = (n for n in table(path, claims(300)).splits(0).notes if "'claim'" in n)
    assert note.startswith("probably not features: 'claim' holds 282 texts of several words")
    assert note.endswith("or make numbers of free text (dataset.text=tfidf)")
    assert main(["data", "describe", str(path), "target=fraud", "text=tfidf"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "claim 30 numbers from n-grams and a flag for missing" in said
    assert "probably not" not in said


def test_the_default_is_no_part_of_a_run() -> None:
    before = {"dataset": {"_target_": "rarelab.data.file.TableFile", "path": "a.csv"}}
    usual = {"text": "levels", "text_columns": None, "text_components": 30}
    assert signature({"dataset": before["dataset"] | usual}) == signature(before)
    assert signature({"dataset": before["dataset"] | {"text": "tfidf"}}) != signature(before)


@pytest.mark.parametrize("model", ["lightgbm", "mlp"])
def test_a_run_learns_from_text_and_serves_it(tmp_path: Path, capsys, model: str) -> None:
    frame, path, home = claims(), tmp_path / "c.csv", tmp_path / "home"
    frame.to_csv(path, index=False)
    asked = ["dataset=file", f"dataset.path='{path}'", "dataset.target=fraud", "loss=bce"]
    asked += [f"model={model}", "dataset.text=tfidf", "trainer.max_epochs=8", "optimizer.lr=0.01"]
    asked += ["model.num_iterations=20"] if model == "lightgbm" else []
    asked += [f"paths.home={home}", "tracking=none", "tracking.figures=false"]
    done = rarelab.train(asked)
    assert done.metrics["test/auroc"] > 0.7
    kept = pd.read_parquet(done.directory / "predictions.parquet")
    test = kept[kept["split"] == "test"]
    new = frame.iloc[test["row"]].drop(columns="fraud")
    new = pd.concat([new, new.head(1).assign(claim="ganz anders")])
    new.to_csv(tmp_path / "new.csv", index=False)
    scored = ["predict", "--home", str(home), done.directory.name, str(tmp_path / "new.csv")]
    assert main([*scored, f"output={tmp_path / 'scores.csv'}", "reasons=1"]) == 0
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert scores["score"].iloc[:-1].to_numpy() == pytest.approx(test["score"], rel=1e-5)
    assert np.isfinite(scores["score"].iloc[-1])
    assert "claim" in {*scores["reason_1"]}
    capsys.readouterr()
    assert main(["export", done.directory.name, "onnx", "--home", str(home)]) == 2
    assert "column 'claim' is free text (dataset.text=tfidf)" in capsys.readouterr().err

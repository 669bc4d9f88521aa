"""Raw columns to features: fitted on the training rows only, unaffected by new rows."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from rarelab.data.tables.preprocess import Preprocessor
from rarelab.errors import RequestError

pytestmark = pytest.mark.as_users_do


def frame(n: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "amount": np.exp(2 * rng.standard_normal(n)),
            "age": np.where(np.arange(n) % 10 == 0, np.nan, rng.integers(18, 80, n)),
            "member": np.arange(n) % 2 == 0,
            "city": np.where(np.arange(n) % 3 == 0, "Rome", "Oslo"),
        }
    )


def test_names_shapes_and_the_missing_column() -> None:
    fitted = Preprocessor("standard")
    x = fitted.fit_transform(frame())
    assert fitted.feature_names == (
        "amount",
        "age",
        "member",
        "missing(age)",
        "city=Oslo",
        "city=Rome",
    )
    assert x.dtype == np.float32 and x.shape == (200, 6)
    assert x[:, 3].tolist() == [float(i % 10 == 0) for i in range(200)]
    assert x[:, 5].tolist() == [float(i % 3 == 0) for i in range(200)]
    assert np.array_equal(x, fitted.transform(frame()))


def test_a_missing_number_becomes_the_training_median() -> None:
    fitted = Preprocessor("none")
    x = fitted.fit_transform(frame())
    assert x[0, 1] == frame()["age"].median()
    new = frame().head(1).assign(amount=np.nan)
    assert fitted.transform(new)[0, 0] == pytest.approx(frame()["amount"].median(), rel=1e-6)


def test_scaling_equals_scikit_learns() -> None:
    amount = frame()[["amount"]]
    standard = Preprocessor("standard").fit_transform(amount)
    assert standard == pytest.approx(StandardScaler().fit_transform(amount), abs=1e-5)
    quantile = QuantileTransformer(n_quantiles=200, output_distribution="normal", random_state=0)
    normal = StandardScaler().fit_transform(quantile.fit_transform(amount.to_numpy()))
    assert Preprocessor("quantile").fit_transform(amount) == pytest.approx(normal, abs=1e-5)


def test_new_rows_do_not_change_the_fit() -> None:
    fitted = Preprocessor("quantile")
    fitted.fit_transform(frame())
    alone = fitted.transform(frame().head(3))
    crowd = pd.concat([frame().head(3), frame().assign(amount=1e9, city="Lima")])
    assert np.array_equal(fitted.transform(crowd)[:3], alone)


def test_quantile_scaling_keeps_a_two_valued_column_moderate() -> None:
    x = Preprocessor("quantile").fit_transform(pd.DataFrame({"flag": [0, 1] * 50}))
    assert sorted(set(x[:, 0].tolist())) == pytest.approx([-1, 1], abs=1e-6)


def test_rare_and_unseen_levels_share_a_column() -> None:
    city = ["Rome"] * 20 + ["Oslo"] * 10 + ["Bern"] * 2 + ["Lima"] * 2
    fitted = Preprocessor("none")
    fitted.fit_transform(pd.DataFrame({"city": city}))
    assert fitted.feature_names == ("city=Oslo", "city=Rome", "city=(other)")
    new = fitted.transform(pd.DataFrame({"city": ["Rome", "Bern", "Paris", None]}))
    assert new.tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1]]


def test_the_commonest_levels_are_kept_up_to_the_limit() -> None:
    levels = [f"l{i:02}" for i in range(40) for _ in range(5 + i)]
    fitted = Preprocessor("none", max_categories=4)
    fitted.fit_transform(pd.DataFrame({"level": levels}))
    assert fitted.feature_names == ("level=l37", "level=l38", "level=l39", "level=(other)")


def test_missing_text_is_a_level_and_codes_are_text() -> None:
    data = pd.DataFrame({"text": ["a", None] * 10, "code": [1.0, 2.0] * 10})
    fitted = Preprocessor("none", categorical=["code"])
    fitted.fit_transform(data)
    assert fitted.feature_names == ("text=a", "text=(missing)", "code=1", "code=2")
    new = pd.DataFrame({"text": ["a", np.nan], "code": [2, 1]})
    assert fitted.transform(new).tolist() == [[1, 0, 0, 1], [0, 1, 1, 0]]


def test_it_survives_pickling() -> None:
    fitted = Preprocessor("quantile")
    x = fitted.fit_transform(frame())
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.transform(frame()), x)


def test_an_empty_column_is_zero() -> None:
    data = pd.DataFrame({"a": [1.0, 2.0, 3.0], "empty": [np.nan] * 3})
    assert Preprocessor("standard").fit_transform(data)[:, 1].tolist() == [0, 0, 0]


def _refusal(fitted: Preprocessor, data: pd.DataFrame) -> str:
    with pytest.raises(RequestError) as error:
        fitted.transform(data)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_new_rows_that_do_not_fit_are_refused() -> None:
    fitted = Preprocessor("standard")
    fitted.fit_transform(frame())
    missing = _refusal(fitted, frame().rename(columns={"amount": "amonut"}))
    assert missing == "column 'amount' is missing: did you mean 'amonut'?"
    text = _refusal(fitted, frame().assign(amount=["12.5"] * 199 + ["many"]))
    assert text == "column 'amount' holds 'many': expected numbers, as in training"
    infinite = _refusal(fitted, frame().assign(age=[np.inf] * 3 + [1.0] * 197))
    assert infinite.startswith("column 'age' has 3 infinite values")


def test_dates_are_refused_as_features() -> None:
    with pytest.raises(RequestError, match=r"column 'day' holds dates.*dataset.time"):
        Preprocessor().fit_transform(pd.DataFrame({"day": pd.date_range("2024-01-01", periods=5)}))


@pytest.mark.parametrize("numeric", ["quantile", "standard", "none"])
def test_the_fitted_state_is_plain_data_and_restores_to_the_same_bits(numeric, tmp_path) -> None:
    rows = frame(400).assign(code=np.arange(400) % 7, rare=[f"r{i // 3}" for i in range(400)])
    fitted = Preprocessor(numeric, max_categories=4, categorical=["code"])
    fitted.fit_transform(rows.head(300))
    facts, arrays = fitted.state()
    np.savez(tmp_path / "arrays.npz", **arrays)
    with np.load(tmp_path / "arrays.npz", allow_pickle=False) as stored:
        again = Preprocessor.restored(json.loads(json.dumps(facts)), dict(stored))
    assert again.columns == {
        "amount": "number",
        "age": "number",
        "member": "number",
        "city": "text",
        "code": "code",
        "rare": "text",
    }
    new = rows.tail(100).copy()
    new.loc[new.index[:9], ["age", "city", "code"]] = np.nan
    new.loc[new.index[9], "city"] = "Atlantis"
    assert again.transform(new).tobytes() == fitted.transform(new).tobytes()
    assert again.feature_names == fitted.feature_names


def test_text_only_and_numbers_only_are_restored_too() -> None:
    for rows in (frame()[["city"]], frame()[["age"]]):
        fitted = Preprocessor()
        x = fitted.fit_transform(rows)
        again = Preprocessor.restored(*fitted.state())
        assert np.array_equal(again.transform(rows), x)


@pytest.mark.parametrize("numeric", ["quantile", "standard"])
@pytest.mark.parametrize(
    ("unit", "zero"),
    [(1e-8, 0.0), (1e-10, 0.0), (1e-200, 0.0), (1e200, 0.0), (1e-8, 1.0), (1e-3, 1e9), (1.0, 1e12)],
)
def test_the_unit_and_offset_of_a_column_do_not_matter(numeric, unit: float, zero: float) -> None:
    x = np.random.default_rng(0).integers(0, 10_000, 30_000) / 10_000
    usual, moved = (pd.DataFrame({"x": column}) for column in (x, zero + unit * x))
    fitted, other = Preprocessor(numeric), Preprocessor(numeric)
    expected = fitted.fit_transform(usual.head(20_000))
    found = other.fit_transform(moved.head(20_000))
    # Only rounding from adding the offset may make a difference.
    rounded = 100 * np.spacing(zero) / unit
    inner = np.abs(expected) < 2.5
    assert found[inner] == pytest.approx(expected[inner], abs=max(1e-5, rounded))
    again = Preprocessor.restored(*other.state())
    new, known = again.transform(moved.tail(10_000)), fitted.transform(usual.tail(10_000))
    inner = np.abs(known) < 2.5
    assert new[inner] == pytest.approx(known[inner], abs=max(1e-5, rounded))
    assert again.transform(moved).tobytes() == other.transform(moved).tobytes()


def test_small_values_beside_large_ones_stay_distinct() -> None:
    p = 10.0 ** np.linspace(-30, 0, 500)
    x = Preprocessor("quantile").fit_transform(pd.DataFrame({"p": p}))
    assert (np.diff(x[:, 0]) > 0).all()


def test_an_ordinary_column_is_scaled_exactly_as_by_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    values = np.stack([rng.lognormal(3, 2, 2000).round(2), rng.integers(0, 2, 2000)], axis=1)
    learner = QuantileTransformer(
        n_quantiles=1000, output_distribution="normal", subsample=100_000, random_state=0
    )
    expected = StandardScaler().fit_transform(learner.fit_transform(values))
    fitted = Preprocessor()
    found = fitted.fit_transform(pd.DataFrame(values, columns=["amount", "flag"]))
    assert found.tobytes() == expected.astype(np.float32).tobytes()
    tiny = Preprocessor()
    both = tiny.fit_transform(pd.DataFrame({"amount": values[:, 0], "tiny": 1e-9 * values[:, 0]}))
    assert both[:, 0].tobytes() == found[:, 0].tobytes()
    assert {"origin", "exponent"} & {*fitted.state()[1]} == set()
    assert {"origin", "exponent"} <= {*tiny.state()[1]}

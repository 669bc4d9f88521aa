"""The user's own table: how it is read and split, and what is refused in one line."""

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from rarelab.data.file import TableFile
from rarelab.data.positives import chosen
from rarelab.data.tables.targets import encode
from rarelab.errors import RequestError
from tables import claims

pytestmark = pytest.mark.as_users_do


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "my claims.csv"
    claims().to_csv(path, index=False)
    return path


def dataset(path: Path, **arguments) -> TableFile:
    known = {"target": "fraud", "positive_label": "yes", "drop": ["id", "day", "weight"]}
    return TableFile(str(path), **{**known, **arguments})


def refusal(path: Path, **arguments) -> str:
    with pytest.raises(RequestError) as error:
        dataset(path, **arguments).splits(0)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2
    return str(error.value)


def test_a_file_with_text_and_missing_values(csv: Path) -> None:
    splits = dataset(csv, categorical=["code"]).splits(0)
    assert [len(table) for _, table in splits.tables()] == [240, 60, 100]
    assert (splits.classes, splits.name) == (("no", "yes"), "my claims.csv")
    assert splits.features == (
        *("amount", "customer", "missing(amount)"),
        *("region=north", "region=south", "region=(missing)"),
        *("code=1", "code=2", "code=3"),
    )
    rate = (claims()["fraud"] == "yes").mean()
    assert splits.prevalence["test"] == pytest.approx(rate, abs=0.01)
    assert any("validation has" in note for note in splits.notes)
    new = splits.preprocessor.transform(claims().head(2).drop(columns="fraud"))
    assert new.shape == (2, splits.in_features)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("t.tsv", lambda frame, path: frame.to_csv(path, sep="\t", index=False)),
        ("t.csv.gz", lambda frame, path: frame.to_csv(path, index=False)),
        ("T.PARQUET", lambda frame, path: frame.to_parquet(path, index=False)),
    ],
)
def test_every_format_gives_the_same_data(csv: Path, tmp_path: Path, name: str, write) -> None:
    other = tmp_path / name
    write(claims(), other)
    assert dataset(other).splits(0).digest == dataset(csv).splits(0).digest


def test_identity_depends_on_the_bytes_not_the_path(csv: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.csv"
    copy.write_bytes(csv.read_bytes())
    assert dataset(csv).identity() == dataset(copy).identity()
    copy.write_bytes(csv.read_bytes() + b"\n")
    assert dataset(csv).identity() != dataset(copy).identity()


def test_only_split_seed_changes_the_split(csv: Path) -> None:
    base = dataset(csv)
    assert base.splits(0).digest == base.splits(1).digest
    assert base.splits(0).digest != dataset(csv, split_seed=1).splits(0).digest


def test_groups_stay_together(tmp_path: Path) -> None:
    frame = claims().assign(weight=np.arange(400))  # the weight identifies the row
    frame.to_csv(tmp_path / "grouped.csv", index=False)
    splits = dataset(
        tmp_path / "grouped.csv", group="customer", drop=["id", "day"], sample_weight="weight"
    ).splits(0)
    assert "customer" not in splits.features and "weight" not in splits.features
    seen, rows = [], []
    for _, table in splits.tables():
        weight = table.sample_weight
        assert weight is not None and weight.dtype == torch.float32
        rows += weight.int().tolist()
        seen.append(set(frame["customer"].iloc[weight.int().tolist()]))
        assert 1 in table.y
    assert sorted(rows) == list(range(400))
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])


def test_time_splits_by_date(tmp_path: Path) -> None:
    frame = claims().assign(row=np.arange(400))
    frame.to_csv(tmp_path / "dated.csv", index=False)
    splits = dataset(
        tmp_path / "dated.csv", time="day", drop=["id", "weight"], numeric="none"
    ).splits(0)
    assert "day" not in splits.features
    at = splits.features.index("row")
    days = [frame["day"].iloc[table.x[:, at].int().tolist()] for _, table in splits.tables()]
    assert [len(part) for part in days] == [240, 60, 100]
    assert days[0].max() < days[1].min() <= days[1].max() < days[2].min()
    assert any("time-ordered split leaves" in note for note in splits.notes)


def parts_of(splits) -> list[list[int]]:
    """Row numbers of train, validation and test."""
    return [table.origin["row"].tolist() for _, table in splits.tables()]


def test_shares_set_the_sizes_of_every_kind_of_split(csv: Path) -> None:
    asked = {"test_share": 0.1, "val_share": 0.2}
    for more, slack in (({}, 1), ({"time": "day", "drop": ["id"]}, 1), ({"group": "customer"}, 40)):
        sizes = [len(part) for part in parts_of(dataset(csv, **asked, **more).splits(0))]
        assert sum(sizes) == 400 and np.allclose(sizes, [280, 80, 40], atol=slack)
    given = {"test_share": 0.25, "val_share": 0.15}
    assert dataset(csv, **given).splits(0).digest == dataset(csv).splits(0).digest


@pytest.mark.parametrize("group", [None, "customer"])
def test_the_folds_of_a_repetition_test_every_row_once(csv: Path, group: str | None) -> None:
    tested = []
    for number in range(4, 8):  # the second repetition of four folds
        found = dataset(csv, split="cv", folds=4, split_seed=number, group=group).splits(0)
        train, val, test = parts_of(found)
        assert sorted([*train, *val, *test]) == list(range(400))
        assert len(val) == pytest.approx(60, abs=2 if group is None else 20)
        if group:
            seen = [set(claims()[group].iloc[part]) for part in (train, val, test)]
            assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
        tested += test
    assert sorted(tested) == list(range(400))


def test_origins_test_one_window_after_the_other(csv: Path) -> None:
    by_day = {"time": "day", "drop": ["id", "weight"]}
    days = claims()["day"].to_numpy()
    found = [
        [days[part] for part in parts_of(dataset(csv, **by_day, origins=4, split_seed=k).splits(0))]
        for k in range(4)
    ]
    once = [days[part] for part in parts_of(dataset(csv, **by_day).splits(0))]
    assert np.concatenate([test for *_, test in found]).tolist() == once[2].tolist()
    for number, (train, val, test) in enumerate(found):
        assert [len(train), len(val), len(test)] == [240 + 25 * number, 60, 25]
        assert max(train) < min(val) and max(val) < min(test)
    assert found[-1][2].max() == days.max()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            {"val_share": 0.0001, "test_share": 0.999},
            "class 'no' has .* lower dataset.val_share or d",
        ),
        (
            {"split": "cv", "folds": 90},
            "class 'yes' has .* lower dataset.val_share or dataset.folds",
        ),
        (
            {"time": "day", "drop": ["id"], "origins": 60},
            "split=time leaves no rows of class .* in test: lower dataset.origins, change",
        ),
        (
            {"group": "customer", "test_share": 0.9, "val_share": 0.09},
            "no rows of class 'no' in train: change dataset.test_share or dataset.val_share",
        ),
    ],
)
def test_shares_that_leave_a_class_without_rows_are_refused(
    csv: Path, arguments: dict, said: str
) -> None:
    assert re.search(said, refusal(csv, **arguments))


def test_duplicates_are_reported_and_can_be_dropped(tmp_path: Path) -> None:
    path = tmp_path / "twice.csv"
    pd.concat([claims(), claims()]).to_csv(path, index=False)
    arguments = {"drop": ["day", "weight"], "categorical": []}
    notes = dataset(path, **arguments).splits(0).notes
    assert any("test rows" in note and "also appear in train or val" in note for note in notes)
    splits = dataset(path, deduplicate=True, **arguments).splits(0)
    assert "400 of 800 rows repeat an earlier row and were left out" in splits.notes
    assert sum(len(table) for _, table in splits.tables()) == 400


def test_columns_unfit_as_features_are_named_with_the_option_to_drop_them(tmp_path: Path) -> None:
    path = tmp_path / "raw.csv"
    claims().assign(row=np.arange(400)).to_csv(path, index=False)
    (note, *_) = dataset(path, drop=[]).splits(0).notes
    assert "'id' holds 400 texts, most of them rare" in note
    assert "'day' holds 400 dates" in note and "'row' has a different value in every row" in note
    assert "dataset.drop='[id,day,row]'" in note
    for named in ({"drop": ["id", "day", "row"]}, {"drop": ["id", "row"], "time": "day"}):
        assert not any("not features" in note for note in dataset(path, **named).splits(0).notes)


@pytest.mark.parametrize("name", ["client_id", "clientId", "CLIENT_ID", "paid", "grid_x"])
def test_integers_named_like_identifiers_are_no_features(tmp_path: Path, name: str) -> None:
    claims().assign(**{name: np.arange(400) // 4}).to_csv(tmp_path / "x.csv", index=False)
    notes = dataset(tmp_path / "x.csv").splits(0).notes
    named = f"probably not features: {name!r} is named like an identifier"
    assert any(note.startswith(named) for note in notes) == name.startswith(("c", "C"))


def test_a_stray_text_among_numbers_is_named(tmp_path: Path) -> None:
    path = tmp_path / "stray.csv"
    frame = claims()[["amount", "customer", "fraud"]].astype({"amount": object})
    frame.loc[6, "amount"] = "lots"
    frame.to_csv(path, index=False)
    (note, *others) = dataset(path, drop=[]).splits(0).notes
    assert note.startswith(
        "column 'amount' is all numbers, but one row holds text ('lots' in row 7)"
    )
    assert not any("amount" in other for other in others)
    frame["amount"] = ["lots" if i % 3 else str(i) for i in range(400)]
    frame.loc[1::3, "amount"] = [str(i) + ".5" for i in range(133)]
    frame.to_csv(path, index=False)
    assert (
        "133 of 400 rows hold text ('lots' in row 3)" in dataset(path, drop=[]).splits(0).notes[0]
    )


def test_the_stray_text_is_named_if_no_feature_varies(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [f"{i / 7}" for i in range(400)], "fraud": claims()["fraud"]})
    frame.loc[3, "a"] = "lots"
    frame.to_csv(tmp_path / "one.csv", index=False)
    message = refusal(tmp_path / "one.csv", drop=[])
    assert "no feature varies" in message and "'lots' in row 4" in message


def test_more_than_two_values_are_classes(csv: Path) -> None:
    splits = dataset(csv, target="code", positive_label=None, drop=["id", "day"]).splits(0)
    assert (splits.task, splits.classes, splits.num_outputs) == ("multiclass", ("1", "2", "3"), 3)
    against = dataset(csv, target="code", positive_label=3, drop=["id", "day"]).splits(0)
    assert (against.task, against.classes) == ("binary", ("not 3", "3"))


@pytest.mark.parametrize(
    ("values", "positive", "classes", "y"),
    [
        ([0, 1, 1], None, ("0", "1"), [0, 1, 1]),
        ([True, False, True], None, ("0", "1"), [1, 0, 1]),
        ([1.0, 0.0, 0.0], None, ("0", "1"), [1, 0, 0]),
        (["0", "1", "0"], None, ("0", "1"), [0, 1, 0]),
        ([-1, 1, 1], "1", ("-1", "1"), [0, 1, 1]),
        ([1, 2, 2], "2.0", ("1", "2"), [0, 1, 1]),
        ([True, False, False], "False", ("1", "0"), [0, 1, 1]),
        (["True", "False", "unknown"], "True", ("not True", "True"), [1, 0, 0]),
        (["true", "false", "maybe"], "True", ("not true", "true"), [1, 0, 0]),
        (["01", "A", "A"], "01", ("A", "01"), [1, 0, 0]),
        (["1e5", "A", "A"], "1e5", ("A", "1e5"), [1, 0, 0]),
        (["2.10", "2.1", "A"], "2.10", ("not 2.10", "2.10"), [1, 0, 0]),
        (["1_0", "2_0", "2_0"], "1_0", ("2_0", "1_0"), [1, 0, 0]),
        ([10, 9, 2], None, ("2", "9", "10"), [2, 1, 0]),
        (["b", "a", "c"], None, ("a", "b", "c"), [1, 0, 2]),
    ],
)
def test_targets_are_encoded_as_classes(values, positive, classes, y) -> None:
    codes, names = encode(pd.Series(values, name="t"), chosen(positive, None))
    assert names == classes and codes.tolist() == y


def test_a_text_target_needs_its_positive_label(csv: Path) -> None:
    message = refusal(csv, positive_label=None)
    assert "'no', 'yes'" in message and "dataset.positive_label=yes" in message


def test_numbers_that_are_not_0_and_1_need_it_too() -> None:
    with pytest.raises(RequestError, match=r"'-1', '1'.*dataset.positive_label"):
        encode(pd.Series([-1, 1, -1], name="t"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "frad"}, "dataset.target=frad is not a column: did you mean 'fraud'?"),
        ({"drop": ["idd"]}, "dataset.drop=idd is not a column: did you mean 'id'?"),
        ({"group": "custmer"}, "dataset.group=custmer is not a column: did you mean 'customer'?"),
        ({"categorical": ["coed"]}, "dataset.categorical=coed is not a column"),
        ({"positive_label": "yess"}, "did you mean 'yes'?"),
        ({"target": "amount", "positive_label": None}, "target 'amount' is missing in"),
        ({"target": "weight", "positive_label": None}, "values that are not integers"),
        ({"target": "id", "positive_label": None, "drop": []}, "400 different values"),
        ({"time": "region", "drop": []}, "time column 'region'"),
        ({"group": "region", "drop": []}, "group column 'region' is missing in"),
        ({"sample_weight": "region"}, "dataset.sample_weight=region"),
        ({"split": "time"}, "dataset.split=time is not possible"),
        ({"time": "day", "split_seed": 2}, "there is one split by time; for R of them, by R"),
        ({"amount": "region"}, "dataset.amount=region: no value in this column is a number"),
        ({"split": "temporal"}, "dataset.split=temporal is unknown"),
        ({"numeric": "quantil"}, "did you mean 'quantile'?"),
        ({"max_categories": 1}, "dataset.max_categories=1 is too small"),
        ({"group": "customer", "time": "day"}, "both given"),
        ({"target": None}, "dataset=file needs dataset.target"),
    ],
)
def test_a_wrong_request_is_refused_in_one_line(csv: Path, arguments, message: str) -> None:
    assert message in refusal(csv, **arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a,fraud\n", "a header but no rows"),
        ("a,a,fraud\n" + "1,2,yes\n1,2,no\n" * 9, "column name 'a' occurs more than once"),
        ("a,fraud\n" + "1,yes\n" * 9, "only one value ('yes')"),
        ("a,fraud\n" + "1,no\n" * 9 + "2,yes\n2,yes\n", "class 'yes' has 2 rows"),
        ("a,fraud\n" + "1,no\n2,yes\n" * 9 + "inf,no\n", "column 'a' has 1 infinite values"),
        ("fraud\n" + "no\nyes\n" * 9, "no feature column is left"),
        ("a,fraud\n1,no\n1,2,3,yes\n", "bad.csv, line 3: 4 fields, but the header has 2"),
        ("a,fraud\n1,no,\n1,yes\n", "bad.csv, line 3: 2 fields, but the header has 2"),
        ("a,b,fraud\n1,2,no\n\n3,yes\n", "bad.csv, line 4: 2 fields, but the header has 3"),
        ('a,b,fraud\n1,"x\ny",no\n3\n', "bad.csv, line 4: 1 field, but the header has 3"),
        ("a,fraud\nr1,1,no\nr2,2,yes\n", "if the first column holds row names, give it a name"),
        ("a,fraud\n1,no,x\n2,yes\n", "bad.csv, line 2: 3 fields, but the header has 2"),
        ('a,b,fraud\n1,"open,no\n2,3,yes\n', "bad.csv, line 2: 2 fields"),
    ],
)
def test_an_unusable_file_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    assert message in refusal(path, drop=[])


def test_a_separator_at_the_end_of_every_row_adds_no_column(csv: Path, tmp_path: Path) -> None:
    header, *rows = csv.read_text().splitlines()
    trailing = tmp_path / "trailing.csv"
    trailing.write_text("\n".join([header, *(f"{row},," for row in rows)]))
    assert dataset(trailing).splits(0).digest == dataset(csv).splits(0).digest


def test_refusing_a_shifted_file_does_not_depend_on_warnings_being_errors(tmp_path: Path) -> None:
    """Only this suite turns warnings into errors; users must get the same refusal."""
    path = tmp_path / "shifted.csv"
    path.write_text("a,fraud,b\n" + "1,2,no,3\n1,2,yes,3\n" * 20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert "line 2: 4 fields" in refusal(path, drop=[])


def test_an_infinite_value_is_refused_in_any_row(tmp_path: Path) -> None:
    for row in range(20):
        frame = pd.DataFrame({"a": np.arange(20.0), "fraud": ["no", "yes"] * 10})
        frame.loc[row, "a"] = -np.inf
        frame.to_parquet(tmp_path / "inf.parquet")
        assert "column 'a' has 1 infinite values" in refusal(tmp_path / "inf.parquet", drop=[])


def test_a_missing_file_suggests_the_nearest_name(csv: Path, tmp_path: Path) -> None:
    assert "did you mean 'my claims.csv'?" in refusal(tmp_path / "my_claims.csv")
    assert "there is no folder" in refusal(tmp_path / "nowhere" / "x.csv")
    (tmp_path / "x.xls").write_bytes(b"")
    assert "expected a name ending in .csv" in refusal(tmp_path / "x.xls")
    (tmp_path / "x.xlsx").write_bytes(b"")
    assert "cannot be read as excel" in refusal(tmp_path / "x.xlsx")
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    assert "cannot be read as parquet" in refusal(tmp_path / "x.parquet")


@pytest.mark.parametrize("bad", ["2024-02-30", "unknown", "31.12.2024"])
def test_a_cell_that_is_no_date_is_named_with_its_row(tmp_path: Path, bad: str) -> None:
    frame = claims()
    frame["day"] = frame["day"].astype(str)
    frame.loc[77, "day"] = bad
    frame.to_csv(tmp_path / "t.csv", index=False)
    told = refusal(tmp_path / "t.csv", time="day", drop=["id", "weight"])
    assert told.startswith(f"time column 'day' holds {bad!r} in row 78: expected")
    frame["fraud"] = frame["fraud"].where(frame.index > 40)
    frame.to_csv(tmp_path / "t.csv", index=False)  # rows that are left out are counted
    left_out = {"time": "day", "drop": ["id", "weight"], "unlabelled": "drop"}
    assert " in row 78: expected" in refusal(tmp_path / "t.csv", **left_out)


def worth(path: Path, **arguments) -> TableFile:
    return dataset(path, amount="weight", drop=["id", "day"], **arguments)


def test_amounts_go_beside_the_rows_and_stay_a_feature_unless_dropped(csv: Path) -> None:
    plain = dataset(csv, drop=["id", "day"]).splits(0)
    valued = worth(csv).splits(0)
    assert "weight" in valued.features
    assert plain.digest == valued.digest, "amounts change no feature, label or weight"
    for _, table in valued.tables():
        assert table.origin is not None
        found = table.origin["given/amount"]
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, claims()["weight"].iloc[table.origin["row"]])
    dropped = dataset(csv, amount="weight").splits(0)
    assert "weight" not in dropped.features
    assert dropped.test.origin is not None and "given/amount" in dropped.test.origin


def test_the_amount_may_be_the_weight_of_the_rows_too(csv: Path) -> None:
    both = dataset(csv, amount="weight", sample_weight="weight").splits(0)
    for _, table in both.tables():
        assert table.sample_weight is not None and table.origin is not None
        np.testing.assert_allclose(table.sample_weight, table.origin["given/amount"], rtol=1e-6)


def test_weights_go_beside_the_rows_if_metrics_are_weighed(csv: Path) -> None:
    plain = dataset(csv, sample_weight="weight").splits(0)
    weighed = dataset(csv, sample_weight="weight", weigh_metrics=True).splits(0)
    assert plain.digest == weighed.digest
    assert plain.test.origin is not None and "given/weight" not in plain.test.origin
    assert weighed.test.origin is not None and weighed.test.sample_weight is not None
    np.testing.assert_array_equal(weighed.test.origin["given/weight"], weighed.test.sample_weight)
    assert "expected dataset.sample_weight to name" in refusal(csv, weigh_metrics=True)


@pytest.mark.parametrize("bad", [None, -1.0, np.inf])
def test_amounts_that_are_no_amounts_are_refused(tmp_path: Path, bad: float | None) -> None:
    frame = claims()
    frame.loc[7, "weight"] = bad
    path = tmp_path / "bad.parquet"
    frame.to_parquet(path)
    said = refusal(path, amount="weight")
    assert said.startswith("dataset.amount=weight: 1 values are missing, negative or infinite")
    with pytest.raises(RequestError, match=r"dataset\.amount=weight: 1 values"):
        dataset(path, amount="weight").check()


def test_amounts_need_worth_in_the_positives_and_two_classes(tmp_path: Path) -> None:
    frame = claims()
    frame.loc[frame["fraud"] == "yes", "weight"] = 0
    path = tmp_path / "worthless.csv"
    frame.to_csv(path, index=False)
    assert "every positive in validation is worth 0" in refusal(path, amount="weight")
    several = {"target": "code", "positive_label": None}
    assert "the target has 3 classes" in refusal(path, amount="weight", **several)
    assert "did you mean 'weight'" in refusal(path, amount="weigth")


def test_kept_columns_cannot_take_the_name_of_what_is_given(tmp_path: Path) -> None:
    path = tmp_path / "given.csv"
    claims().rename(columns={"id": "given/amount"}).to_csv(path, index=False)
    assert "a column 'given/amount' of its own" in refusal(
        path, keep=["given/amount"], drop=["day"]
    )

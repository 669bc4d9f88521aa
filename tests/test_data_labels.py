"""Labels of a user's table: which are positive, which rows have none, what is refused."""

import numpy as np
import pandas as pd
import pytest

from rarelab.data.file import TableFile
from rarelab.data.openml import OpenML
from rarelab.data.positives import Rule, chosen
from rarelab.data.source import Roles
from rarelab.data.splits import Splits
from rarelab.data.tables.recipe import Recipe
from rarelab.data.tables.tabular import prepare
from rarelab.data.tables.targets import encode, labelled
from rarelab.errors import RequestError

VERDICTS = ["ok"] * 80 + ["fraud"] * 12 + ["chargeback"] * 8


def splits(labels, *, unlabelled="refuse", positive=(), weights=None) -> Splits:
    x = np.random.default_rng(0).normal(size=len(labels))
    frame = pd.DataFrame({"x": x, "y": labels, "w": 1.0 if weights is None else weights})
    roles = Roles("y", positive, unlabelled, sample_weight="w")
    return prepare(frame, roles, Recipe(), name="t")


def counts(found: Splits) -> list[int]:
    """All rows and all positives."""
    tables = [table for _, table in found.tables()]
    return [sum(map(len, tables)), sum(int(table.y.sum()) for table in tables)]


def test_several_labels_are_positive_together() -> None:
    found = splits(VERDICTS, positive=chosen(["fraud", "chargeback"], None))
    assert counts(found) == [100, 20]
    assert found.classes == ("ok", "fraud or chargeback")
    y, classes = encode(pd.Series([1, 2, 3, 4, 2]), chosen([1, 2.0], None))
    assert y.tolist() == [1, 1, 0, 0, 1] and classes == ("neither 1 nor 2", "1 or 2")


@pytest.mark.parametrize(
    ("rule", "positive", "classes"),
    [
        (">0", [0, 0, 1, 1], ("<= 0", "> 0")),
        (" >= 0", [0, 1, 1, 1], ("< 0", ">= 0")),
        ("<-1e0", [1, 0, 0, 0], (">= -1e0", "< -1e0")),
        ("<=.5", [1, 1, 1, 0], ("> .5", "<= .5")),
        ("==0.5", [0, 0, 1, 0], ("!= 0.5", "== 0.5")),
        ("!=0", [1, 0, 1, 1], ("== 0", "!= 0")),
    ],
)
def test_a_rule_on_a_number(rule: str, positive: list[int], classes: tuple[str, str]) -> None:
    for values in ([-2.0, 0.0, 0.5, 3.0], ["-2", "0", "0.5", "3"]):
        y, names = encode(pd.Series(values), chosen(None, rule))
        assert y.tolist() == positive and names == classes
    y, _ = encode(pd.Series(pd.Categorical(["-2", "0", "0.5", "3"])), Rule.parse(rule))
    assert y.tolist() == positive


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"positive_if": "0"}, r"positive_if=0: expected a comparison .* choose from >= <= =="),
        ({"positive_if": "> x"}, "expected a comparison with a number"),
        ({"positive_if": ">0,>1"}, "expected a comparison with a number"),
        ({"positive_if": ">0", "positive_label": 1}, "are both given: keep one"),
        ({"positive_label": []}, "expected at least one label"),
        ({"unlabelled": "dorp"}, "dataset.unlabelled=dorp is unknown: did you mean 'drop'"),
    ],
)
def test_a_wrong_choice_is_refused_without_the_data(arguments: dict, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        TableFile("nowhere.csv", "y", **arguments)
    with pytest.raises(RequestError, match=message):
        OpenML(data_id=1, **arguments)


def test_a_rule_needs_numbers_on_both_sides_of_it() -> None:
    with pytest.raises(RequestError, match=r"> 0: target 'y' is not a number in 1 of 3 .*'many'"):
        encode(pd.Series(["1", "many", "2"], name="y"), Rule.parse(">0"))
    with pytest.raises(RequestError, match="no row satisfies it; target 'y' runs from 1 to 3"):
        encode(pd.Series([1, 3], name="y"), Rule.parse(">5"))
    with pytest.raises(RequestError, match="every row satisfies it"):
        encode(pd.Series([1, 3], name="y"), Rule.parse(">0"))
    with pytest.raises(RequestError, match="is not a number in 2 of 2 rows"):
        encode(pd.Series(pd.to_datetime(["2024-01-01", "2024-01-02"])), Rule.parse(">0"))


@pytest.mark.parametrize("other", ["fraud ", "Fraud", "fraud.", "FRAUD\u00a0", "f raud"])
def test_spellings_of_the_positive_label_are_never_silently_negative(other: str) -> None:
    labels = pd.Series(["fraud"] * 12 + [other] * 3 + ["ok"] * 85, name="y")
    with pytest.raises(RequestError) as error:
        encode(labels, ("fraud",))
    told = str(error.value)
    assert f"{other!r} 3, 'fraud' 12 rows" in told and "one label?" in told
    assert "dataset.positive_label='[fraud," in told and "\n" not in told
    assert encode(labels, ("fraud", other))[0].sum() == 15
    with pytest.raises(RequestError, match="look the same"):
        encode(labels)  # they would be two of three classes
    # Spellings within one class are harmless.
    assert encode(labels, ("ok",))[0].sum() == 85
    assert encode(pd.Series(["a", "A", "b"]), ("b",))[1] == ("not b", "b")


def test_different_numbers_and_signs_are_not_spellings_of_one_label() -> None:
    for labels in (["1", "1.5", "15"], ["+", "-", "."], ["a", "b", "ab"], [True, False, True]):
        encode(pd.Series(labels), (str(labels[0]),))


def test_rows_without_a_label_are_left_out_if_asked() -> None:
    labels = [None, "", "  ", *VERDICTS]
    with pytest.raises(RequestError, match=r"missing in 3 of 103 rows.*dataset.unlabelled=drop"):
        splits(labels, positive=("fraud",))
    found = splits(labels, positive=("fraud",), unlabelled="drop")
    assert counts(found) == [100, 12]
    assert "3 of 103 rows have no label and were left out" in found.notes
    # The rest is as if they had never been there.
    same = splits(VERDICTS, positive=("fraud",))
    assert sorted(found.test.y.tolist()) == sorted(same.test.y.tolist())
    with pytest.raises(RequestError, match="missing in every row"):
        labelled(pd.Series([None, np.nan]), "drop")


def test_the_text_none_is_a_label() -> None:
    labels = ["None"] * 88 + ["fraud"] * 12
    assert splits(labels, positive=("fraud",)).classes == ("None", "fraud")
    assert counts(splits(labels, positive=chosen("None", None))) == [100, 88]


def test_every_label_positive_is_refused() -> None:
    with pytest.raises(RequestError, match="names every value of 'y'"):
        splits(VERDICTS, positive=("ok", "fraud", "chargeback"))
    with pytest.raises(RequestError, match=r"positive_label=froud .* did you mean 'fraud'"):
        splits(VERDICTS, positive=("ok", "froud"))


def test_a_common_positive_label_is_said() -> None:
    (note,) = [n for n in splits(VERDICTS, positive=("ok",)).notes if "meant to be the rare" in n]
    assert note.startswith("80.0% of the rows are positive (y ok)")
    for positive in (("fraud",), ("fraud", "chargeback")):
        assert not any("meant to be" in n for n in splits(VERDICTS, positive=positive).notes)
    assert not any("meant to be" in n for n in splits([0, 1] * 50).notes)  # half


def test_weights_that_are_all_zero_are_refused() -> None:
    fraud = np.array([label == "fraud" for label in VERDICTS])
    for weights, message in (
        (0.0, "dataset.sample_weight=w: every weight in train is 0"),
        (1.0 - fraud, "every row of class 'fraud' in train weighs 0"),
        (1.0 * fraud, "every row of class 'not fraud' in train weighs 0"),
    ):
        with pytest.raises(RequestError, match=message):
            splits(VERDICTS, positive=("fraud",), weights=weights)
    some = np.where(np.arange(100) % 2, 1.0, 0.0)
    assert counts(splits(VERDICTS, positive=("fraud",), weights=some)) == [100, 12]

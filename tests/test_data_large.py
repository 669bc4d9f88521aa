"""A table that is read, split and made into features in pieces is the one that is read whole."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pyarrow import parquet
from sklearn.preprocessing import QuantileTransformer

from rarelab.data import delimited, formats, reading
from rarelab.data.file import TableFile
from rarelab.data.places import locate
from rarelab.data.splits import Splits
from rarelab.data.tables import giveaways, numbers, preprocess, tabular
from rarelab.data.tables.preprocess import Preprocessor
from rarelab.data.tables.quantile_map import normal_quantiles
from rarelab.errors import RequestError

ROWS = 900


def claims(rows: int = ROWS) -> pd.DataFrame:
    draw = np.random.default_rng(3)
    amount = draw.lognormal(3, 2, rows)
    table = {
        "amount": amount,
        "small": draw.normal(size=rows).astype(np.float32),
        "gaps": np.where(draw.random(rows) < 0.1, np.nan, draw.normal(size=rows)),
        "count": draw.integers(0, 9, rows),
        "late": np.where(np.arange(rows) < 0.8 * rows, 1, 2.5),
        "none": np.full(rows, np.nan),
        "zip": [f"{n:05d}" for n in draw.integers(0, 40, rows)],
        "town": np.where(np.arange(rows) < 0.9 * rows, draw.choice(["Ulm", "Bonn"], rows), "Köln"),
        "mixed": [str(n) if n < 0.7 * rows else f"n{n % 3}" for n in range(rows)],
        "day": pd.date_range("2024-01-01", periods=rows, freq="h").strftime("%Y-%m-%d %H:%M"),
        "y": (amount * draw.random(rows) > np.quantile(amount, 0.8)).astype(int),
    }
    return pd.DataFrame(table)


def small_pieces(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(numbers, "CELLS", 2 * size)
    monkeypatch.setattr(preprocess, "CELLS", 30 * size)
    monkeypatch.setattr(tabular, "_AT_ONCE", size)
    monkeypatch.setattr(giveaways, "_HASHED", size)
    monkeypatch.setattr(delimited, "BLOCK", 1000 * size)


def as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every column of a text file as text, in memory at once."""
    original = formats.read_file
    monkeypatch.setattr(reading, "read_file", lambda path, said, texts: original(path, said))


def splits_of(path: Path, **options: Any) -> Splits:
    return TableFile(str(path), "y", **options).splits(0)


def same_splits(found: Splits, expected: Splits) -> None:
    assert found.digest == expected.digest
    assert found.features == expected.features
    assert found.notes == expected.notes
    facts, arrays = found.preprocessor.state()
    expected_facts, expected_arrays = expected.preprocessor.state()
    assert facts == expected_facts
    assert {k: v.tobytes() for k, v in arrays.items()} == {
        k: v.tobytes() for k, v in expected_arrays.items()
    }
    for (_, one), (_, other) in zip(found.tables(), expected.tables(), strict=True):
        assert one.origin is not None and other.origin is not None
        for name in other.origin:
            assert [*map(str, one.origin[name])] == [*map(str, other.origin[name])]


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "roles": {"drop": ["gaps", "mixed"], "keep": ["zip", "count"], "amount": "amount"},
    "encoded": {"max_categories": 2, "high_cardinality": "target", "dates": "parts"},
    "unscaled": {"numeric": "none", "deduplicate": True},
    "standard": {"numeric": "standard", "split": "time", "time": "day"},
}


@pytest.mark.parametrize("size", [7, 100, 10_000])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("form", ["csv", "parquet", "folder", "lists"])
def test_splits_in_pieces_are_those_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, options: str, size: int
) -> None:
    table, path = claims(), tmp_path / "t.csv"
    if form == "csv":
        table.to_csv(path, index=False)
    elif form == "parquet":
        path = tmp_path / "t.parquet"
        table.to_parquet(path, row_group_size=83)
    else:
        path = tmp_path / "t"
        path.mkdir()
        for start in range(0, ROWS, 250):
            part = table.iloc[start : start + 250]
            if form == "folder":
                part.to_csv(path / f"{start:04d}.csv", index=False)
            else:
                part.to_parquet(path / f"{start:04d}.parquet")
    with monkeypatch.context() as patch:
        as_before(patch)
        expected = splits_of(path, **OPTIONS[options])
    small_pieces(monkeypatch, size)
    same_splits(splits_of(path, **OPTIONS[options]), expected)


COLUMNS = {
    "whole, then decimals": ["1", "2", "3", "2.5"],
    "whole, then text": ["1", "2", "3", "x"],
    "whole, then missing": ["1", "2", "", "3"],
    "whole, then a marker": ["1", "2", "3", "NA"],
    "whole, then a code": ["1", "2", "3", "007"],
    "whole, then a plus": ["1", "2", "3", "+4"],
    "whole, then large": ["1", "2", "3", "9007199254740993"],
    "whole, then beyond 64 bits": ["1", "2", "3", "99999999999999999999"],
    "hexadecimal": ["0", "1", "0x1F", "2"],
    "decimals, then text": ["1.5", "2.5", "0.5", "x"],
    "decimals, then a comma": ["1.5", "2.5", "0.5", "1,5"],
    "decimals, then whole": ["1.5", "2.5", "7", "8"],
    "thousands": ["1.234", "5.678", "9.012", "1.111"],
    "thousands, then decimals": ["1.234", "5.678", "9.012", "1.5"],
    "thousands, then a comma": ["1.234", "5.678", "9.012", "1,5"],
    "exponents": ["1e5", "2.5e-3", "-1E+3", ".5"],
    "infinite": ["1.5", "inf", "-inf", "2"],
    "not a number": ["1.5", "nan", "2.5", "3"],
    "blanks": ["1.5", " 2.5", "2.5 ", "3"],
    "money": ["1.5", "$2.5", "2.5", "3"],
    "truth": ["true", "False", "TRUE", "false"],
    "truth, then text": ["true", "False", "TRUE", "maybe"],
    "empty": ["", "", "", ""],
    "late": ["", "", "", "1.5"],
    "negative zero": ["-0.0", "0.0", "-0", "1.5"],
}


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("beside", ["0.5", "0,5", "x"])
def test_a_column_that_turns_into_another_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, beside: str
) -> None:
    sep = ";" if "," in beside or "," in "".join(COLUMNS[name]) else ","
    path = tmp_path / "t.csv"
    values = [value for value in COLUMNS[name] for _ in range(50)]
    rows = [f"{value}{sep}{beside}{sep}{i}" for i, value in enumerate(values)]
    path.write_text("\n".join([sep.join(["c", "d", "e"]), *rows]) + "\n")
    with monkeypatch.context() as patch:
        as_before(patch)
        expected, how, note = reading.read(locate(str(path)))
    monkeypatch.setattr(delimited, "BLOCK", 256)
    found, found_how, found_note = reading.read(locate(str(path)))
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    assert (found_how, found_note) == (how, note)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "row",
    ["1,2", "1,2,3,4", '1,"2",3', "1,2,", "", "  ", "1,2,3\r1,2,3", '"1\n",2,3', "1,2,3"],
)
def test_the_width_of_rows_is_as_line_by_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: str, ending: str
) -> None:
    path = tmp_path / "t.csv"
    rows = ['"a",b,c', *["1,2,3"] * 40, row, *["4,5,6"] * 40]
    path.write_bytes(ending.join(rows).encode())

    def content() -> Any:
        try:
            return reading.read(locate(str(path)))[0].to_csv()
        except RequestError as error:
            return str(error)

    with monkeypatch.context() as patch:
        patch.setattr(delimited, "_usual_width", lambda *_: None)
        expected = content()
    monkeypatch.setattr(delimited, "BLOCK", 128)
    assert content() == expected


def test_dropped_numbers_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.parquet"
    claims().to_parquet(path)
    asked: list[str] = []
    original = parquet.ParquetFile.read

    def read(self: Any, columns: Any = None, **options: Any) -> Any:
        asked.extend(columns)
        return original(self, columns=columns, **options)

    monkeypatch.setattr(parquet.ParquetFile, "read", read)
    frame, *_ = TableFile(str(path), "y", drop=["amount", "count"]).read()
    assert {"amount", "count"}.isdisjoint(asked)
    assert [*frame.columns] == [*claims().columns]


def test_a_table_that_is_used_up_keeps_what_is_no_feature(monkeypatch: pytest.MonkeyPatch) -> None:
    table = claims()
    roles = TableFile("t.csv", "y", drop=["zip"]).roles
    recipe = TableFile("t.csv", "y").recipe
    short = table.copy()
    tabular.prepare(short, roles, recipe, name="t", consume=True)
    assert [*short.columns] == [*table.columns]
    monkeypatch.setattr(preprocess, "SHORT", 0)
    tabular.prepare(table, roles, recipe, name="t", consume=True)
    assert [*table.columns] == ["zip", "y"]


@pytest.mark.parametrize("kind", ["quantile", "standard", "none"])
@pytest.mark.parametrize("columns", [1, 2, 3, 5, 8])
def test_blocks_of_columns_learn_what_all_do(
    monkeypatch: pytest.MonkeyPatch, columns: int, kind: Any
) -> None:
    draw = np.random.default_rng(columns)
    x = draw.normal(size=(501, columns)) * 10.0 ** draw.uniform(-12, 12, columns)
    x[draw.random(x.shape) < 0.05 * (np.arange(columns) % 2)] = np.nan
    frame = pd.DataFrame(x, columns=[f"c{i}" for i in range(columns)])
    usual, blocks = Preprocessor(kind), Preprocessor(kind)
    expected, new = usual.fit_transform(frame), usual.transform(frame)
    monkeypatch.setattr(numbers, "CELLS", 1)
    monkeypatch.setattr(preprocess, "CELLS", 50)
    assert blocks.fit_transform(frame).tobytes() == expected.tobytes()
    assert blocks.transform(frame).tobytes() == new.tobytes()


def test_infinite_values_are_counted_in_all_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame({"a": np.arange(100.0), "b": np.arange(100.0)})
    fitted = Preprocessor()
    fitted.fit_transform(frame)
    monkeypatch.setattr(preprocess, "CELLS", 20)
    with pytest.raises(RequestError, match=r"'b' has 2 infinite values"):
        fitted.transform(frame.assign(b=np.where(frame["a"].isin([3, 90]), np.inf, frame["b"])))


@pytest.mark.parametrize("draw", range(6))
def test_the_quantile_map_has_the_bits_of_scikit_learn(draw: int) -> None:
    random = np.random.default_rng(draw)
    x = random.normal(size=(3000, 4))
    x[:, 1] = random.integers(0, 3, 3000)  # quantiles that repeat
    x[:, 2] = random.choice([-0.0, 0.0, 1e-9, 5.0], 3000)
    x[:, 3] = np.exp(10 * x[:, 3])
    fitted = QuantileTransformer(n_quantiles=1000, output_distribution="normal", random_state=0)
    fitted.fit(x[:1500])
    expected: Any = fitted.transform(x)
    for k in range(4):
        found = normal_quantiles(x[:, k], fitted.quantiles_[:, k], fitted.references_)
        assert found.tobytes() == np.ascontiguousarray(expected[:, k]).tobytes()


def test_features_that_are_not_finite_are_refused_wherever_they_are() -> None:
    frame = claims().drop(columns=["none", "zip", "town", "mixed", "day"])
    roles, recipe = TableFile("t.csv", "y").roles, TableFile("t.csv", "y", numeric="none").recipe
    huge = frame.assign(amount=frame["amount"].where(frame.index != ROWS - 1, 1e300))
    with pytest.raises(RequestError, match="'amount' has 1 NaN or infinite"):
        tabular.prepare(huge, roles, recipe, name="t")
    assert torch.isfinite(tabular.prepare(frame, roles, recipe, name="t").train.x).all()

"""Pieces of a table are together what reading it whole gives, however it is written."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from rarelab.data import delimited
from rarelab.data.columns import Column
from rarelab.data.dialect import Csv
from rarelab.data.pieces import Pieces, Unsettled
from rarelab.data.places import locate
from rarelab.data.reading import Reading, opened, read
from rarelab.errors import RequestError

ROWS = 40


def visits(rows: int = 300) -> pd.DataFrame:
    draw = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "size": (170 + 10 * draw.normal(size=rows)).round(1),
            "age": draw.integers(1, 90, rows),
            "smoker": draw.random(rows) < 0.5,
            "town": draw.choice(["Köln", "Ulm", "Bonn"], rows),
            "id": [f"{i:05d}" for i in range(rows)],
        }
    )


def whole(pieces: Pieces, columns: list[str]) -> pd.DataFrame:
    frames = [*pieces.read(columns, ROWS)]
    assert {len(frame) for frame in frames[:-1]} <= {ROWS}
    found = pd.concat(frames, ignore_index=True)
    with suppress(Unsettled):
        same(pd.concat([*pieces.read_once(columns, ROWS)], ignore_index=True), found)
    return found


def same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    for name in expected.columns:
        a: Any = found[name].map(str)
        b: Any = expected[name].map(str)
        assert a.tolist() == b.tolist(), name


def texts(table: pd.DataFrame, decimal: str) -> pd.DataFrame:
    """Every value as text; some missing, in a piece alone."""
    size = table["size"].map(lambda v: f"{v:.1f}".replace(".", decimal))
    return table.assign(size=size.where(table.index % 7 != 0, "?"), town=table["town"])


FORMS = {
    "plain.csv": lambda t, path: texts(t, ".").to_csv(path, index=False),
    "german.csv": lambda t, path: texts(t, ",").to_csv(
        path, index=False, sep=";", encoding="cp1252"
    ),
    "wide.tsv": lambda t, path: t.to_csv(path, index=False, sep="\t", encoding="utf-16"),
    "packed.csv.gz": lambda t, path: t.to_csv(path, index=False),
    "packed.csv.zst": lambda t, path: t.to_csv(path, index=False),
    "packed.zip": lambda t, path: t.to_csv(path, index=False),
    "numbered.csv": lambda t, path: t.to_csv(path),
    "t.parquet": lambda t, path: t.to_parquet(path, row_group_size=37),
    "text.parquet": lambda t, path: t.astype(str).to_parquet(path, row_group_size=37),
    "levels.parquet": lambda t, path: t.astype({"town": "category"}).to_parquet(path),
    "t.feather": lambda t, path: t.to_feather(path),
    "t.xlsx": lambda t, path: t.to_excel(path, index=False),
}


@pytest.mark.parametrize("form", FORMS)
def test_pieces_are_what_the_whole_is(tmp_path: Path, form: str) -> None:
    table = visits()
    FORMS[form](table, tmp_path / form)
    place = locate(str(tmp_path / form))
    expected, reading, _ = read(place)
    pieces = Pieces(place, reading)
    assert pieces.names == [*table.columns]
    same(whole(pieces, [*table.columns]), read(place, like=reading)[0])
    same(whole(pieces, ["town", "size"]), expected[["town", "size"]])
    cells = pd.concat([*pieces.cells(["id"], ROWS)], ignore_index=True)
    assert cells["id"].tolist() == table["id"].tolist()


def test_the_decimal_separator_is_that_of_the_whole_file(tmp_path: Path) -> None:
    """1,234 may be either; only the last row tells."""
    table = pd.DataFrame({"a": ["1,234"] * 99 + ["2,5"], "b": ["x"] * 100})
    table.to_csv(tmp_path / "t.csv", index=False)
    place = locate(str(tmp_path / "t.csv"))
    pieces = Pieces(place, Reading.before({"a": "number", "b": "text"}))
    assert whole(pieces, ["a", "b"])["a"].tolist() == [1.234] * 99 + [2.5]
    table.loc[50, "a"] = "n.n."
    table.to_csv(tmp_path / "t.csv", index=False)
    found = whole(Pieces(place, read(place, Csv(dtypes={"b": "text"}))[1]), ["a"])
    same(found, read(place, like=read(place)[1])[0][["a"]])


def test_parts_are_one_table(tmp_path: Path) -> None:
    table = visits()
    for i in range(3):
        folder = tmp_path / "t" / f"year=202{i}"
        folder.mkdir(parents=True)
        part = table.iloc[100 * i : 100 * (i + 1)]
        part.assign(age=part["age"].astype("float64" if i == 1 else "int64")).to_parquet(
            folder / "part.parquet"
        )
    place = locate(str(tmp_path / "t"))
    expected, reading, _ = read(place)
    pieces = Pieces(place, reading)
    same(whole(pieces, [*expected.columns]), expected)
    assert pieces.types(["age", "year"]) == {"age": pa.float64(), "year": pa.string()}
    assert {*whole(pieces, ["year"])["year"].astype(int)} == {2020, 2021, 2022}
    table.drop(columns="age").to_parquet(folder / "part.parquet")
    with pytest.raises(RequestError, match=r"the parts differ: .* has a column 'age'"):
        Pieces(place, reading)


def test_a_query_is_cut_into_pieces(tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    visits().to_parquet(tmp_path / "t.parquet")
    query = f"SELECT age, town FROM '{tmp_path / 't.parquet'}' WHERE age > 20"
    expected, reading, _ = read(opened(query))
    same(whole(Pieces(opened(query), reading), ["age", "town"]), expected)


def test_kept_cells_stay_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,x\n007,1\nNA,2\n1e3,?\n,4\n")
    place = locate(str(tmp_path / "t.csv"))
    frame, reading, _ = read(place, keep=["id"])
    assert [*frame["id"][:3]] == ["007", "NA", "1e3"] and frame["id"].isna().tolist()[3]
    (cells,) = Pieces(place, reading).cells(["id", "x"], 10)
    assert cells["id"].tolist()[:3] == ["007", "NA", "1e3"]
    assert cells["x"].tolist() == ["1", "2", "?", "4"]
    large = pa.table({"id": pa.array([2**60 + 1, None]), "x": [1.0, 2.0]})
    parquet.write_table(large, tmp_path / "t.parquet")
    assert read(locate(str(tmp_path / "t.parquet")), keep=["id"])[0]["id"][0] == 2**60 + 1


def test_memory_does_not_grow_with_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8 MB of text in blocks of 256 kB: Arrow holds a few of them at most."""
    monkeypatch.setattr(delimited, "BLOCK", 1 << 18)
    line = b"0.123456789,abcdefghij,12345678,0.98765\n"
    (tmp_path / "t.csv").write_bytes(b"a,b,c,d\n" + line * 200_000)
    place = locate(str(tmp_path / "t.csv"))
    like = Reading.before({"a": "number", "b": "text", "c": "number", "d": "number"})
    rows, most, before = 0, 0, pa.total_allocated_bytes()
    for frame in Pieces(place, like).read(["a", "b", "c"], 1 << 12):
        rows += len(frame)
        most = max(most, pa.total_allocated_bytes() - before)
    assert rows == 200_000
    assert most < 4e6


@pytest.mark.parametrize(
    ("last", "settled"),
    [("7.891", True), ("1.5", False), ("1,5", True), ("12", True), ("", True), ("x", True)],
)
def test_one_reading_is_enough_where_later_rows_change_nothing(
    tmp_path: Path, last: str, settled: bool
) -> None:
    path = tmp_path / "t.csv"
    rows = ["a;b", *["1.234;1"] * 100, f"{last};2"]
    path.write_text("\n".join(rows) + "\n")
    like = Reading({"a": Column("number"), "b": Column("number")})
    pieces = Pieces(locate(str(path)), like)
    expected = pd.concat([*pieces.read(["a", "b"], ROWS)], ignore_index=True)
    same(expected, read(locate(str(path)), like=like)[0])
    if not settled:
        with pytest.raises(Unsettled):
            [*pieces.read_once(["a", "b"], ROWS)]
        return
    same(pd.concat([*pieces.read_once(["a", "b"], ROWS)], ignore_index=True), expected)

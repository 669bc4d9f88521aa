"""Tables as people have them: however a file is written, it is read as it was meant."""

import datetime
import json
import sqlite3
import threading
from decimal import Decimal
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from pyarrow import parquet

import rarelab as package
from rarelab import quoting
from rarelab.cli import main
from rarelab.data.dialect import Csv
from rarelab.data.file import TableFile
from rarelab.data.formats import READ_AS
from rarelab.data.places import locate
from rarelab.data.reading import Reading, read
from rarelab.errors import RequestError
from rarelab.predict import read_model
from rarelab.sweep.overrides import as_meant
from rarelab.tracking.entry import load_entry

QUICK = ["model=linear", "loss=bce", "schedule=constant", "trainer.max_epochs=2"]
QUICK += ["tracking=none", "tracking.figures=false"]


def thyroid(n: int = 300) -> pd.DataFrame:
    """Text throughout, as in a clinic's export: numbers, two markers of missing, umlauts."""
    draw = np.random.default_rng(0)

    def cells(values: object, share: float) -> list[str]:
        return [
            "?" if gone else str(v) for v, gone in zip(values, draw.random(n) < share, strict=True)
        ]

    sick = draw.random(n) < 0.2
    return pd.DataFrame(
        {
            "Größe": cells((170 + 10 * draw.normal(size=n)).round(1), 0.1),
            "Alter": cells(draw.integers(1, 90, n), 0.05),
            "TSH": cells((draw.lognormal(size=n) * (1 + 3 * sick)).round(4), 0.2),
            "Geschlecht": cells(draw.choice(["M", "F"], n), 0.05),
            "Quelle": draw.choice(["SVI", "Überw.", "andere"], n),
            "y": np.where(sick, "krank", "gesund"),
        }
    )


def with_commas(table: pd.DataFrame) -> pd.DataFrame:
    numbers = ["Größe", "TSH"]
    return table.assign(**{c: table[c].str.replace(".", ",", regex=False) for c in numbers})


def write(table: pd.DataFrame, folder: Path) -> dict[str, Path]:
    """The table in every form."""
    texts = {
        "plain.csv": {},
        "semicolons.csv": {"sep": ";"},
        "tabs.tsv": {"sep": "\t", "encoding": "utf-8-sig"},
        "pipes.txt": {"sep": "|", "encoding": "latin-1"},
        "latin.csv": {"encoding": "latin-1"},
        "wide.csv": {"encoding": "utf-16"},
        "bare.csv": {"encoding": "utf-16-le", "sep": ";"},
        "quoted.csv": {"quoting": 1},
        "mac.csv": {"lineterminator": "\r\n"},
        "packed.csv.gz": {},
        "packed.csv.zst": {},
        "packed.zip": {},
    }
    for name, how in texts.items():
        table.to_csv(folder / name, index=False, **how)
    with_commas(table).to_csv(folder / "german.csv", index=False, sep=";", encoding="cp1252")
    with_commas(table).to_csv(folder / "commas.csv", index=False)
    table.to_parquet(folder / "text.parquet")
    table.to_feather(folder / "text.feather")
    table.to_excel(folder / "text.xlsx", index=False)
    typed = pd.read_csv(folder / "plain.csv", na_values=["?"])
    typed.to_parquet(folder / "typed.parquet")
    typed.to_excel(folder / "typed.xlsx", index=False)
    for name, rows in {"b": table[100:], "a": table[:100]}.items():
        (folder / "parts").mkdir(exist_ok=True)
        rows.to_csv(folder / "parts" / f"{name}.csv", index=False)
    return {path.name: path for path in folder.iterdir()}


def dataset(path: object, **how) -> TableFile:
    return TableFile(str(path), **{"target": "y", "positive_label": "krank", **how})


def frame(path: Path, text: str | bytes, **settings) -> pd.DataFrame:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(locate(str(path)), Csv.of(settings))[0]


def test_every_form_of_one_table_gives_the_same_rows_bit_for_bit(tmp_path: Path) -> None:
    forms = write(thyroid(), tmp_path)
    digests = {name: dataset(path).splits(0).digest for name, path in forms.items()}
    assert len(digests) == 20 and len(set(digests.values())) == 1, digests
    splits = dataset(forms["german.csv"]).splits(0)
    assert {"Größe", "Alter", "TSH", "missing(TSH)"} <= {*splits.features}
    (note,) = [note for note in splits.notes if note.startswith("read as: ")]
    for said in ("semicolons", "cp1252", "'Größe', 'TSH'", "missing '?' in", "'Geschlecht'"):
        assert said in note
    assert not any(n.startswith("read as") for n in dataset(forms["typed.parquet"]).splits(0).notes)


def test_a_run_on_another_form_of_the_table_records_the_same_numbers(tmp_path: Path) -> None:
    forms = write(thyroid(), tmp_path)
    found, features = [], set()
    for name in ("plain.csv", "german.csv"):
        asked = [f"dataset.path={forms[name]}", "dataset.target=y", "dataset.positive_label=krank"]
        run = package.train(["dataset=file", *asked, *QUICK])
        rows = map(json.loads, (run.directory / "history.jsonl").read_text().splitlines())
        found.append([{k: v for k, v in row.items() if k != "time"} for row in rows])
        scorer = read_model(run.directory / "model").preprocessor
        for other in ("plain.csv", "german.csv", "typed.parquet", "wide.csv", "parts", "text.xlsx"):
            new = read(locate(str(forms[other])), like=Reading.restored(scorer.reading))[0]
            features.add(scorer.transform(new).tobytes())
            assert new["TSH"].notna().sum() == (thyroid()["TSH"] != "?").sum(), other
    assert found[0] == found[1] and len(features) == 1


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1e-12", "2.5E+12", "-3", "+4"], [1e-12, 2.5e12, -3, 4]),
        (['"1,234.50"', '"2,000,000"', "7", "n/a"], [1234.5, 2e6, 7, None]),
        (['"1.234,50"', '"0,5"', "7", "-"], [1234.5, 0.5, 7, None]),
        (["1 234.5", "2\u00a0000", "1'000", "."], [1234.5, 2000, 1000, None]),
        (["$5", '"-$1,000.25"', "($3)", "NULL"], [5, -1000.25, -3, None]),
        (["5 €", "1.5 €", "€ 2", "NA"], [5, 1.5, 2, None]),
        (["5 %", "12.5%", "0%", "#N/A"], [0.05, 0.125, 0, None]),
        (["True", "FALSE", "", "true"], [True, False, None, True]),
        (["  5", "6 ", " ", "7"], [5, 6, None, 7]),
        (["0.5", "None", "nan", "null"], [0.5, None, None, None]),
        (["01", "1", "001", "10"], ["01", "1", "001", "10"]),
        (["9007199254740992", "9007199254740993", "1", "2"], None),
        (["1", "2", "5 %", "3"], ["1", "2", "5 %", "3"]),
        (["+", "-", "+", "-"], ["+", "-", "+", "-"]),
        (["NA", "DE", "FR", ""], ["NA", "DE", "FR", None]),
        (["None", "low", "high", "low"], ["None", "low", "high", "low"]),
        (["?", "low", "N/A", "NULL"], [None, "low", None, None]),
        (["1.2.3", "1.2.4", "2.0.0", "3.1.1"], ["1.2.3", "1.2.4", "2.0.0", "3.1.1"]),
    ],
)
def test_a_column_is_read_as_it_was_meant(tmp_path: Path, cells: list[str], values) -> None:
    """And in the same way in a Parquet file of the same texts."""
    text = "\n".join(["a,y", *(f"{cell},{i % 2}" for i, cell in enumerate(cells))]) + "\n"
    found = frame(tmp_path / "t.csv", text)["a"]
    expected = values or [cell.strip('"') for cell in cells]
    assert [None if pd.isna(v) else v for v in found] == expected
    texts = [cell.strip('"') for cell in cells]
    parquet.write_table(pa.table({"a": texts, "y": [0, 1, 0, 1]}), tmp_path / "t.parquet")
    again = read(locate(str(tmp_path / "t.parquet")))[0]["a"]
    pd.testing.assert_series_equal(found, again)


def test_na_is_missing_among_texts_if_the_file_uses_it_so(tmp_path: Path) -> None:
    text = "size,place,y\n" + "NA,north coast,0\n1.5,NA,1\n2,south coast,0\n"
    assert frame(tmp_path / "r.csv", text)["place"].isna().tolist() == [False, True, False]
    text = "size,place,y\n" + "?,north coast,0\n1.5,NA,1\n2,south coast,0\n"
    assert not frame(tmp_path / "r.csv", text)["place"].isna().any()


def test_every_setting_replaces_what_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    assert frame(path, "a:b\n1:2\n", sep=":").columns.tolist() == ["a", "b"]
    assert frame(path, "a,ż\n1,2\n".encode("cp1250"), encoding="cp1250").columns[1] == "ż"
    assert frame(path, "a;b\n1.234;2\n")["a"][0] == 1234
    assert frame(path, "a;b\n1.234;2\n", decimal=".")["a"][0] == 1.234
    assert frame(path, 'a,b\n"1,234",2\n', decimal=",")["a"][0] == 1.234
    assert frame(path, "a,b\n1_234,2\n", thousands="_")["a"][0] == 1234
    assert frame(path, "a,b\n-9,NA\n1,x\n", na_values=["-9"]).isna()["a"].tolist() == [True, False]
    assert frame(path, "a,b\n7,1\n8,2\n", dtypes={"a": "text"})["a"].tolist() == ["7", "8"]
    assert frame(path, "a,b\n007,1\n8,2\n", dtypes={"a": "number"})["a"].tolist() == [7, 8]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"spe": ";"}, "dataset.csv.spe: no such setting; did you mean 'sep'?"),
        ({"sep": ";;"}, "dataset.csv.sep=;;: expected one character"),
        ({"sep": ","}, "dataset.csv.sep=,: t.csv separates its columns with semicolons"),
        ({"encoding": "utf8000"}, "dataset.csv.encoding=utf8000 is unknown"),
        ({"decimal": "x"}, "dataset.csv.decimal=x: expected . or ','"),
        ({"decimal": ",", "thousands": ","}, "dataset.csv.thousands=, is the decimal separator"),
        ({"na_values": "?"}, "dataset.csv.na_values=?: expected a list"),
        ({"dtypes": {"a": "date"}}, "dataset.csv.dtypes.a=date: expected number or text"),
        ({"dtypes": {"c": "text"}}, "dataset.csv.dtypes.c is not a column"),
        ({"dtypes": {"b": "number"}}, "dataset.csv.dtypes.b=number, but the column holds 'many'"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(tmp_path: Path, settings, said: str) -> None:
    with pytest.raises(RequestError) as error:
        frame(tmp_path / "t.csv", "a;b\n1;many\n", **settings)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_bytes_that_are_no_text_of_one_encoding_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"t\.csv is not utf-8 text throughout .*0xf6"):
        frame(tmp_path / "t.csv", "a,ö\n".encode() + b"1,\xf6\n")
    with pytest.raises(RequestError, match="is not ascii text throughout"):
        frame(tmp_path / "t.csv", "a,ö\n1,2\n", encoding="ascii")


def test_the_types_of_parquet(tmp_path: Path) -> None:
    day = datetime.datetime(2024, 1, 1)
    columns = {
        "price": pa.array([Decimal("12.34"), None, Decimal("-0.10")], pa.decimal128(9, 2)),
        "level": pa.array(["1", "2", "1"]).dictionary_encode(),
        "day": pa.array([day, None, day]),
        "wait": pa.array([datetime.timedelta(seconds=i) for i in (1, 2, 3)]),
        "hour": pa.array([datetime.time(i) for i in (1, 2, 3)]),
        "id": pa.array([2**53, 2**53 + 1, None]),
        "seen": pa.array([True, None, False]),
        "none": pa.nulls(3),
    }
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    found = read(locate(str(tmp_path / "t.parquet")))[0]
    shown = {name: [None if pd.isna(v) else v for v in found[name]] for name in found}
    assert shown == {
        "price": [12.34, None, -0.1],
        "level": ["1", "2", "1"],
        "day": ["2024-01-01", None, "2024-01-01"],
        "wait": ["0 days 00:00:01", "0 days 00:00:02", "0 days 00:00:03"],
        "hour": ["01:00:00", "02:00:00", "03:00:00"],
        "id": ["9007199254740992", "9007199254740993", None],
        "seen": [True, None, False],
        "none": [None, None, None],
    }
    found.to_csv(tmp_path / "t.csv", index=False)
    again = read(locate(str(tmp_path / "t.csv")))[0]
    pd.testing.assert_frame_equal(again.drop(columns="level"), found.drop(columns="level"))


def test_nested_columns_are_refused_unless_they_are_left_out(tmp_path: Path) -> None:
    table = thyroid().assign(parts=[["a", "b"]] * 300)
    table.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(RequestError, match="column 'parts' holds values of type list") as error:
        dataset(tmp_path / "t.parquet").splits(0)
    assert quoting.override("dataset.drop", ["parts"]) in str(error.value)
    assert "parts" not in dataset(tmp_path / "t.parquet", drop=["parts"]).splits(0).features


def test_a_named_index_is_a_column_and_row_numbers_are_not(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": np.arange(60) % 7, "b": np.arange(60) % 11, "y": np.arange(60) % 2})
    shuffled = table.sample(frac=1, random_state=0)
    shuffled.to_parquet(tmp_path / "numbered.parquet")
    shuffled.to_csv(tmp_path / "numbered.csv")
    table.set_index("a").to_parquet(tmp_path / "named.parquet")
    for name in ("numbered.parquet", "numbered.csv"):
        splits = dataset(tmp_path / name, positive_label=1).splits(0)
        assert splits.features == ("a", "b") and "left out" in splits.notes[0]
    named = dataset(tmp_path / "named.parquet", positive_label=1).splits(0)
    assert {*named.features} == {"a", "b"}


def test_parts_are_one_table_and_their_content_is_its_identity(tmp_path: Path) -> None:
    table = thyroid()
    for year, rows in {"2023": table[:200], "2024": table[200:]}.items():
        (tmp_path / "t" / f"year={year}").mkdir(parents=True)
        rows.to_parquet(tmp_path / "t" / f"year={year}" / "part.parquet")
    (tmp_path / "t" / "_SUCCESS").touch()
    (tmp_path / "t" / ".part.csv").write_text("no table")
    whole = dataset(tmp_path / "t")
    pattern = dataset(tmp_path / "t" / "**" / "*.parquet")
    assert "year" in whole.splits(0).features
    assert whole.identity() == pattern.identity()
    assert whole.splits(0).digest == pattern.splits(0).digest
    before = whole.identity()
    (tmp_path / "t").rename(tmp_path / "moved")
    assert dataset(tmp_path / "moved").identity() == before
    table[:199].to_parquet(tmp_path / "moved" / "year=2023" / "part.parquet")
    assert dataset(tmp_path / "moved").identity() != before
    table.rename(columns={"TSH": "T3"}).to_parquet(
        tmp_path / "moved" / "year=2023" / "part.parquet"
    )
    with pytest.raises(RequestError, match=r"the parts differ: part\.parquet has a column 'T3'"):
        dataset(tmp_path / "moved").splits(0)


def test_an_address_is_read_as_a_file_with_its_identity(tmp_path: Path) -> None:
    path = write(thyroid(), tmp_path)["packed.csv.gz"]
    with fsspec.open("memory://bucket/packed.csv.gz", "wb") as file:
        file.write(path.read_bytes())
    there = dataset("memory://bucket/packed.csv.gz")
    assert there.identity() == dataset(path).identity()
    assert there.splits(0).digest == dataset(path).splits(0).digest
    with pytest.raises(RequestError, match=r"memory://nowhere\.csv cannot be read"):
        dataset("memory://nowhere.csv").identity()
    with pytest.raises(RequestError, match="s4"):
        dataset("s4://nowhere.csv").identity()


def test_a_file_on_a_server_is_trained_on_and_scored(tmp_path: Path) -> None:
    path = write(thyroid(), tmp_path)["packed.csv.gz"]
    handler = partial(SimpleHTTPRequestHandler, directory=str(path.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/{path.name}"
        asked = [f"dataset.path={address}", "dataset.target=y", "dataset.positive_label=krank"]
        run = package.train(["dataset=file", *asked, *QUICK])
        assert main(["predict", run.directory.name, address, f"output={tmp_path / 'a.csv'}"]) == 0
        assert main(["predict", run.directory.name, str(path), f"output={tmp_path / 'b.csv'}"]) == 0
        with pytest.raises(RequestError, match=r"/none\.csv cannot be read: 404"):
            dataset(address.replace(path.name, "none.csv")).identity()
        server.shutdown()
    with pytest.raises(RequestError, match=r"/other\.csv cannot be read: Cannot connect"):
        dataset(address.replace(path.name, "other.csv")).identity()
    assert load_entry(run.directory).tags["rarelab.data"] == dataset(path).identity()
    scores = pd.read_csv(tmp_path / "a.csv")
    assert len(scores) == 300 and scores.equals(pd.read_csv(tmp_path / "b.csv"))


def test_the_help_of_predict_names_every_kind_of_file(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    told = capsys.readouterr().out.lower()
    assert all(kind in told for kind in {*READ_AS.values(), "folder", "address", "query"})
    assert main(["--help"]) == 0 and "CSV or Parquet" not in capsys.readouterr().out


def test_a_query_is_read_as_a_file_and_identified_by_its_rows(tmp_path: Path) -> None:
    typed = pd.read_parquet(write(thyroid(), tmp_path)["typed.parquet"])
    with sqlite3.connect(tmp_path / "clinic.db") as database:
        typed.to_sql("tests", database, index=False)
    database.close()
    asked = {"target": "y", "positive_label": "krank"}
    uri = f"sqlite:///{tmp_path / 'clinic.db'}"
    there = TableFile(sql="SELECT * FROM tests", uri=uri, **asked)
    here = TableFile(sql=f"SELECT * FROM '{tmp_path / 'typed.parquet'}'", **asked)
    digest = dataset(tmp_path / "typed.parquet").splits(0).digest
    assert there.splits(0).digest == here.splits(0).digest == digest
    assert there.identity() == here.identity()
    fewer = TableFile(sql="SELECT * FROM tests LIMIT 299", uri=uri, **asked)
    assert fewer.identity() != there.identity()
    for sql, said in {"SELEC 1": "cannot be run", "SELECT 1 AS a": "dataset.target=y"}.items():
        with pytest.raises(RequestError, match=said) as error:
            TableFile(sql=sql, uri=uri, **asked).splits(0)
        assert "\n" not in str(error.value)


def test_a_folder_or_a_query_is_scored_and_a_folders_run_reproduced(tmp_path: Path) -> None:
    parts = write(thyroid(), tmp_path)["parts"]
    asked = [f"dataset.path={parts}", "dataset.target=y", "dataset.positive_label=krank"]
    run = package.train(["dataset=file", *asked, *QUICK])
    assert main(["reproduce", run.directory.name]) == 0
    assert main(["predict", f"rarelab/{run.directory.name}", str(parts)]) == 0
    scores = pd.read_csv(parts.with_name("parts.scores.csv"))
    query = f"SELECT * FROM read_csv('{parts}/*.csv', all_varchar=true)"
    output = tmp_path / "again.csv"
    assert main(["predict", f"rarelab/{run.directory.name}", query, f"output={output}"]) == 0
    assert len(scores) == 300 and scores.equals(pd.read_csv(output))


def test_a_query_and_a_comma_need_no_quotes_for_hydra() -> None:
    for override, value in {
        "dataset.sql=SELECT a, b FROM t": "SELECT a, b FROM t",
        "dataset.csv.decimal=,": ",",
        "dataset.csv.sep=;": ";",
        "dataset.uri=sqlite:///a b.db": "sqlite:///a b.db",
    }.items():
        parsed = OverridesParser.create().parse_override(as_meant(override))
        assert parsed.value() == value and not parsed.is_sweep_override()


def test_a_run_scores_every_form_of_its_table_as_it_was_recorded(tmp_path: Path) -> None:
    forms = write(thyroid().assign(id=[f"{i:03d}" for i in range(300)]), tmp_path)
    asked = [f"dataset.path={forms['german.csv']}", "dataset.target=y", "dataset.keep=[id]"]
    run = package.train(["dataset=file", *asked, "dataset.positive_label=krank", *QUICK])
    recorded = pd.read_parquet(run.directory / "predictions.parquet")
    output = tmp_path / "scores.csv"
    for name in ("german.csv", "wide.csv", "packed.zip", "text.parquet", "text.xlsx", "parts"):
        command = ["predict", f"rarelab/{run.directory.name}", str(forms[name]), "id=id"]
        assert main([*command, f"output={output}", "overwrite=true"]) == 0
        found = pd.read_csv(output, dtype={"id": str}).iloc[recorded["row"].to_numpy()]
        assert found["id"].tolist() == recorded["id"].tolist(), name
        same = found["score"].to_numpy(np.float32)
        assert same == pytest.approx(recorded["score"].to_numpy(), rel=1e-5), name

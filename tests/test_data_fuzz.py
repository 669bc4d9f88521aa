"""Random tables, written as CSV and as Parquet: read alike, trained on and scored, or refused."""

import tempfile
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import rarelab as package
from rarelab.cli import main
from rarelab.data.file import TableFile
from rarelab.data.tables import divide
from rarelab.errors import RarelabError

MARKERS = ["?", "-", ".", "NA", "n/a", "NULL", ""]
NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=6
).filter(lambda name: name not in ("y", "Unnamed: 0") and not name.startswith("__index"))
CELLS = {
    "whole": st.integers(-(2**70), 2**70) | st.integers(-9, 9),
    "real": st.floats(-1e12, 1e12) | st.floats(0, 1e-9),
    "truth": st.booleans(),
    "code": st.sampled_from(["01", "1", "001", "7", "12"]),
    "amount": st.sampled_from(["$1,200.50", "$7", "$3.5"]),
    "comma": st.sampled_from(["0,5", "12,25", "1.200,75", "3"]),
    "share": st.sampled_from(["5 %", "12.5 %", "0.1%"]),
    "country": st.sampled_from(["NA", "DE", "FR"]),
    "text": st.text(st.characters(codec="utf-8", exclude_categories=("C",)), max_size=5),
    "date": st.dates(),
    "time": st.times().map(lambda moment: moment.replace(microsecond=0)),
    "wait": st.timedeltas(timedelta(0), timedelta(999)).map(pd.Timedelta),
}


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """Columns of text, as a CSV file holds them, and a label ``y`` that is not always possible."""
    rows = draw(st.integers(12, 60))
    columns = {}
    for name in draw(st.lists(NAMES, min_size=1, max_size=5, unique=True)):
        cell = CELLS[draw(st.sampled_from([*CELLS]))]
        few = draw(st.lists(cell, min_size=1, max_size=12))
        gap, every = draw(st.sampled_from(MARKERS)), draw(st.sampled_from([2, 3, 7, 1000]))
        values = [few[(i * 7) % len(few)] for i in range(rows)]
        columns[name] = [gap if i % every == 1 else str(v) for i, v in enumerate(values)]
    columns["informative"] = [str(i % 11) for i in range(rows)]
    columns["y"] = [str(int(i % 3 == 0)) for i in range(rows)]
    return pd.DataFrame(columns, dtype=object)


def split(path: Path) -> object:
    """The splits, or the refusal."""
    try:
        return TableFile(str(path), "y").splits(0)
    except RarelabError as error:
        assert "\n" not in str(error)
        return str(error)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables(), st.sampled_from([",", ";", "\t"]), st.sampled_from(["utf-8", "utf-16"]))
def test_a_table_is_read_alike_from_csv_and_parquet(table, sep: str, encoding: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        csv, parquet = Path(scratch, "t.csv"), Path(scratch, "t.parquet")
        table.to_csv(csv, index=False, sep=sep, encoding=encoding)
        table.to_parquet(parquet)
        found, typed = split(csv), split(parquet)
    if isinstance(found, str) or isinstance(typed, str):
        assert found == typed or sep == ";"
        return
    positives = sum(int((rows.y == 1).sum()) for _, rows in found.tables())
    assert sum(len(rows) for _, rows in found.tables()) == len(table)
    assert positives == (table["y"] == "1").sum()
    # Beside semicolons, 1.200 alone in a file is twelve hundred.
    assert found.digest == typed.digest or sep == ";"


@pytest.mark.slow
@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[*HealthCheck],
    phases=[Phase.explicit, Phase.generate],  # a failure is reported as found: shrinking trains
)
@given(tables(), st.sampled_from(["csv", "parquet"]))
def test_the_file_that_was_trained_on_gets_the_recorded_scores(table, ending: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        path, home = Path(scratch, f"t.{ending}"), Path(scratch, "home")
        table.to_csv(path, index=False) if ending == "csv" else table.to_parquet(path)
        asked = [f"dataset.path={path}", "dataset.target=y", f"paths.home={home}", "tracking=none"]
        quick = ["model=linear", "loss=bce", "schedule=constant", "trainer.max_epochs=1"]
        try:
            run = package.train(["dataset=file", *asked, *quick])
        except RarelabError as error:
            assert "\n" not in str(error)
            return
        scores = Path(scratch, "scores.parquet")
        where = ["--home", str(home)]
        assert main(["predict", run.directory.name, str(path), f"output={scores}", *where]) == 0
        again = pd.read_parquet(scores)["score"].to_numpy()
        recorded = pd.read_parquet(run.directory / "predictions.parquet")
        *_, test = divide.stratified((table["y"] == "1").to_numpy(np.int64), seed=0)
        there = recorded[recorded["split"] == "test"]["score"].to_numpy()
        assert again[test] == pytest.approx(there, rel=1e-5, abs=1e-6)

"""Dates as parts: what pandas says of each date, missing ones stay missing, served as trained."""

import datetime
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import rarelab
from rarelab.cli import main
from rarelab.data.file import TableFile
from rarelab.data.tables.dates import DateColumns, date_columns
from rarelab.data.tables.preprocess import Preprocessor
from rarelab.errors import RequestError

WAVES = ("sin", "cos")

pytestmark = pytest.mark.as_users_do


def instants(rows: int = 300) -> list[datetime.datetime | None]:
    draw = np.random.default_rng(0)
    start = datetime.datetime(2023, 5, 31, 7, 30)
    found = [start + datetime.timedelta(minutes=int(m)) for m in draw.integers(0, 10**6, rows)]
    return [None if i % 10 == 3 else moment for i, moment in enumerate(found)]


def expected(moment: datetime.datetime | None, first: datetime.datetime) -> list[float]:
    if moment is None:
        return [np.nan] * 6
    days = (moment - first).total_seconds() / 86400
    return [moment.year, moment.month, moment.day, moment.weekday(), moment.hour, days]


@pytest.mark.parametrize("written", ["T", " ", "typed", "offset"])
def test_the_parts_are_those_of_the_calendar(written: str) -> None:
    known = instants()
    first = min(moment for moment in known if moment)
    column = pd.Series([None if m is None else m.isoformat(written[:1]) for m in known])
    if written == "typed":
        column = pd.Series(pd.to_datetime(known))
    if written == "offset":
        east = datetime.timezone(datetime.timedelta(hours=5))
        utc = datetime.UTC
        texts = [m and m.replace(tzinfo=utc).astimezone(east).isoformat() for m in known]
        column = pd.Series(texts)
    frame = pd.DataFrame({"at": column})
    assert date_columns(frame) == ["at"] and date_columns(frame, ["at"]) == []
    dates = DateColumns(["at"])
    dates.fit(frame)
    assert dates.parts == {"at": ["year", "month", "day", "weekday", "hour", "days"]}
    right = np.array([expected(moment, first) for moment in known])
    assert dates.values(frame) == pytest.approx(right, nan_ok=True)
    again = DateColumns(**json.loads(json.dumps(dates.facts())))
    assert np.array_equal(again.values(frame), dates.values(frame), equal_nan=True)


def test_what_does_not_vary_is_left_out_and_a_gap_is_flagged_once() -> None:
    days = [f"2024-03-{1 + i % 28:02}" if i % 7 else None for i in range(200)]
    frame = pd.DataFrame({"x": np.arange(200.0), "on": days, "same": ["2024-01-01"] * 200})
    fitted = Preprocessor("none", dates=["on", "same"])
    x = fitted.fit_transform(frame)
    assert fitted.feature_names == (
        *("x", "day(on)", "weekday(on)", "days(on)", "days(same)", "missing(on)"),
    )
    assert x[:, 5].tolist() == [float(i % 7 == 0) for i in range(200)]
    again = Preprocessor.restored(*fitted.state())
    later = pd.DataFrame({"x": [1.0], "on": ["2025-03-02"], "same": [None]})
    assert again.transform(later).tobytes() == fitted.transform(later).tobytes()
    assert again.transform(later)[0, 3] == 365
    with pytest.raises(RequestError, match="column 'on' holds 'soon': expected dates"):
        again.transform(later.assign(on="soon"))


def test_a_date_that_no_training_row_has_is_days_since_1970() -> None:
    frame = pd.DataFrame({"x": np.arange(9.0), "on": [None] * 9})
    fitted = Preprocessor("none", dates=["on"])
    fitted.fit_transform(frame)
    later = fitted.transform(frame.assign(on="1970-01-03"))
    assert later[:, fitted.feature_names.index("days(on)")].tolist() == [2.0] * 9


def test_a_cycle_is_a_circle_that_a_missing_date_is_the_centre_of() -> None:
    known = instants()
    frame = pd.DataFrame({"x": np.arange(300.0), "at": pd.to_datetime(known)})
    fitted = Preprocessor("standard", dates=["at"], cyclic=True)
    x = fitted.fit_transform(frame)
    circles = [f"{wave}({part}(at))" for part in ("month", "weekday", "hour") for wave in WAVES]
    scaled = ("x", "year(at)", "day(at)", "days(at)", "missing(at)")
    assert fitted.feature_names == (*scaled, *circles)
    assert fitted.sources == ("x", *["at"] * 10)
    for moment, row in zip(known, x[:, 5:], strict=True):
        turns = moment and [(moment.month - 1) / 12, moment.weekday() / 7, moment.hour / 24]
        right = [f(2 * math.pi * t) for t in turns or () for f in (math.sin, math.cos)] or [0] * 6
        assert row == pytest.approx(right, abs=1e-6)


def test_what_follows_in_a_cycle_is_near() -> None:
    hours = pd.DataFrame({"at": [f"2024-01-{1 + h // 24:02}T{h % 24:02}:00" for h in range(240)]})
    fitted = Preprocessor(dates=["at"], cyclic=True)
    fitted.fit_transform(hours)
    shown = [name.startswith(WAVES) and "hour" in name for name in fitted.feature_names]
    x = fitted.transform(hours.iloc[[22, 23, 24, 36]])[:, shown]
    apart = np.linalg.norm(np.diff(x, axis=0), axis=1)
    assert apart[0] == pytest.approx(apart[1], abs=1e-6) and apart[2] == pytest.approx(2, abs=1e-6)


@pytest.mark.parametrize("numeric", ["quantile", "none"])
def test_stored_cycles_give_the_same_bits_and_runs_before_had_none(numeric: str) -> None:
    frame = pd.DataFrame({"at": pd.to_datetime(instants()), "c": ["a", "b", "c"] * 100})
    for cyclic in (True, False):
        fitted = Preprocessor(numeric, dates=["at"], cyclic=cyclic)  # pyright: ignore
        x = fitted.fit_transform(frame)
        facts, arrays = fitted.state()
        facts = json.loads(json.dumps(facts))
        if not cyclic:
            del facts["dates"]["cycles"]  # as in runs recorded before there were cycles
        again = Preprocessor.restored(facts, arrays)
        assert again.transform(frame).tobytes() == x.tobytes()
        assert again.sources == fitted.sources
        assert again.transform(frame.iloc[[3]]).tobytes() == x[3].tobytes()


@pytest.mark.parametrize(
    "values",
    [
        ["20240131", "20240201"],
        ["2024", "2025"],
        ["12:30:00", "13:00:00"],
        ["2024-01-31", "soon"],
        ["2024-01-31", "2024-02-31"],
        ["31.01.2024", "01.02.2024"],
        [None, None],
        [1, 2],
        [True, False],
    ],
)
def test_what_is_no_iso_date_stays_what_it_is(values: list) -> None:
    assert date_columns(pd.DataFrame({"a": values})) == []


def payments(rows: int = 900) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    minutes = pd.to_timedelta(draw.integers(0, 10**5, rows), unit="min")
    at = pd.DatetimeIndex(pd.Timestamp("2024-01-01") + minutes)
    fraud = draw.random(rows) < np.where(at.hour < 4, 0.4, 0.02)
    texts = pd.Series(at.strftime("%Y-%m-%d %H:%M:%S")).where(draw.random(rows) > 0.05, None)
    return pd.DataFrame({"at": texts, "x": draw.random(rows), "fraud": fraud.astype(int)})


@pytest.mark.parametrize("dates", ["parts", "cyclic"])
def test_a_run_learns_the_hour_and_serves_it(tmp_path: Path, capsys, dates: str) -> None:
    frame, path, home = payments(), tmp_path / "p.csv", tmp_path / "home"
    frame.to_csv(path, index=False)
    asked = ["dataset=file", f"dataset.path='{path}'", "dataset.target=fraud"]
    asked += ["model=lightgbm", "loss=bce", "model.num_iterations=20", f"dataset.dates={dates}"]
    asked += [f"paths.home={home}", "tracking=none", "tracking.figures=false"]
    done = rarelab.train(asked)
    assert done.metrics["test/auroc"] > 0.7
    kept = pd.read_parquet(done.directory / "predictions.parquet")
    test = kept[kept["split"] == "test"]
    new = frame.iloc[test["row"]].drop(columns="fraud")
    new.to_csv(tmp_path / "new.csv", index=False)
    scored = ["predict", "--home", str(home), done.directory.name, str(tmp_path / "new.csv")]
    output = tmp_path / "scores.csv"
    assert main([*scored, f"output={output}"]) == 0
    assert pd.read_csv(output)["score"].to_numpy() == pytest.approx(test["score"], rel=1e-6)
    new.assign(at=["soon", *new["at"].iloc[1:]]).to_csv(tmp_path / "new.csv", index=False)
    capsys.readouterr()
    refused = [*scored, f"output={tmp_path / 'other.csv'}", "on_bad=refuse"]
    assert main(refused) == 2
    assert "row 0: column 'at' holds 'soon': expected dates" in capsys.readouterr().err
    assert main(["export", done.directory.name, "onnx", "--home", str(home)]) == 2
    assert "column 'at' is taken apart as a date" in capsys.readouterr().err


def test_describe_and_the_note_tell_of_parts(tmp_path: Path, capsys) -> None:
    path = tmp_path / "p.csv"
    payments().to_csv(path, index=False)
    (note,) = (n for n in TableFile(str(path), target="fraud").splits(0).notes if "'at'" in n)
    assert note.endswith("or take dates apart (dataset.dates=parts)")
    assert main(["data", "describe", str(path), "target=fraud", "dates=parts"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "at month, day, weekday, hour, days since 2024-01-01 and a flag for missing" in said
    assert "dates apart" not in said
    assert main(["data", "describe", str(path), "target=fraud", "dates=cyclic"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    becomes = "day, days since 2024-01-01, sin and cos of month, sin and cos of weekday"
    assert f"at {becomes}, sin and cos of hour and a flag for missing" in said
    with pytest.raises(RequestError, match=r"dataset\.dates=part is unknown: did you mean 'parts'"):
        TableFile(str(path), target="fraud", dates="part")  # pyright: ignore[reportArgumentType]

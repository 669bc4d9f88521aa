"""What the readers of real data sets make of their files, on a few rows written by hand."""

import gzip
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from rarelab.data import commands
from rarelab.data.sets import fatal_crashes, flights_cancelled, hypothyroid, satimage
from rarelab.data.source import Source
from rarelab.data.tables.targets import encode

SOURCES = commands.sources()


def positives(source: Source, frame: pd.DataFrame) -> list[int]:
    """The rows that count as positive."""
    y, _ = encode(frame[source.roles.target], source.roles.positive)
    return [int(row) for row in y.nonzero()[0]]


def features(source: Source, frame: pd.DataFrame) -> list[str]:
    roles = source.roles
    beside = {roles.target, roles.group, roles.time, roles.official, *roles.drop, *roles.keep}
    return [name for name in frame if name not in beside]


def written(folder: Path, name: str, lines: Sequence[str], *, packed: bool = False) -> Path:
    path = folder / name
    content = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


def test_a_subscribers_value_is_the_amount_and_no_cost_is_a_feature(tmp_path: Path) -> None:
    names = ["id", *(f"x{i}" for i in range(1, 47)), "C_FP", "C_FN", "C_TP", "C_TN", "target"]
    worth = [("1028.5", "0.0"), ("30.0", "1.0")]
    rows = [["7", *["0.5"] * 46, "74.0", value, "121.8", "0.0", y] for value, y in worth]
    lines = [",".join(row) for row in [names, *rows]]
    source = SOURCES["churn_tv"]
    frame = source.read(written(tmp_path, "churn.csv.gz", lines, packed=True))
    assert features(source, frame) == [f"x{i}" for i in range(1, 47)]
    assert source.roles.amount is not None
    assert frame[source.roles.amount].tolist() == [1028.5, 30.0]
    assert positives(source, frame) == [1]


def test_descriptors_stay_bytes_and_the_labels_stand_in_their_own_file(tmp_path: Path) -> None:
    table = written(tmp_path, "hiva.data", [" 0 1 1 ", " 1 0 0 ", " 1 1 1 "])
    labels = written(tmp_path, "hiva.labels", ["-1", "1", "-1"])
    source = SOURCES["hiva"]
    frame = source.read(table, labels)
    assert frame[["d1", "d2", "d3"]].to_numpy().tolist() == [[0, 1, 1], [1, 0, 0], [1, 1, 1]]
    assert {str(kind) for kind in frame.dtypes[:3]} == {"uint8"}
    assert positives(source, frame) == [1]


def test_the_pixels_of_a_digit_are_columns_row_by_row(tmp_path: Path) -> None:
    pixels = [str(place % 251) for place in range(784)]
    lines = [",".join([*pixels, digit]) for digit in ("3", "8", "0")]
    source = SOURCES["mnist8"]
    frame = source.read(written(tmp_path, "mnist.csv.gz", lines, packed=True))
    assert features(source, frame) == [f"pixel_{r}_{c}" for r in range(28) for c in range(28)]
    assert frame["pixel_1_2"].tolist() == [30, 30, 30] and positives(source, frame) == [1]


def test_a_hormone_that_was_not_measured_is_missing(tmp_path: Path) -> None:
    line = "72,M,f,f,f,f,f,f,f,f,f,f,f,y,30,y,0.60,y,15,y,1.48,y,10,n,?"
    table = written(tmp_path, "hypo.txt", [f"hypothyroid,{line}", f"negative,{line}"])
    source = SOURCES["hypothyroid"]
    frame = source.read(table)
    assert features(source, frame) == [*hypothyroid.COLUMNS]
    assert frame["TSH"].tolist() == [30, 30] and frame["TBG"].isna().tolist() == [True, True]
    assert positives(source, frame) == [0]


def test_the_rows_of_the_second_file_are_the_official_test_rows(tmp_path: Path) -> None:
    pixels = " ".join(map(str, range(36)))
    train = written(tmp_path, "train", [f"{pixels} 4", f"{pixels} 7", f"{pixels} 1"])
    test = written(tmp_path, "test", [f"{pixels} 3", f"{pixels} 4"])
    source = SOURCES["satimage"]
    frame = source.read(train, test)
    assert frame[source.roles.official].tolist() == [False, False, False, True, True]
    assert frame["centre_band1"].tolist() == [16] * 5 and len(satimage.PLACES) == 9
    assert positives(source, frame) == [0, 4]


def test_grades_of_eight_and_nine_are_positive(tmp_path: Path) -> None:
    lines = ['"pH";"quality"', "3.1;7", "3.2;8", "3.3;9", "3.4;3"]
    source = SOURCES["white_wine"]
    assert positives(source, source.read(written(tmp_path, "wine.csv", lines))) == [1, 2]


def test_what_follows_from_a_crash_is_no_feature(tmp_path: Path) -> None:
    names = [*fatal_crashes.CODES, "SPD_LIM", "VEH_INVL", *fatal_crashes.OUTCOME]
    # The severity is the last column of the outcome: 2 = fatal, 1 = injury.
    rows = [["1"] * (len(names) - 1) + [severity] for severity in ("0", "2", "1")]
    lines = [",".join(row) for row in [names, *rows]]
    lines[0] = "\ufeff" + lines[0]
    source = SOURCES["fatal_crashes"]
    frame = source.read(written(tmp_path, "crashes.csv.gz", lines, packed=True))
    assert positives(source, frame) == [1]
    left = features(source, frame)
    assert left == [*fatal_crashes.CODES, "SPD_LIM", "VEH_INVL"]
    assert not {"FATALITIES", "INJURY_CRASH", "STRATUM_R"} & {*left}


def test_the_times_of_a_booking_are_taken_apart(tmp_path: Path) -> None:
    names = (
        "row#,user_id,vehicle_model_id,package_id,travel_type_id,from_area_id,to_area_id,"
        "from_city_id,to_city_id,from_date,to_date,online_booking,mobile_site_booking,"
        "booking_created,from_lat,from_long,to_lat,to_long,Car_Cancellation"
    )
    place = "13.0,77.5,12.8,77.6"
    lines = [
        f"1,9,12,,2,1,2,,,10/12/13 22:30,,0,1,10/11/13 8:00,{place},0",
        f"2,9,12,,2,1,2,,,1/5/13 0:15,,0,1,1/4/13 23:45,{place},1",
    ]
    source = SOURCES["taxi_cancelled"]
    frame = source.read(written(tmp_path, "taxi.csv.gz", [names, *lines], packed=True))
    clock = frame[["hour", "weekday", "hours_ahead", "booked_hour"]].to_numpy().tolist()
    assert clock == [[22, 5, 38.5, 8], [0, 5, 0.5, 23]]  # both on a Saturday
    assert frame["booked"].tolist() == [
        pd.Timestamp("2013-10-11 08:00"),
        pd.Timestamp("2013-01-04 23:45"),
    ]
    assert positives(source, frame) == [1] and len(features(source, frame)) == 13


FLIGHT = (
    "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,"
    "flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour"
)
FLIGHTS = [
    # On time, cancelled, diverted (it left and did not arrive there), and four hours late.
    "2013,1,1,517,515,2,830,819,11,UA,1,N1,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z",
    "2013,3,2,,1815,,,2030,,AA,2,,LGA,ORD,,733,18,15,2013-03-02T23:00:00Z",
    "2013,3,2,1820,1815,5,,2030,,AA,3,N3,LGA,ORD,,733,18,15,2013-03-02T23:00:00Z",
    "2013,3,2,2215,1815,240,30,2030,240,AA,4,N4,LGA,ORD,110,733,18,15,2013-03-02T23:00:00Z",
]
SKY = "origin,year,month,day,hour,temp,dewp,humid,wind_dir,wind_speed,wind_gust,precip,pressure"
SKIES = [
    # The weather of the flight's hour at its airport, and at another.
    "LGA,2013,3,2,18,30.0,20.0,70,10,12,,0.1,1010,2.0,2013-03-02T23:00:00Z",
    "JFK,2013,3,2,18,99.0,20.0,70,10,12,,0.1,1010,2.0,2013-03-02T23:00:00Z",
]


@pytest.fixture
def flights(tmp_path: Path) -> tuple[Path, Path]:
    packed = tmp_path / "flights.csv.zip"
    with zipfile.ZipFile(packed, "w") as whole:
        whole.writestr("flights.csv", "\n".join([FLIGHT, *FLIGHTS]))
    return packed, written(tmp_path, "weather.csv", [f"{SKY},visib,time_hour", *SKIES])


def test_a_flight_is_cancelled_if_it_never_left(flights: tuple[Path, Path]) -> None:
    source = SOURCES["flights_cancelled"]
    frame = source.read(*flights)
    assert positives(source, frame) == [1]
    assert frame["arrival"].tolist() == [499, 1230, 1230, 1230]  # minutes of the day
    assert frame["weekday"].tolist() == [1, 5, 5, 5] and frame["day"].tolist() == [1, 61, 61, 61]
    assert frame["temp"].isna().tolist() == [True, False, False, False]
    assert frame["temp"].dropna().tolist() == [30.0] * 3
    known = {"hour", "minute", "carrier", "origin", "dest", "distance", "weekday", "arrival"}
    assert {*features(source, frame)} == {*known, *flights_cancelled.WEATHER}


def test_only_flights_that_arrived_can_be_late(flights: tuple[Path, Path]) -> None:
    source = SOURCES["flights_late"]
    frame = source.read(*flights)
    assert len(frame) == 2 and positives(source, frame) == [1]
    assert features(source, frame) == features(
        SOURCES["flights_cancelled"], SOURCES["flights_cancelled"].read(*flights)
    )


def test_who_has_a_caravan_is_written_as_yes(tmp_path: Path) -> None:
    source = SOURCES["caravan"]
    lines = ["MOSTYPE,MOSHOOFD,PPERSAUT,Purchase", "33,8,6,No", "1,1,0,Yes"]
    assert positives(source, source.read(written(tmp_path, "caravan.csv", lines))) == [1]


@pytest.mark.slow
def test_molecules_become_bits_and_scaffolds(tmp_path: Path) -> None:
    pytest.importorskip("rdkit")  # an extra that only the slow tests install
    from rarelab.data.molecules import bits_of, scaffolds

    toluene, again, xylene, hexane = "Cc1ccccc1", "c1ccccc1C", "Cc1ccccc1C", "CCCCCC"
    bits = bits_of(["c1ccccc1", toluene, again, xylene, hexane]).to_numpy()
    assert bits.shape == (5, 2048) and bits.dtype == "uint8"
    assert (bits[1] == bits[2]).all() and not (bits[1] == bits[3]).all()
    # An atom of benzene has three neighbourhoods: of no bond, of one bond and of two.
    assert bits[0].sum() == 3
    assert scaffolds([toluene, again, xylene, hexane]) == ["c1ccccc1"] * 3 + [""]
    with pytest.raises(ValueError, match="row 2: 'C1CC' is not a molecule"):
        bits_of(["CC", "C1CC"])
    lines = ["smiles,exp_mean [nM],y,cliff_mol,split", f"{toluene},1.0,0.0,0,train"]
    lines += [f"{xylene},2.0,-0.3,0,test", f"{hexane},0.1,1.0,0,test"]
    source = SOURCES["dopamine_d3"]
    frame = source.read(written(tmp_path, "d3.csv", lines))
    assert positives(source, frame) == [0, 2] and len(features(source, frame)) == 2048
    assert frame[source.roles.official].tolist() == [False, True, True]
    assert frame[source.roles.group].tolist() == ["c1ccccc1", "c1ccccc1", ""]

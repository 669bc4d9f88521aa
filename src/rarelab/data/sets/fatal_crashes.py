"""Road crashes in the United States in 2001: which ones killed somebody?"""

from typing import TYPE_CHECKING, Literal

from rarelab.data.archives.real import RealData
from rarelab.data.archives.shared_archives import DMBA
from rarelab.data.source import Member, Roles, Source
from rarelab.data.tables.recipe import FOLDS, Numeric, Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame

# Injuries, damage and deaths, and the stratum of the sample, which was drawn by severity.
OUTCOME = (
    *("STRATUM_R", "INJURY_CRASH", "NO_INJ_I", "PRPTYDMG_CRASH", "FATALITIES", "MAX_SEV_IR"),
)
CODES = (
    *("HOUR_I_R", "ALCHL_I", "ALIGN_I", "WRK_ZONE", "WKDY_I_R", "INT_HWY", "LGTCON_I_R"),
    *("MANCOL_I_R", "PED_ACC_R", "RELJCT_I_R", "REL_RWY_R", "PROFIL_I_R", "SUR_COND"),
    *("TRAF_CON_R", "TRAF_WAY", "WEATHER_R"),
)


def read(csv: "Path") -> "DataFrame":
    """The frame of accidentsFull.csv.gz, without what is known only from the outcome."""
    import pandas as pd

    frame = pd.read_csv(csv, compression="gzip", encoding="utf-8-sig")
    return frame.assign(fatal=frame["MAX_SEV_IR"] == 2).drop(columns=[*OUTCOME])


SOURCE = Source(
    name="fatal_crashes",
    title="police-reported road crashes, coded circumstances; positive = somebody died",
    roles=Roles(target="fatal", categorical=CODES),
    read=read,
    rows=42_183,
    features=18,
    positives=466,
    citation="US Department of Transportation, GES 2001; Shmueli et al. 2019, Wiley",
    archive=DMBA,
    members=(
        Member(
            "dmba/csvFiles/accidentsFull.csv.gz",
            "31e7a4363131a7e3fbe9b7111015bd17d43da365a039b62ba4cae953127f0082",
        ),
    ),
)


def fatal_crashes(
    split: Literal["stratified", "cv"] = "stratified",
    split_seed: int = 0,
    numeric: Numeric = "standard",
    max_categories: int = 32,
    deduplicate: bool = False,
    test_share: float | None = None,
    val_share: float | None = None,
    folds: int = FOLDS,
) -> RealData:
    """Fatal road crashes: 42,183 x 18 (2 numbers, 16 categories), 466 positives (1.10 %).

    Injuries, damage and the sampling stratum follow from the outcome and are excluded. The codes
    are coarse: 27,254 rows repeat the features of an earlier one, so no model gets far.

    The parameters are those of :class:`rarelab.data.tables.recipe.Recipe`.
    """
    shares = (test_share, val_share, folds)
    return RealData(
        SOURCE, Recipe(split, split_seed, numeric, max_categories, deduplicate, *shares)
    )

"""Which runs of two arms form a pair, and what varies between the pairs of a data set."""

import math
from collections import defaultdict
from collections.abc import Sequence, Set

import numpy as np
from numpy.typing import NDArray

from rarelab.compare.arms import Arm, Unit
from rarelab.data.tables.recipe import FOLDS
from rarelab.records.load import Run

FIXED, SPLITS, DRAWN, UNKNOWN = "one fixed split", "splits", "drawn anew", "not recorded"
"""What the seeds vary: only training, the split too, or the data too."""

_DATA = "dataset"
_DEFAULT_RATIO = 0.25 / 0.60

Pair = tuple[Unit, Run, Run]
"""Unit, the baseline's run, the arm's run."""


def what_varied(runs: Sequence[Run]) -> str:
    """FIXED, SPLITS, DRAWN or UNKNOWN, judged by split seeds and digests of the rows."""
    digests, splits = {run.digest for run in runs}, {run.split_seed for run in runs}
    if len(splits) > 1 and (len(digests) > 1 or None in digests):
        return SPLITS
    if None in digests:
        return UNKNOWN if None in splits else FIXED
    if len(digests) <= 1:
        return FIXED
    # Real data whose rows changed under one split seed: they overlap as splits do.
    return DRAWN if None in splits else SPLITS


def describe_splits(runs: Sequence[Run], ratio: float) -> str:
    """How many splits of which kind, and the test rows per training row that the test assumes."""
    numbers = {run.split_seed for run in runs} - {None}
    found = runs[0].params
    origins = found.get(f"{_DATA}.origins", "")
    kind, of_ratio = "", ""
    if found.get(f"{_DATA}.split") == "cv":
        kind = _cross_validation(numbers, int(found.get(f"{_DATA}.folds", FOLDS)))
    elif origins.isdecimal() and int(origins) > 1:
        missing = "" if len(numbers) == int(origins) else f" of {origins}"
        kind = f"rolling origin{missing}, the verdict is about the mean over these test windows"
        of_ratio = " of the oldest window"
    kind = f": {kind}" if kind else ""
    return (
        f"{len(numbers)} splits{kind}; corrected for {ratio:.2g} test rows per training row"
        f"{of_ratio}"
    )


def _cross_validation(numbers: Set[int | None], folds: int) -> str:
    repetitions = len({number // folds for number in numbers if number is not None})
    often = {1: "", 2: ", repeated twice"}.get(repetitions, f", {repetitions} repetitions")
    short = repetitions * folds - len(numbers)
    lacking = f", {short} {'fold' if short == 1 else 'folds'} missing" if short else ""
    return f"{folds}-fold cross-validation{often}{lacking}"


def rows_ratio(arm: Arm) -> float:
    """Test rows / training rows of the first split, for the correction for overlapping splits.

    All random splits have the same, and so have the folds of a cross-validation: 1 / (k - 1) if
    validation counted as training, a little more as it does not. Of rolling origins the first, the
    oldest, has the fewest training rows, so the correction is the largest that any of them needs.
    """
    for run in arm.runs.values():
        sizes = run.tags.get("rarelab.rows", "").split("/")
        if len(sizes) == 3 and all(size.isdecimal() for size in sizes) and int(sizes[0]):
            return int(sizes[2]) / int(sizes[0])
    return _DEFAULT_RATIO


def pair(base: Arm, arm: Arm, notes: list[str]) -> list[Pair]:
    """The runs of both arms with the same unit and rows; mismatched rows are noted."""
    pairs = []
    for unit, run in arm.runs.items():
        if unit not in base.runs:
            continue
        other = base.runs[unit]
        if run.digest and other.digest and run.digest != other.digest:
            notes.append(f"{arm.label}: {unit} used different rows than {base.label}: not a pair")
        else:
            pairs.append((unit, other, run))
    return pairs


def over_splits(units: Sequence[Unit], values: NDArray) -> NDArray:
    """One value per split: several seeds on a split are averaged."""
    if len({unit.split for unit in units}) == 1:
        return values  # the rows changed under one split seed: every unit has its own split
    return np.array([np.mean(several) for several in _by_split(units, values)])


def seed_noise(units: Sequence[Unit], values: NDArray) -> float:
    """The share of the variance between splits that is the noise of the seeds averaged on each;
    NaN unless some split has several seeds.

    (σ² / m) / s² for m seeds a split, σ² pooled over the splits and s² the variance of their means.
    """
    several = [found for found in _by_split(units, values) if len(found) > 1]
    if len({unit.split for unit in units}) < 2 or not several:
        return math.nan
    between = over_splits(units, values).var(ddof=1)
    pooled = np.mean([np.var(found, ddof=1) / len(found) for found in several])
    return min(1.0, float(pooled / between)) if between else math.nan


def _by_split(units: Sequence[Unit], values: NDArray) -> list[list[float]]:
    found = defaultdict(list)
    for unit, value in zip(units, values, strict=True):
        found[unit.split].append(value)
    return list(found.values())

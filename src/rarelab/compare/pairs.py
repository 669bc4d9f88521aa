"""Which runs of two arms form a pair, and what varies between the pairs of a data set."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rarelab.compare.arms import Arm, Unit
from rarelab.records.load import Run

FIXED, SPLITS, DRAWN, UNKNOWN = "one fixed split", "splits", "drawn anew", "not recorded"
"""What the seeds vary: only training, the split too, or the data too."""

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


def rows_ratio(arm: Arm) -> float:
    """Test rows / training rows, for the correction for overlapping splits."""
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
    found = defaultdict(list)
    for unit, value in zip(units, values, strict=True):
        found[unit.split].append(value)
    return np.array([np.mean(several) for several in found.values()])

"""What the training rows held, to compare new rows with."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray


@dataclass(frozen=True)
class Seen:
    """The number of training rows, the share of missing values of each column, and the lowest and
    highest value of each numeric column."""

    rows: int
    missing: dict[str, float]
    ranges: dict[str, list[float]]

    @classmethod
    def of(cls, frame: pd.DataFrame, numbers: Sequence[str], values: NDArray[np.float64]) -> Self:
        """For the training rows, with the values [N, K] of the numeric columns."""
        missing: Any = frame.isna().mean()
        ranges = {
            name: [float(np.nanmin(column)), float(np.nanmax(column))]
            for name, column in zip(numbers, values.T, strict=True)
            if not np.isnan(column).all()
        }
        return cls(len(frame), {str(k): float(v) for k, v in missing.items()}, ranges)

    def facts(self) -> dict[str, Any]:
        """Plain data, serialisable as JSON; ``Seen(**facts)`` restores it."""
        return asdict(self)

"""What the training rows held, to compare new rows with."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import pandas as pd

from rarelab.data.tables.numbers import ranges


@dataclass(frozen=True)
class Seen:
    """The number of training rows, the share of missing values of each column, and the lowest and
    highest value of each numeric column."""

    rows: int
    missing: dict[str, float]
    ranges: dict[str, list[float]]

    @classmethod
    def of(cls, frame: pd.DataFrame, numbers: Sequence[str]) -> Self:
        """For the training rows, of which the columns ``numbers`` are numeric.

        Raises:
            RequestError: one of them holds text or infinite values.
        """
        missing = {str(name): frame[name].isna().to_numpy().mean().item() for name in frame.columns}
        return cls(len(frame), missing, ranges(frame, numbers))

    def facts(self) -> dict[str, Any]:
        """Plain data, serialisable as JSON; ``Seen(**facts)`` restores it."""
        return asdict(self)

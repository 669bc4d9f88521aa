"""Columns of dates as numbers: the parts of each date, their places on a circle, and the days since
the first one."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rarelab.errors import RequestError

Part = Literal["year", "month", "day", "weekday", "hour", "days"]
PARTS: tuple[Part, ...] = get_args(Part)
Cycle = Literal["month", "weekday", "hour"]
CYCLES: dict[Cycle, tuple[int, int]] = {"month": (1, 12), "weekday": (0, 7), "hour": (0, 24)}
"""The parts that begin again: their first value, and how many there are."""

_WAVES = ("sin", "cos")
_ISO = r"\d{4}-\d{2}-\d{2}"
"""How a text that may be a date begins: year, month and day, unlike a code or a number."""


@dataclass
class DateColumns:
    """The parts of each date that vary in the training rows.

    They are year, month (1 to 12), day (1 to 31), weekday (0 = Monday), hour, and the days since
    the earliest training row, with fractions. Times with an offset are taken in UTC. Missing dates
    have missing parts. A column that never varies keeps its days alone.

    ``first`` is the earliest training date of each column, ``parts`` the parts that vary,
    ``cycles`` those that vary and become a sine and a cosine.
    """

    names: list[str]
    first: dict[str, str] = field(default_factory=dict)
    parts: dict[str, list[Part]] = field(default_factory=dict)
    cycles: dict[str, list[Cycle]] = field(default_factory=dict)

    def fit(self, frame: pd.DataFrame, *, cyclic: bool = False) -> None:
        """Find in the training rows where each column begins, and which parts vary; with
        ``cyclic`` month, weekday and hour become ``cycles``."""
        for name in self.names:
            found = moments(frame[name])
            first = found.min()
            self.first[name] = "1970-01-01" if pd.isna(first) else first.isoformat()
            known = found.dropna()
            varies: list[Part] = [
                part for part in PARTS if self._part(name, part, known).nunique() > 1
            ]
            self.cycles[name] = [cycle for cycle in CYCLES if cyclic and cycle in varies]
            self.parts[name] = [p for p in varies if p not in self.cycles[name]] or ["days"]

    def values(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """The parts of rows [N, P], NaN = missing.

        Raises:
            RequestError: a value is no date.
        """
        columns = [np.empty((len(frame), 0))]
        for name in self.names:
            found = moments(frame[name])
            bad = unreadable(frame[name], found)
            if bad.any():
                shown = frame[name].iloc[int(bad.argmax())]
                raise RequestError(
                    f"column {name!r} holds {shown!r}: expected dates, as in training"
                )
            columns += [
                self._part(name, part, found).to_numpy(np.float64, na_value=np.nan)[:, None]
                for part in self.parts[name]
            ]
        return np.concatenate(columns, axis=1)

    def circles(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """Sine and cosine of each cycle [N, 2C], 2π to the cycle, 0 at its first value. They need
        no scaling; a missing date is in the middle, 0 and 0.

        :meth:`values` refuses what is no date.
        """
        columns = [np.empty((len(frame), 0))]
        for name in self.names:
            found = moments(frame[name])
            for cycle in self.cycles.get(name, []):
                first, length = CYCLES[cycle]
                at = self._part(name, cycle, found).to_numpy(np.float64, na_value=np.nan)
                turn = 2 * np.pi * (at - first) / length
                circle = np.stack([np.sin(turn), np.cos(turn)], axis=1)
                columns.append(np.where(np.isnan(circle), 0.0, circle))
        return np.concatenate(columns, axis=1)

    def feature_names(self) -> list[str]:
        """``month(day)``: the part, and its column."""
        return [f"{part}({name})" for name in self.names for part in self.parts[name]]

    def owners(self) -> list[str]:
        """The column of each part."""
        return [name for name in self.names for _ in self.parts[name]]

    def circle_names(self) -> list[str]:
        """``sin(month(day))``: the function, the part, and its column."""
        return [f"{wave}({cycle}({name}))" for name, cycle in self._cycles() for wave in _WAVES]

    def circle_owners(self) -> list[str]:
        """The column of each sine and cosine."""
        return [name for name, _ in self._cycles() for _ in _WAVES]

    def facts(self) -> dict[str, Any]:
        """Plain data, serialisable as JSON; ``DateColumns(**facts)`` restores it."""
        return asdict(self)

    def _cycles(self) -> list[tuple[str, Cycle]]:
        return [(name, cycle) for name in self.names for cycle in self.cycles.get(name, [])]

    def _part(self, name: str, part: Part, found: Any) -> Any:
        if part == "days":
            return (found - pd.to_datetime(self.first[name], utc=True)) / pd.Timedelta(days=1)
        return getattr(found.dt, "day_of_week" if part == "weekday" else part)


def date_columns(frame: pd.DataFrame, text: Collection[str] = ()) -> list[str]:
    """The columns of which all values that are not missing are dates, but for those in ``text``."""
    return [str(name) for name in frame.columns if name not in text and are_dates(frame[name])]


def moments(column: Any) -> Any:
    """The dates of a column in UTC, NaT where one is missing or no ISO date (2024-05-31,
    2024-05-31T12:00, with or without an offset)."""
    if not pd.api.types.is_datetime64_any_dtype(column):
        texts = column.astype(str)
        column = texts.where(texts.str.match(_ISO).to_numpy(dtype=bool, na_value=False))
        return pd.to_datetime(column, format="ISO8601", utc=True, errors="coerce")
    return pd.to_datetime(column, utc=True)


def unreadable(column: Any, found: Any) -> NDArray[np.bool_]:
    """Where a column has a value, but its :func:`moments` have none [N]."""
    return found.isna().to_numpy() & column.notna().to_numpy()


def are_dates(column: Any) -> bool:
    """Whether all values of a column that are not missing are dates, and some are not missing."""
    known = column.dropna()
    if not len(known) or pd.api.types.is_numeric_dtype(known):
        return False
    # Most columns of text are settled by their first value.
    return all(moments(part).notna().all() for part in (known.iloc[:1], known))


def flagged_once(owners: Sequence[str]) -> list[int]:
    """The places at which a column repeats: its missing values are flagged at the first."""
    return [i for i, name in enumerate(owners) if name in owners[:i]]

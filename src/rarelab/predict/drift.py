"""How new rows differ from the training rows, counted piece by piece and said in a few lines."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

from rarelab.data.tables.preprocess import Preprocessor

_SHOWN = 4
_LEVELS_KEPT = 3
_SMALLEST_CHANGE = 0.01
"""A change of a column's share of missing values below this is not mentioned."""


class Drift:
    """Counts unseen levels, missing values and numbers outside the range of training."""

    def __init__(self, fitted: Preprocessor) -> None:
        self._fitted = fitted
        self._rows = 0
        self._missing: Counter[str] = Counter()
        self._outside: Counter[str] = Counter()
        self._unseen: Counter[str] = Counter()
        self._levels: dict[str, list[str]] = {}

    def add(self, frame: pd.DataFrame) -> None:
        """Count a piece of the file, with its numbers readable."""
        self._rows += len(frame)
        ranges = self._fitted.seen.ranges if self._fitted.seen else {}
        for name, kind in self._fitted.columns.items():
            column: Any = frame[name]
            self._missing[name] += int(column.isna().sum())
            if kind in ("text", "code"):
                self._add_levels(name, self._fitted.texts.unseen(frame, name))
            elif name in ranges:
                low, high = ranges[name]
                self._outside[name] += int(((column < low) | (column > high)).to_numpy().sum())

    def _add_levels(self, name: str, unseen: pd.Series) -> None:
        if not len(unseen):
            return
        self._unseen[name] += len(unseen)
        known = self._levels.setdefault(name, [])
        for value in map(str, unseen.unique()):
            if len(known) < _LEVELS_KEPT and value not in known:
                known.append(value)

    def lines(self) -> Iterator[str]:
        """A line for each kind of difference that chance does not explain, worst columns first."""
        if self._unseen:
            yield "levels not seen in training: " + _listed(
                f"{name} ({', '.join(map(repr, self._levels[name]))}"
                f"{', …' if len(self._levels[name]) == _LEVELS_KEPT else ''}) in"
                f" {self._share(count)}"
                for name, count in self._unseen.most_common()
            )
        seen = self._fitted.seen
        if seen is None:
            return
        shares = {name: self._missing[name] / self._rows for name in self._fitted.columns}
        changes = {n: abs(share - seen.missing.get(n, 0.0)) for n, share in shares.items()}
        changed = [n for n in sorted(changes, key=lambda n: -changes[n]) if self._is_large(n)]
        if changed:
            yield "missing values: " + _listed(
                f"{n} {100 * shares[n]:.3g} % (training {100 * seen.missing.get(n, 0.0):.3g} %)"
                for n in changed
            )
        outside = [(n, count) for n, count in self._outside.most_common() if self._is_many(count)]
        if outside:
            yield "outside the range of training: " + _listed(
                f"{name} (training {seen.ranges[name][0]:.6g} to {seen.ranges[name][1]:.6g}) in"
                f" {self._share(count)}"
                for name, count in outside
            )

    def _share(self, count: int) -> str:
        return f"{count:,} row{'s'[: count != 1]} ({count / self._rows:.1%})"

    def _is_large(self, name: str) -> bool:
        """Whether the share of missing values differs by over four standard errors, and matters."""
        assert self._fitted.seen is not None
        trained, rows = self._fitted.seen.missing.get(name, 0.0), self._fitted.seen.rows
        share = self._missing[name] / self._rows
        pooled = (trained * rows + self._missing[name]) / (rows + self._rows)
        error = math.sqrt(pooled * (1 - pooled) * (1 / rows + 1 / self._rows))
        return abs(share - trained) > max(_SMALLEST_CHANGE, 4 * error)

    def _is_many(self, count: int) -> bool:
        """Of n new rows from the distribution of N training rows, 2n / (N + 1) are expected outside
        their range. That share follows a Beta(2, N - 1) distribution, of which one in 100,000
        exceeds seven times its mean."""
        assert self._fitted.seen is not None
        expected = 2 * self._rows / (self._fitted.seen.rows + 1)
        return count > 7 * expected + 3


def _listed(parts: Iterable[str]) -> str:
    every = [*parts]
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more

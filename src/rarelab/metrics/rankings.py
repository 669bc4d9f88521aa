"""The functions of the table's ranking metrics, by the keys under which they are recorded."""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import groupby

from rarelab.errors import nearest
from rarelab.metrics import table
from rarelab.metrics import tie_groups as ties
from rarelab.metrics.table import Metric, Ranking, class_view, is_number


def rankings(
    split: str, alerts: int | None = None, *, valued: bool = False
) -> Iterator[tuple[str, Ranking]]:
    """Name and function of each ranking metric of a split, or, ``valued``, of each that is about
    amounts; those at the budget if so many of its rows may alert.

    Those without levels come first, then level by level, then at the budget: the order in which
    they are recorded.
    """
    every = [
        row
        for row in table.TABLE
        if row.ranking and row.valued == valued and row.key.startswith(f"{split}/")
    ]
    rows = [row for row in every if not row.at_budget]
    for levels, group in groupby(sorted(rows, key=lambda row: bool(row.levels)), _levels):
        members = list(group)
        for level in levels or (None,):
            for row in members:
                assert row.ranking is not None
                if level is None:
                    yield row.name, row.ranking
                else:
                    yield f"{row.name}/{level}", partial(_at, row.ranking, level)
    for row in every if alerts is not None else ():
        if row.at_budget and row.ranking is not None:
            yield row.name, partial(_at, row.ranking, alerts)


def selecting(key: str, alerts: int | None = None) -> Ranking:
    """The function of a validation metric that can choose an epoch: one of a row of the table, at
    any level in (0, 1), written as it is recorded (``0.01``, not ``1e-2``), or at the budget, by
    which so many validation rows may alert.

    Raises:
        ValueError: there is no such metric; with what was expected.
    """
    return _ranking(key, "val/", "expected a validation metric", (), alerts)


def reporting(key: str, recorded: Iterable[str] = (), alerts: int | None = None) -> Ranking:
    """The function of a ranking metric of the test rows, or of one class of them, at any level in
    (0, 1), written as it is recorded, or at the budget, by which so many of the rows may alert. Of
    one class, it takes that class's tie groups.

    Raises:
        ValueError: there is no such metric; with the nearest one, also among ``recorded``.
    """
    return _ranking(key, class_view(key) or "test/", "no run has it", recorded, alerts)


def is_ranking(key: str) -> bool:
    """Whether it is a ranking metric of the test rows: one that :func:`reporting` knows."""
    try:
        reporting(key)
    except ValueError:
        return False
    return True


def _ranking(
    key: str, prefix: str, refusal: str, others: Iterable[str], alerts: int | None
) -> Ranking:
    """The function of ``key`` among the table's rankings of a split, written with ``prefix``."""
    split = f"{prefix.partition('/')[0]}/"
    rows = {
        f"{prefix}{row.name}": row
        for row in table.TABLE
        if row.ranking and row.higher and row.key.startswith(split)
        # Training does not see amounts; they are the positives' of a binary task.
        if not row.valued or prefix == "test/"
    }
    stem, _, text = key.rpartition("/")
    level = float(text) if is_number(text) else math.nan
    inside = 0 < level < 1
    if (row := rows.get(key)) and row.ranking and not row.levels:
        return partial(_at, row.ranking, alerts) if row.at_budget else row.ranking
    if (row := rows.get(stem)) and row.ranking and row.levels:
        if not inside:
            raise ValueError(f"expected a level above 0 and below 1, as in {stem}/0.01")
        if key == f"{stem}/{level}":
            return partial(_at, row.ranking, level)
    known = {
        prefix + other.removeprefix(split)
        for row in rows.values()
        for other in row.keys((level,) if inside else row.levels)
    }
    raise ValueError(f"{refusal}; {nearest(key, known.union(others))}")


def _at(ranking: Callable[..., float], level: float | None, groups: ties.TieGroups) -> float:
    """At a level, or at a budget of so many alerts."""
    return ranking(groups, level)


def _levels(row: Metric) -> tuple[float, ...]:
    return row.levels

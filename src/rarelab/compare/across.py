"""Comparison across data sets: ranks and Friedman's test. Each data set counts once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import fsum
from typing import Any

import pandas as pd
from scipy import stats

from rarelab.compare.arms import DataSet
from rarelab.metrics.table import higher_is_better

FEW = 10
"""With fewer data sets than this, the chi-square approximation of Friedman's test is rough."""


@dataclass(frozen=True)
class Across:
    """``table``: mean of each arm [data sets, arms]; ``ranks``: average rank by arm, 1 is best.

    ``statistic`` and ``p`` come from Friedman's test for three or more arms, and from Wilcoxon's
    signed-rank test for two. ``post_hoc``: Nemenyi's p-values by pair of arms.
    """

    test: str
    statistic: float
    p: float
    ranks: dict[str, float]
    table: Any = field(repr=False)
    post_hoc: Any = field(repr=False)
    notes: Sequence[str] = ()

    @property
    def data_sets(self) -> int:
        return len(self.table)


def across(data_sets: Sequence[DataSet], metric: str) -> Across | None:
    """Compare arms across data sets (Demšar 2006); None unless two data sets share two arms.

    An arm's value on a data set is its mean over the seeds that all arms have there. Arms missing
    from any data set are left out and noted.
    """
    if len(data_sets) < 2:
        return None
    labels = [{arm.label for arm in data.arms if arm.runs} for data in data_sets]
    common = sorted(set.intersection(*labels))
    partial = sorted(set.union(*labels) - set(common))
    notes = [f"{label}: missing from some data sets, left out of the ranks" for label in partial]
    rows = {data.label: _means(data, common, metric) for data in data_sets}
    rows = {label: row for label, row in rows.items() if row is not None}
    if len(common) < 2 or len(rows) < 2:
        return None
    table = pd.DataFrame.from_dict(rows, orient="index", columns=common)
    ranked = table.rank(axis=1, ascending=not higher_is_better(metric)).mean()
    test, statistic, p = _test(table)
    ranks = dict(zip(common, ranked.to_numpy(dtype=float).tolist(), strict=True))
    return Across(test, statistic, p, ranks, table, _nemenyi(table), notes)


def _means(data: DataSet, labels: Sequence[str], metric: str) -> list[float] | None:
    arms = [data.arm(label) for label in labels]
    if not arms:
        return None
    shared = set.intersection(*(set(arm.runs) for arm in arms))
    if not shared:
        return None
    # fsum does not depend on the order, so the same values in another order tie exactly.
    return [fsum(arm.runs[unit].metrics[metric] for unit in shared) / len(shared) for arm in arms]


def _test(table: pd.DataFrame) -> tuple[str, float, float]:
    columns = [table[label].to_numpy() for label in table]
    if len(columns) == 2:
        difference = columns[0] - columns[1]
        if not difference.any():
            return "Wilcoxon signed rank", 0.0, 1.0
        found = stats.wilcoxon(difference)
        return "Wilcoxon signed rank", float(found.statistic), float(found.pvalue)  # type: ignore[attr-defined]
    if (table.nunique(axis=1) == 1).all():
        return "Friedman", 0.0, 1.0  # all arms tie everywhere: the statistic would be 0 / 0
    found = stats.friedmanchisquare(*columns)
    return "Friedman", float(found.statistic), float(found.pvalue)


def _nemenyi(table: pd.DataFrame) -> pd.DataFrame | None:
    if table.shape[1] < 3:
        return None
    import scikit_posthocs

    found = scikit_posthocs.posthoc_nemenyi_friedman(table.to_numpy())
    found.index = found.columns = table.columns
    return found

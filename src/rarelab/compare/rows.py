"""How much a comparison would change with other test rows: one bootstrap for all runs of a split.

Every resample gives each test row an integer weight (multinomial, Efron 1979). All runs are scored
under the same weights, so what two runs share cancels in their difference. Rows that come in groups
(the payments of a customer) are not independent: whole groups are drawn, and all rows of a group
share its weight (the cluster bootstrap, Davison and Hinkley 1997, section 3.8).
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from scipy import stats

from rarelab.data.given import AMOUNT, GROUP
from rarelab.metrics.bootstrap import Cells, Weigh, gain_in_top, weighted_precision
from rarelab.metrics.budget import DAYS, Budget
from rarelab.metrics.recorded import reported
from rarelab.metrics.table import is_at_budget

MOST, FEWEST = 2000, 100
"""Bounds on the number of resamples. 100 estimate a standard error to within 7 %."""

# Row weights to sum: a second or two on one core.
_WORK = 4e9
_CHUNK = 2_000_000
# A level above 0 and below 1; Python writes one below 0.0001 as 5e-05.
_KINDS = "recall|precision|value_recall"
_TOP = re.compile(rf"test/({_KINDS})_at_q/(0\.0*[1-9]\d*|[1-9](?:\.\d+)?e-\d{{2,}})")
_AT_BUDGET = re.compile(rf"test/({_KINDS})_at_budget")


@dataclass(frozen=True)
class TestRows:
    """Raw scores [N, C] and class indices [N] of the test rows of one run, and the C names of the
    classes, if there are several.

    ``groups`` [N]: the number of each row's group, in order of appearance; ``amounts`` [N]: what
    each row is worth; ``days``: how many days the rows span; None where the run has none.
    """

    __test__ = False  # keeps pytest from collecting it

    scores: NDArray[np.float64]
    targets: NDArray[np.int64]
    classes: Sequence[str] = ()
    groups: NDArray[np.int64] | None = None
    amounts: NDArray[np.float64] | None = None
    days: int | None = None

    @property
    def fewest_positives(self) -> int:
        """The positives, or the rows of the rarest class that occurs."""
        return min(int(positives.sum()) for _, positives in self.columns())

    def columns(self) -> Iterator[tuple[NDArray, NDArray]]:
        """Scores and positives, one class against the rest; only class 1 in the binary case."""
        if self.scores.shape[1] == 1:
            yield self.scores[:, 0], self.targets == 1
            return
        for c in range(self.scores.shape[1]):
            if (positives := self.targets == c).any():
                yield self.scores[:, c], positives


@dataclass(frozen=True)
class RowNoise:
    """A mean difference with its noise over test rows (and, with several pairs, over seeds).

    ``error`` is the standard error from both, ``rows_error`` from the rows only; ``p`` and the
    interval agree. ``positives`` is 0 with more than two classes.
    """

    difference: float
    error: float
    rows_error: float
    p: float
    low: float
    high: float
    resamples: int
    rows: int
    positives: int

    def counts(self, rows: str = "") -> str:
        """``5,000 test rows, 65 positive`` with ``rows`` = " test rows"."""
        told = f", {self.positives:,} positive" if self.positives else ""
        return f"{self.rows:,}{rows}{told}"


def read_test_rows(path: Path) -> TestRows:
    """The test rows of a run's ``predictions.parquet``."""
    table = pq.read_table(path, filters=[("split", "==", "test")])
    names = [name for name in table.column_names if name == "score" or name.startswith("score/")]
    scores = np.stack([table[name].to_numpy() for name in names], axis=1)
    classes = [name.removeprefix("score/") for name in names if name != "score"]
    return TestRows(
        scores.astype(np.float64),
        table["target"].to_numpy(),
        classes,
        _numbered(table[GROUP].to_pandas()) if GROUP in table.column_names else None,
        table[AMOUNT].to_numpy() if AMOUNT in table.column_names else None,
        json.loads((table.schema.metadata or {}).get(DAYS.encode(), b"{}")).get("test"),
    )


def _numbered(column: Any) -> NDArray[np.int64]:
    """The groups' numbers; a row without a group is one of its own."""
    codes, values = pd.factorize(column)
    alone = codes < 0
    return np.where(alone, len(values) + np.cumsum(alone) - 1, codes).astype(np.int64)


def metric_of(rows: TestRows, metric: str, budget: Budget | None = None) -> float | None:
    """A ranking metric of the test rows as their run would have recorded it, bit for bit (the
    scores were widened, which keeps their order); None if it is of a class or of amounts that they
    do not have, or at a budget that is not given.

    Raises:
        RequestError: the budget is per day, and the rows have no dates.
    """
    scores, targets = torch.tensor(rows.scores), torch.tensor(rows.targets)
    alerts = budget.alerts(len(targets), rows.days) if budget and is_at_budget(metric) else None
    given = {"alerts": alerts, "amounts": rows.amounts}
    return reported(metric, scores, targets, classes=rows.classes, **given)


def can_be_resampled(metric: str) -> bool:
    """Whether a metric can be computed on weighted test rows."""
    return metric == "test/aucpr" or any(form.fullmatch(metric) for form in (_TOP, _AT_BUDGET))


def resample(
    runs: Sequence[TestRows],
    metric: str,
    *,
    seed: int = 0,
    budget: Budget | None = None,
    most: int = MOST,
) -> NDArray[np.float64]:
    """The metric of each run under the same resamples of the test rows, [runs, resamples].
    ``budget`` is that of a metric at the budget.

    NaN where a resample has no positive. Column 0 is the metric on the original rows. Whole groups
    are drawn if a run has groups.

    Raises ValueError if the runs were not tested on the same rows, group them differently, or one
    lacks their amounts.
    """
    groups = groups_of(runs)
    weighers = [weigher(replace(run, groups=groups), metric, budget) for run in runs]
    return resample_by(runs, weighers, most=most, seed=seed)


def resample_by(
    runs: Sequence[TestRows], weighers: Sequence[Weigh], *, most: int = MOST, seed: int = 0
) -> NDArray[np.float64]:
    """What each run's function makes of the same resamples, at most ``most`` of them, as
    :func:`resample` does: [runs, ..., 1 + resamples]. Weights of groups need not sum to N."""
    targets = runs[0].targets
    if any(not np.array_equal(run.targets, targets) for run in runs):
        raise ValueError("the runs were tested on different rows")
    groups = groups_of(runs)
    work = len(runs) * len(targets) * runs[0].scores.shape[1]
    n = int(np.clip(_WORK / max(work, 1), FEWEST, most))
    parts = [
        np.stack([weigh(weights) for weigh in weighers])
        for weights in _weights(len(targets), n, np.random.default_rng(seed), groups)
    ]
    return np.concatenate(parts, axis=-1)


def groups_of(runs: Sequence[TestRows]) -> NDArray[np.int64] | None:
    """The groups of the rows that the runs share; None if no run has any.

    Raises ValueError if two runs group them differently.
    """
    known = [run.groups for run in runs if run.groups is not None]
    if any(not np.array_equal(groups, known[0]) for groups in known[1:]):
        raise ValueError("the runs group the test rows differently")
    return known[0] if known else None


def row_noise(differences: NDArray, targets: NDArray, *, level: float = 0.95) -> RowNoise:
    """Noise of the differences of pairs [pairs, 1 + resamples]; column 0 is the original rows.

    Several pairs: the variance of their mean is that over seeds, s²/n, plus that over resampled
    rows; the interval is Student's with Satterthwaite's (1946) degrees of freedom, which are n − 1
    where the seeds dominate. One pair: the percentile interval and the matching p-value,
    (1 + resamples on the smaller side of zero) · 2 / (resamples + 1).
    """
    pairs = len(differences)
    mean = differences.mean(axis=0)
    seen, found = float(mean[0]), mean[1:][~np.isnan(mean[1:])]
    rows = float(found.std(ddof=1))
    positives = int((targets == 1).sum()) if targets.max() == 1 else 0
    if pairs == 1:
        low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
        smaller = min(np.sum(found <= 0), np.sum(found >= 0))
        p = min(1.0, 2 * float(1 + smaller) / (len(found) + 1))
        return RowNoise(
            seen, rows, rows, p, float(low), float(high), len(found), len(targets), positives
        )
    seeds = float(differences[:, 0].var(ddof=1)) / pairs
    variance = seeds + rows**2
    error = math.sqrt(variance)
    freedom = _freedom(variance, seeds, pairs)
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * error
    p = 2 * float(stats.t.sf(abs(seen) / error, freedom)) if error else float(seen == 0)
    return RowNoise(
        seen, error, rows, p, seen - half, seen + half, len(found), len(targets), positives
    )


def equivalence_p(noise: RowNoise, margin: float, pairs: int) -> float:
    """p-value against "the difference is ``margin`` or more", over seeds and test rows: two
    one-sided t tests, with the degrees of freedom of :func:`row_noise`."""
    room = margin - abs(noise.difference)
    if not noise.error:
        return float(room <= 0)
    variance = noise.error**2
    freedom = _freedom(variance, max(0.0, variance - noise.rows_error**2), pairs)
    return float(stats.t.sf(room / noise.error, freedom))


def _freedom(variance: float, seeds: float, pairs: int) -> float:
    """Satterthwaite's degrees of freedom; only the seeds' part of the variance is estimated."""
    if pairs < 2 or not seeds:
        return math.inf
    return variance**2 / (seeds**2 / (pairs - 1))


def weigher(run: TestRows, metric: str, budget: Budget | None = None) -> Weigh:
    """A run's metric as a function of row weights; macro-averaged over classes, as recorded.

    With groups, the weights need not sum to N, and the top is that share of their sum.

    Raises ValueError for a metric at the budget without one.
    """
    top, at_budget = _TOP.fullmatch(metric), _AT_BUDGET.fullmatch(metric)
    if not (found := top or at_budget):
        parts = [_average_precision(*column) for column in run.columns()]
    else:
        kind, varies = found[1], run.groups is not None
        if top:
            share = Fraction(top[2])
        elif budget is None:
            raise ValueError(f"{metric} needs a budget")
        else:
            share = Fraction(budget.alerts(len(run.targets), run.days), len(run.targets))
        size = math.ceil(share * len(run.targets))
        options = {"of_size": kind == "precision", "share": share if varies else None}
        parts = [
            gain_in_top(scores, _gain(run, positives, kind), size, **options)
            for scores, positives in run.columns()
        ]

    def macro(weights: NDArray) -> NDArray[np.float64]:
        values = np.stack([part(weights) for part in parts])
        known = ~np.isnan(values)
        total = np.where(known, values, 0.0).sum(axis=0)
        count = known.sum(axis=0)
        return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)

    return macro


def _gain(run: TestRows, positives: NDArray, kind: str) -> NDArray[np.float64]:
    """What finding each row gains: 1 for a positive, or its amount."""
    if kind != "value_recall":
        return positives.astype(np.float64)
    if run.amounts is None:
        raise ValueError("not every run kept the amounts of its test rows")
    return np.where(positives, run.amounts, 0.0)


def _average_precision(scores: NDArray, positives: NDArray) -> Weigh:
    members = Cells(scores, positives).members()

    def weigh(weights: NDArray) -> NDArray[np.float64]:
        counts = (members @ weights).T
        return weighted_precision(counts[:, 0:-1:2], counts[:, 1:-1:2])

    return weigh


def _weights(
    rows: int, n: int, rng: np.random.Generator, groups: NDArray[np.int64] | None = None
) -> Iterator[NDArray[np.float32]]:
    """Row weights [rows, B] in chunks: first all ones, then ``n`` resamples, of groups if given."""
    yield np.ones((rows, 1), dtype=np.float32)
    units = rows if groups is None else int(groups.max()) + 1
    step = max(1, _CHUNK // rows)
    for start in range(0, n, step):
        draws = (rng.integers(0, units, size=units) for _ in range(min(step, n - start)))
        counted = np.stack([np.bincount(draw, minlength=units) for draw in draws])
        if groups is not None:
            counted = counted[:, groups]
        yield np.ascontiguousarray(counted.T, dtype=np.float32)

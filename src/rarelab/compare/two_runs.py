"""One run against another, over resampled test rows."""

from dataclasses import dataclass
from typing import Any

from rarelab.compare.contrast import BETTER, NOT_SETTLED, WORSE
from rarelab.compare.rows import (
    RowNoise,
    can_be_resampled,
    groups_of,
    read_test_rows,
    resample,
    row_noise,
)
from rarelab.compare.words import number, p_value, percent
from rarelab.errors import RequestError, nearest
from rarelab.metrics.bootstrap import FEWEST_POSITIVES
from rarelab.metrics.budget import Budget
from rarelab.metrics.table import higher_is_better, is_at_budget
from rarelab.records.load import Records, Run
from rarelab.records.names import labels, printable


@dataclass(frozen=True)
class Pair:
    """The first and the second run's names and values, and the second's difference from the
    first. ``groups``: how many groups the test rows come in, if they do."""

    runs: tuple[str, str]
    names: tuple[str, str]
    values: tuple[float, float]
    metric: str
    level: float
    noise: RowNoise
    verdict: str
    budget: Budget | None = None
    groups: int | None = None

    def flat(self) -> list[dict[str, Any]]:
        """A flat record per run, unrounded; the first has no difference."""
        first, second = (
            {"arm": name, "run": run, "metric": self.metric, "value": value}
            for name, run, value in zip(self.names, self.runs, self.values, strict=True)
        )
        noise = self.noise
        return [
            first | {"verdict": "baseline"},
            second
            | {"verdict": self.verdict, "difference": noise.difference, "low": noise.low}
            | {"high": noise.high, "level": self.level, "p": noise.p}
            | {"test_rows": noise.rows, "resamples": noise.resamples},
        ]

    def text(self) -> str:
        """The terminal output."""
        noise, names = self.noise, [printable(name) for name in self.names]
        positives = f" ({noise.positives:,} positive)" if noise.positives else ""
        drawn = f"{noise.rows:,} test rows{positives}"
        if self.groups is not None:
            drawn = f"the {self.groups:,} groups of {drawn}"
        low, high = number(noise.low, signed=True), number(noise.high, signed=True)
        at = [] if self.budget is None else [f"  {self.metric}: the budget is {self.budget}"]
        return "\n".join(
            [
                f"{names[1]} against {names[0]}: {self.verdict}",
                f"  {self.metric}  {number(self.values[1])} against {number(self.values[0])}: "
                f"{number(noise.difference, signed=True)} [{low}, {high}] "
                f"({percent(self.level)}), {p_value(noise.p)}",
                f"  paired bootstrap over {drawn}, {noise.resamples:,} resamples",
                "  this is about these two trained models on rows like these; comparing their "
                "configurations takes several seeds",
                *at,
            ]
        )


def compare_pair(
    records: Records,
    first: Run,
    second: Run,
    metric: str,
    level: float,
    budget: Budget | None = None,
) -> Pair:
    """Compare ``second`` with ``first`` by a paired bootstrap over test rows; ``budget`` is that of
    a metric at the budget.

    Raises:
        RequestError: if their test rows differ or are gone, or the metric cannot be resampled.
    """
    if not can_be_resampled(metric):
        kinds = [f"test/{m}_at_" for m in ("recall", "precision")]
        known = [*(f"{kind}{end}" for kind in kinds for end in ("q/0.005", "budget")), "test/aucpr"]
        raise RequestError(
            f"metric={metric}: two runs are compared on resampled test rows, expected test/aucpr, "
            f"test/recall_at_q/..., test/precision_at_q/... or these at_budget; "
            f"{nearest(metric, known)}"
        )
    rows = []
    for run in (first, second):
        path = records.file(run, "predictions.parquet")
        if path is None:
            raise RequestError(f"{run.run_id}: it has no predictions.parquet to compare")
        rows.append(read_test_rows(path))
    if rows[0].fewest_positives < FEWEST_POSITIVES:
        raise RequestError(
            f"runs: their test rows have {rows[0].fewest_positives} positives, but resampling takes"
            f" at least {FEWEST_POSITIVES}"
        )
    try:
        values = resample(rows, metric, budget=budget)
    except RequestError:
        raise
    except ValueError as error:
        raise RequestError(f"runs: {error}, so they cannot be paired") from error
    noise = row_noise(values[1:] - values[:1], rows[0].targets, level=level)
    verdict = NOT_SETTLED
    if noise.p <= 1 - level:
        good = (noise.difference > 0) == higher_is_better(metric)
        verdict = BETTER if good else WORSE
    groups = groups_of(rows)
    one, other = _names(first, second)
    return Pair(
        runs=(first.run_id, second.run_id),
        names=(one, other),
        values=(float(values[0, 0]), float(values[1, 0])),
        metric=metric,
        level=level,
        noise=noise,
        verdict=verdict,
        budget=budget if is_at_budget(metric) else None,
        groups=None if groups is None else int(groups.max()) + 1,
    )


def _names(first: Run, second: Run) -> list[str]:
    told = labels([first.params, second.params])
    if len(set(told)) == 1:
        return [first.run_id[:8], second.run_id[:8]]
    return [f"{name} ({run.run_id[:8]})" for name, run in zip(told, (first, second), strict=True)]

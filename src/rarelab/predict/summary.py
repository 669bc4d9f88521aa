"""What `rarelab predict` says at the end: rows without a score, alerts, and drift."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from rarelab.metrics.budget import Budget
from rarelab.metrics.thresholds import Threshold
from rarelab.predict.scorer import Scorer, score_columns
from rarelab.predict.table import Scored, ScoreTable
from rarelab.quoting import override

_SHOWN = 5


def first_line(scored: Scored, file: Path, run: str, output: Path | None) -> str:
    """How many rows of the file have a score, by which run, and where they are."""
    where = "standard output" if output is None else output
    count = f"{len(scored):,} rows"
    if len(scored.bad):
        count = f"{len(scored) - len(scored.bad):,} of {count}"
    return f"scored {count} of {file.name} with {run}: {where}"


def bad_rows(scored: Scored) -> Iterator[str]:
    """How many rows have no score, and the first few of them with column and value."""
    count = len(scored.bad)
    if count:
        shown = "; ".join(map(str, scored.first[:_SHOWN]))
        more = f"; and {count - _SHOWN:,} more" if count > _SHOWN else ""
        rows = "1 row has" if count == 1 else f"{count:,} rows have"
        yield f"warning: {rows} no score (see the column status): {shown}{more}"


def ignored_columns(ignored: Sequence[str]) -> Iterator[str]:
    """The columns that training did not have, with the setting that says so beforehand."""
    if len(ignored) == 1:
        yield (
            f"note: column {ignored[0]!r} was not there in training and is ignored"
            f" ({override('drop', ignored)} leaves it out)"
        )
    elif ignored:
        names = ", ".join(map(repr, ignored[:_SHOWN]))
        more = f" and {len(ignored) - _SHOWN} more" if len(ignored) > _SHOWN else ""
        yield (
            f"note: columns {names}{more} were not there in training and are ignored"
            f" ({override('drop', ignored)} leaves them out)"
        )


def alerts(
    scored: Scored, table: ScoreTable, cut: float | None, threshold: Threshold | None
) -> Iterator[str]:
    """The threshold, where it comes from, and how many rows reach it, here and on validation."""
    if cut is None:
        return
    rule = table.request.rule
    if threshold is not None and rule is not None:
        yield (
            f"alert {rule.sentence()}: {_at(threshold.value)},"
            f" chosen on validation ({threshold.alerts:,} of its {threshold.rows:,} rows,"
            f" {threshold.hits:,} of its {threshold.positives:,} positives)"
        )
        yield (
            f"on validation: precision {_share(threshold.precision, threshold.precision_interval)},"
            f" recall {_share(threshold.recall, threshold.recall_interval)}; exact 95 % intervals"
        )
    elif table.request.alerts is not None:
        yield f"alert on the {table.request.alerts:,} highest scores of this file: {_at(cut)}"
    else:
        yield f"alert where the run's costs are lowest on validation: {_at(cut)}"
    found = scored.found()[:, 0]
    count = int((found >= cut).sum())
    line = f"{count:,} of {len(found):,} rows alert ({count / len(found):.3%}"
    if table.scorer.validation is not None:
        line += f"; validation {(table.scorer.validation[0] >= cut).mean():.3%}"
    yield f"{line})"


def own_budget(budget: Budget | None) -> Iterator[str]:
    """Where the budget comes from, if the run has it and the request named none."""
    if budget is not None:
        yield f"{budget} is the budget that the run was trained at; budget=none writes no alerts"


def _share(share: float, interval: tuple[float, float]) -> str:
    if share != share:
        return "undefined"
    low, high = interval
    return f"{share:.3f} ({low:.3f} to {high:.3f})"


def _at(cut: float) -> str:
    return "no row" if cut == np.inf else "every row" if cut == -np.inf else f"score >= {cut:.6g}"


def drift(scored: Scored, scorer: Scorer) -> Iterator[str]:
    """The mean score beside validation's, and how the columns differ from training's."""
    found = scored.found().mean(axis=0, dtype=np.float64)
    if scorer.validation is not None:
        yield (
            f"mean score {found[0]:.4g} (validation"
            f" {scorer.validation[0].mean(dtype=np.float64):.4g})"
        )
    else:
        names = score_columns(scorer.classes)
        yield "mean " + ", ".join(f"{n} {m:.4g}" for n, m in zip(names, found, strict=True))
    if scored.drift is not None:
        yield from (f"drift: {line}" for line in scored.drift.lines())

"""The sweep's result: mean and spread over the seeds and splits of each arm, overlaid curves."""

import csv
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rarelab.config.groups import OWN
from rarelab.metrics.table import Place, shown
from rarelab.records.names import labels
from rarelab.sweep.job import Job, Result, arm_parameters, is_trial

_SPLIT = "dataset.split_seed"
_REPEATED = (_SPLIT, "seed", *OWN)


@dataclass(frozen=True)
class Arm:
    """Jobs that differ only in seed and split: the results of the successful ones."""

    label: str
    results: list[Result]
    missing: int
    splits: int = 1

    def values(self, metric: str) -> list[float]:
        found = (result.metrics.get(metric, math.nan) for result in self.results)
        return [value for value in found if math.isfinite(value)]

    def mean(self, metric: str) -> float:
        values = self.values(metric)
        return statistics.fmean(values) if values else math.nan

    def deviation(self, metric: str) -> float:
        """The standard deviation over the runs (n - 1); NaN for fewer than two."""
        values = self.values(metric)
        return statistics.stdev(values) if len(values) > 1 else math.nan


def arms(jobs: Sequence[Job], results: Mapping[int, Result]) -> list[Arm]:
    """The arms of a sweep in plan order, without a contest's trials; ``results`` by job number."""
    groups: dict[str, list[Job]] = {}
    for job in [job for job in jobs if not is_trial(job)]:
        key = json.dumps(_without_repetition(arm_parameters(job)), sort_keys=True)
        groups.setdefault(key, []).append(job)
    names = labels([_without_repetition(arm_parameters(group[0])) for group in groups.values()])
    made = []
    for name, group in zip(names, groups.values(), strict=True):
        found = [results[job.number] for job in group if job.number in results]
        well = [result for result in found if result.metrics and not result.failed]
        splits = {arm_parameters(job).get(_SPLIT) for job in group}
        made.append(Arm(name, well, len(group) - len(well), len(splits)))
    return made


def columns(found: Sequence[Arm]) -> list[str]:
    """The metrics of the table, with those that chose the epoch of a run."""
    return shown(Place.SWEEP, {key for arm in found for r in arm.results for key in r.metrics})


def _without_repetition(params: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in params.items() if key not in _REPEATED}


def table_text(found: Sequence[Arm]) -> str:
    """The table for the console."""
    width = max(len("arm"), *(len(arm.label) for arm in found))
    metrics = columns(found)
    head = "".join(f"  {metric:>{_width(metric)}}" for metric in metrics)
    rows = [_line(arm, width, metrics) for arm in found]
    lines = [f"{'arm':<{width}}    n  missing{head}", *rows]
    over = "seeds and splits" if any(arm.splits > 1 for arm in found) else "seeds"
    return "\n".join([*lines, f"mean ± standard deviation over {over}"])


def _width(metric: str) -> int:
    return max(24, len(metric))


def _line(arm: Arm, width: int, metrics: Sequence[str]) -> str:
    cells = "".join(f"  {_cell(arm, metric):>{_width(metric)}}" for metric in metrics)
    return f"{arm.label:<{width}}  {len(arm.results):>3}  {arm.missing:>7}{cells}"


def _cell(arm: Arm, metric: str) -> str:
    values = arm.values(metric)
    if not values:
        return "-"
    spread = f" ± {arm.deviation(metric):.4f}" if len(values) > 1 else ""
    return f"{arm.mean(metric):.4f}{spread}"


def table_metrics(found: Sequence[Arm]) -> dict[str, float]:
    """The table as metrics of the sweep's run: ``<metric>/mean/<arm>``, ``.../sd/...``, ``n/<arm>``
    and ``missing/<arm>``. Metrics that no run has are left out."""
    metrics: dict[str, float] = {}
    for arm in found:
        metrics[f"n/{arm.label}"] = float(len(arm.results))
        metrics[f"missing/{arm.label}"] = float(arm.missing)
        for metric in columns(found):
            metrics[f"{metric}/mean/{arm.label}"] = arm.mean(metric)
            metrics[f"{metric}/sd/{arm.label}"] = arm.deviation(metric)
    return {key: value for key, value in metrics.items() if not math.isnan(value)}


def write_table(path: Path, found: Sequence[Arm]) -> None:
    """The table as CSV."""
    metrics = columns(found)
    head = [f"{metric} {what}" for metric in metrics for what in ("mean", "sd")]
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["arm", "n", "missing", *head])
        for arm in found:
            cells = [f(m) for m in metrics for f in (arm.mean, arm.deviation)]
            rows.writerow([arm.label, len(arm.results), arm.missing, *cells])


def write_figure(directory: Path, found: Sequence[Arm]) -> list[Path]:
    """``figures/recall_at_quantile.*``: each arm's mean curve and the range over its runs.

    Runs without curves on this disk are left out; with no curves at all there is no figure.
    """
    curves = {arm.label: [c for r in arm.results if (c := _curves(r)) is not None] for arm in found}
    drawn = {label: runs for label, runs in curves.items() if runs}
    if not drawn:
        return []
    from rarelab.figures.arms import recall_at_quantile, save

    budgets = {_budget(curves) for runs in drawn.values() for curves in runs}
    figure = recall_at_quantile(drawn, budget=budgets.pop() if len(budgets) == 1 else None)
    return save(figure, directory / "figures", "recall_at_quantile")


def _budget(curves: Mapping[str, Any]) -> float | None:
    """The share of the rows that a run's budget allows."""
    asked = curves.get("at_budget")
    return asked[0]["share"] if asked else None


def _curves(result: Result) -> Any:
    try:
        return json.loads((Path(result.directory) / "curves.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None

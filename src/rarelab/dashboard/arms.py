"""The tags by which the dashboard groups runs: an arm with its mean and spread over seeds.

MLflow's table shows a metric with all its digits, and a group's mean without its spread. So what
it shows here are tags: a group's name holds the arm's result, and a run's own results have four
digits.
"""

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

from rarelab.dashboard.view import ARM, ORDER, metric_columns
from rarelab.records.load import VERDICT, Run
from rarelab.records.names import labels

TRIALS = "- trials, which only chose the values of an arm"
"""The group of a contest's trials, below all arms."""


def arms(runs: Sequence[Run]) -> dict[str, str]:
    """For each run, by id, its arm: the mean and standard deviation of test AUCPR over its runs,
    and what sets it apart. Sorted in reverse, these names put the best arm first."""
    members: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        members[json.dumps(run.data | run.arm, sort_keys=True)].append(run)
    named = labels([found[0].data | found[0].arm for found in members.values()])
    return {
        run.run_id: _name(label, found)
        for label, found in zip(named, members.values(), strict=True)
        for run in found
    }


def sweeps(parents: Sequence[Run]) -> dict[str, str]:
    """For each sweep's own run, by id, its verdict; sorted in reverse, it is above the arms."""
    none = "none yet (rarelab compare)"
    return {run.run_id: f"verdict: {run.tags.get(VERDICT, none)}" for run in parents}


def new_tags(runs: Sequence[Run], names: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The tags to set, by run id: a run's group, and its results in four digits, where they are
    new or have changed."""
    found, results = {}, metric_columns(runs)
    for run in runs:
        wanted = {ARM: names[run.run_id]}
        wanted |= {k: _digits(run.metrics[k]) for k in results if k in run.metrics}
        found[run.run_id] = dict(wanted.items() - run.tags.items())
    return {run_id: tags for run_id, tags in found.items() if tags}


def _name(label: str, runs: Sequence[Run]) -> str:
    values = [run.metrics[ORDER] for run in runs if math.isfinite(run.metrics.get(ORDER, math.nan))]
    if not values:
        return f"- {label} (no result yet)"
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    counted = "1 run" if len(values) == 1 else f"{len(values)} runs"
    return f"{statistics.fmean(values):.4f}{spread} {label} (test AUCPR, {counted})"


def _digits(value: float) -> str:
    return f"{value:.0f}" if value.is_integer() and abs(value) > 1 else f"{value:.4f}"

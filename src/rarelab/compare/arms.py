"""Group runs into arms. Unusable runs are noted, never averaged over silently."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rarelab.errors import RequestError, nearest
from rarelab.metrics.rankings import is_ranking, reporting
from rarelab.metrics.table import class_view
from rarelab.metrics.table import higher_is_better as higher_is_better
from rarelab.records.load import Run
from rarelab.records.names import BASELINES, differences, labels, printable
from rarelab.records.searched import TRIALS, choices

_SHOWN = 8
_FEW = 3


class Unit(NamedTuple):
    """What two runs must share to form a pair: the split seed and the seed."""

    split: int | None
    seed: int

    def __str__(self) -> str:
        return (
            f"seed {self.seed}" if self.split is None else f"seed {self.seed} (split {self.split})"
        )


@dataclass(frozen=True)
class Arm:
    """The runs of one configuration on one data set, one per unit."""

    label: str
    configuration: Mapping[str, str] = field(repr=False)
    runs: Mapping[Unit, Run] = field(repr=False)


@dataclass(frozen=True)
class DataSet:
    """The arms on one data set, sorted by label, and notes on what was left out and why."""

    label: str
    arms: Sequence[Arm]
    notes: Sequence[str]

    def arm(self, label: str) -> Arm:
        return next(arm for arm in self.arms if arm.label == label)


def group(runs: Sequence[Run], metric: str) -> list[DataSet]:
    """The data sets of an experiment with their arms; an arm has the same label on all of them.

    Raises:
        RequestError: if no run has the metric.
    """
    if not any(metric in run.metrics for run in runs):
        raise RequestError(f"metric={metric}: {_why_none(runs, metric)}")
    arm_labels = {
        run.run_id: label
        for peers in _peers(runs)
        for run, label in zip(peers, labels([run.arm for run in peers]), strict=True)
    }
    by_data: dict[str, list[Run]] = defaultdict(list)
    for run, label in zip(runs, _data_labels(runs), strict=True):
        by_data[label].append(run)
    return [
        _data_set(label, by_data[label], arm_labels, metric)
        for label in sorted(by_data, key=_natural)
    ]


def _why_none(runs: Sequence[Run], metric: str) -> str:
    known = {key for run in runs for key in run.metrics if key.startswith(("test/", "best/"))}
    known = known or {key for run in runs for key in run.metrics}
    try:
        reporting(metric, known)
    except ValueError as error:
        return str(error)
    if view := class_view(metric):
        views = {own for key in known if (own := class_view(key))}
        known |= {f"{own}{metric.removeprefix(view)}" for own in views}
    return f"no run has it, or the predictions to compute it from; {nearest(metric, known)}"


def _natural(label: str) -> list[tuple[float, str]]:
    """Sort key that compares the numbers in a label by value: batch 512 before batch 2048."""
    parts = re.split(r"(\d+(?:\.\d+)?)", label)
    return [(float(p), "") if place % 2 else (-1.0, p) for place, p in enumerate(parts)]


def _peers(runs: Sequence[Run]) -> list[list[Run]]:
    """Groups of runs that are compared with each other: all runs, unless ``within`` separates
    them. An arm's label shows what differs within its group."""
    found: dict[tuple[str | None, ...], list[Run]] = defaultdict(list)
    for run in runs:
        found[tuple(run.params.get(key) for key in run.within)].append(run)
    return list(found.values())


def find_baseline(runs: Sequence[Run], name: str | None) -> str:
    """Resolve a baseline name to an arm's label. The name is a label, ``key=value``, a swept value,
    or several of these separated by spaces. None picks BCE or cross-entropy if exactly one arm
    matches.

    Raises:
        RequestError: if the name matches no arm, or several.
    """
    every: dict[str, Mapping[str, str]] = {}
    for peers in _peers(runs):
        arms = [run.arm for run in peers]
        every |= zip(labels(arms), differences(arms), strict=True)
    if len(every) < 2:
        raise RequestError(
            f"only one arm ({next(iter(every))}): a comparison needs two configurations"
        )
    for wanted in [name] if name else BASELINES:
        found = [label for label in every if wanted == label] or _matching(every, wanted)
        if len(found) == 1:
            return found[0]
        if len(found) > 1 and (name or _apart(every, found)):
            raise RequestError(
                f"baseline={wanted}: {len(found)} arms match; {_list(found)}{_apart(every, found)}"
            )
    if not name:
        raise RequestError(f"baseline: expected the name of the baseline arm; {_list(every)}")
    values = {value for found in every.values() for value in found.values()}
    raise RequestError(f"baseline={name}: no arm matches; {nearest(name, {*every, *values})}")


def _matching(every: Mapping[str, Mapping[str, str]], wanted: str) -> list[str]:
    """The arms that match every ``key=value`` or value in ``wanted``."""

    def has(found: Mapping[str, str], part: str) -> bool:
        key, equals, value = part.partition("=")
        if not equals:
            return part in found.values()
        return any(value == v and key in (k, k.rpartition(".")[2]) for k, v in found.items())

    return [
        label for label, found in every.items() if all(has(found, part) for part in wanted.split())
    ]


def _apart(every: Mapping[str, Mapping[str, str]], found: Sequence[str]) -> str:
    """What separates these arms, if it is a single key: each may be the baseline of its own."""
    arms = [every[label] for label in found]
    keys = {key for arm in arms for key in arm}
    apart = [key for key in keys if len({arm.get(key) for arm in arms}) > 1]
    return f", or compare within each: within=[{apart[0]}]" if len(apart) == 1 else ""


def _list(names: Iterable[str]) -> str:
    shown = sorted(names)
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return "choose from: " + ", ".join(map(repr, shown[:_SHOWN])) + more


def _data_labels(runs: Sequence[Run]) -> list[str]:
    configurations = [run.data for run in runs]
    found = labels(configurations)
    if len(set(found)) == 1:
        return [printable(run.data.get("dataset", "data")) for run in runs]
    return [label.removeprefix("dataset=") for label in found]


def _data_set(
    label: str, runs: Sequence[Run], arm_labels: Mapping[str, str], metric: str
) -> DataSet:
    members: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        members[arm_labels[run.run_id]].append(run)
    notes: list[str] = []
    arms = [_arm(name, members[name], metric, notes) for name in sorted(members)]
    named = {
        name: {_unit(run) for run in members[name] if _unusable(run, metric)} for name in members
    }
    every = sorted({unit for arm in arms for unit in arm.runs}, key=_sortable)
    for arm in arms:
        missing = [unit for unit in every if unit not in arm.runs and unit not in named[arm.label]]
        if missing and arm.runs:
            notes.append(f"{arm.label}: no usable run for {_some(missing)}")
    return DataSet(label, arms, notes)


def _arm(label: str, runs: Sequence[Run], metric: str, notes: list[str]) -> Arm:
    """The newest run per unit among those that finished and have the metric."""
    usable: dict[Unit, list[Run]] = defaultdict(list)
    why: dict[str, list[str]] = defaultdict(list)
    for run in runs:
        reason = _unusable(run, metric)
        if reason:
            why[reason].append(str(_unit(run)) if run.seed is not None else run.name)
        else:
            usable[_unit(run)].append(run)
    for reason, units in why.items():
        notes.append(f"{label}: {reason}, left out: {_some(units)}")
    for unit, several in usable.items():
        if len(several) > 1:
            values = {run.metrics[metric] for run in several}
            said = "with equal values" if len(values) == 1 else "with different values"
            notes.append(
                f"{label}: {unit} was recorded {len(several)} times, {said}; "
                f"the newest is used ({several[-1].run_id})"
            )
    codes = {run.tags.get("rarelab.code") for several in usable.values() for run in several[-1:]}
    if len(codes) > 1:
        notes.append(f"{label}: its runs were trained with {len(codes)} versions of the code")
    if any(several[-1].every_seed for several in usable.values()):
        notes.append(f"{label}: a model without a seed, paired with every seed of its split")
    chosen = {unit: usable[unit][-1] for unit in sorted(usable, key=_sortable)}
    notes += [f"{label}: {told}" for told in [_choices(list(chosen.values()))] if told]
    last = sum(map(_best_at_the_end, chosen.values()))
    if 2 * last > len(chosen):
        unit, key = _longest(runs[0])
        notes.append(
            f"{label}: perhaps trained too short: the best {unit} was the last one in {last} of "
            f"{len(chosen)} runs; raise {key}"
        )
    return Arm(label, runs[0].arm, chosen)


def _choices(runs: Sequence[Run]) -> str:
    """What a contest's runs of an arm chose; "" if their values were all given."""
    found = choices([run.params for run in runs], runs[0].searched) if runs else {}
    if not found:
        return ""
    told = ", ".join(f"{key} {_range(values)}" for key, values in found.items())
    return f"chosen by a search of {runs[0].searched.get(TRIALS)} trials on each split: {told}"


def _range(values: Sequence[str]) -> str:
    """The values themselves, or the lowest and the highest of many numbers."""
    if len(values) <= _FEW:
        return " | ".join(values)
    try:
        ordered = sorted(values, key=float)
    except ValueError:
        return " | ".join(values)
    return f"{ordered[0]} to {ordered[-1]}"


def _unusable(run: Run, metric: str) -> str:
    if run.status != "done":
        return {"error": "failed", "running": "still running"}.get(run.status, run.status)
    if run.seed is None:
        return "no recorded seed"
    if metric not in run.metrics:
        return f"no {metric}{', nor predictions to compute it from' if is_ranking(metric) else ''}"
    return "" if math.isfinite(run.metrics[metric]) else f"{metric} is not finite"


def _best_at_the_end(run: Run) -> bool:
    """Whether validation chose the last of several epochs or rounds."""
    count = run.params.get(_longest(run)[1], "")
    if not count.isdecimal() or int(count) == 1:
        return False
    return run.metrics.get("best/epoch") == int(count) - 1  # counted from 0


def _longest(run: Run) -> tuple[str, str]:
    """What ``best/epoch`` counts, and the key of how many there are at most."""
    rounds = "model.num_iterations"
    return ("round", rounds) if rounds in run.params else ("epoch", "trainer.max_epochs")


def _unit(run: Run) -> Unit:
    return Unit(run.split_seed, run.seed if run.seed is not None else -1)


def _sortable(unit: Unit) -> tuple[int, int]:
    return (-1 if unit.split is None else unit.split, unit.seed)


def _some(units: Sequence[object]) -> str:
    shown = ", ".join(map(str, units[:_SHOWN]))
    return f"{shown} and {len(units) - _SHOWN} more" if len(units) > _SHOWN else shown

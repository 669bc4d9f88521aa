"""Which figures a study has, and where they are written."""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from rarelab.compare import effects
from rarelab.compare.arms import Arm, DataSet
from rarelab.compare.contrast import Finding, by_difference
from rarelab.compare.curves import MOST, best_curves, every_arm, read_all
from rarelab.compare.study import Study, reader
from rarelab.errors import RequestError, nearest
from rarelab.figures.style import save
from rarelab.records.load import Records, Run
from rarelab.records.names import differences, labels


@dataclass(frozen=True)
class Picture:
    """A figure on disk (``svg``, with .pdf and .png beside it); the title is its alt text too."""

    title: str
    svg: Path
    leads: bool = False
    """Whether it is on the report's first screen."""


def draw(study: Study, records: Records, folder: Path) -> list[Picture]:
    """Draw into ``folder`` what the records allow; a figure whose files are missing is left out."""
    pictures: list[Picture] = []
    read = reader(records)

    def add(name: str, title: str, figure: Figure, *, leads: bool = False) -> None:
        written = save(figure, folder, name)
        pictures.append(Picture(title, written[0], leads))

    for place, finding in enumerate(study.findings):
        data = next(data for data in study.data_sets if data.label == finding.data)
        suffix = _suffix(finding.data, place) if len(study.findings) > 1 else ""
        arms = _shown(data, finding)
        curves = best_curves(study, finding, data, records, read)
        if not curves or len(arms) > MOST:
            curves += every_arm(study, finding, arms, records)
        for each in curves[:1]:
            add(f"{each.name}{suffix}", each.title, each.figure, leads=True)
        add(f"differences{suffix}", f"{finding.data}: differences", effects.differences(finding))
        for each in curves[1:]:
            add(f"{each.name}{suffix}", each.title, each.figure)
        histories = read_all(arms, lambda run: _history(records.file(run, "history.jsonl")))
        if histories:
            add(f"training{suffix}", f"{finding.data}: training", effects.training(histories))
        for key, points in swept_numbers(data, study.question.metric).items():
            figure = effects.sensitivity(key, points, study.question.metric)
            add(f"sensitivity-{_plain(key)}{suffix}", f"{finding.data}: what {key} does", figure)
    if study.across and study.across.post_hoc is not None:
        found = study.across
        figure = effects.critical_difference(
            found.ranks, found.post_hoc, study.question.alpha, found.data_sets
        )
        add("critical_difference", "average ranks over data sets", figure)
    return pictures


def swept_numbers(data: DataSet, metric: str) -> dict[str, dict[str, dict[float, list[float]]]]:
    """For each swept number the runs' metric, by the other settings that differ and by value."""
    arms = [arm for arm in data.arms if arm.runs]
    configurations = [arm.configuration for arm in arms]
    varying = {key for found in differences(configurations) for key in found}
    swept: dict[str, dict[str, dict[float, list[float]]]] = {}
    for key in sorted(varying):
        having = [arm for arm in arms if _as_float(arm.configuration.get(key)) is not None]
        if len({arm.configuration[key] for arm in having}) < 2:
            continue
        others = [{k: v for k, v in a.configuration.items() if k != key} for a in having]
        lines: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
        for arm, line in zip(having, labels(others), strict=True):
            value = float(arm.configuration[key])
            lines[line][value] += [run.metrics[metric] for run in arm.runs.values()]
        swept[key] = {line: dict(points) for line, points in lines.items()}
    return swept


def numbers_over(runs: Sequence[Run], key: str, metric: str) -> dict[str, dict[float, list[float]]]:
    """A metric against one number of the configuration (of the arm or the data): by the other
    settings that differ, and by value. Runs without the number or the metric are left out.

    Raises:
        RequestError: no run has the number.
    """
    having = [r for r in runs if _as_float(r.params.get(key)) is not None and metric in r.metrics]
    if not having:
        known = {k for run in runs for k, v in run.params.items() if _as_float(v) is not None}
        raise RequestError(f"{key}: no run has a number for this key; {nearest(key, known)}")
    others = [{k: v for k, v in {**r.data, **r.arm}.items() if k != key} for r in having]
    lines: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run, line in zip(having, labels(others), strict=True):
        lines[line][float(run.params[key])].append(run.metrics[metric])
    return {line: dict(points) for line, points in sorted(lines.items())}


def _shown(data: DataSet, finding: Finding) -> list[Arm]:
    """The baseline, then the other arms, largest difference first."""
    ordered = [finding.baseline.label, *(c.arm.label for c in by_difference(finding.contrasts))]
    return [data.arm(label) for label in ordered]


def _history(path: Path | None) -> effects.History | None:
    if path is None:
        return None
    lines = path.read_text(encoding="utf-8").splitlines()
    return [row for line in lines if (row := json.loads(line))["metrics"]]


def _as_float(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def _suffix(label: str, place: int) -> str:
    return f"-{place + 1}-{_plain(label)}"


def _plain(text: str) -> str:
    return re.sub(r"[^\w.\-]+", "_", text)[:60]

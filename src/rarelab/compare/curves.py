"""The figures of curves in a report: recall at the budget, precision and recall, reliability."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rarelab.compare import words
from rarelab.compare.arms import Arm, DataSet, Unit
from rarelab.compare.bands import bands, reliability_of
from rarelab.compare.contrast import Finding
from rarelab.compare.decision import best_first, short_names
from rarelab.compare.noise import ReadRows
from rarelab.compare.pairs import FIXED, SPLITS
from rarelab.compare.rows import TestRows
from rarelab.compare.study import Study
from rarelab.figures import arms as figures
from rarelab.figures.style import MAX_ARMS
from rarelab.metrics.calibration import restored
from rarelab.metrics.exact import probabilities_of
from rarelab.records.load import Records, Run

MOST = 4
"""Arms whose curves have intervals: the baseline and the best others."""

# Inches of the first screen's picture: of one data set, and where there are several.
_LEAD, _LEADS = (10.8, 4.1), (8.4, 4.2)
_AROUND = {FIXED: "test rows and seeds", SPLITS: "splits"}


@dataclass(frozen=True)
class Curves:
    """A figure with the name of its file and its title."""

    name: str
    title: str
    figure: Figure


def best_curves(
    study: Study, finding: Finding, data: DataSet, records: Records, read: ReadRows
) -> list[Curves]:
    """The curves of the baseline and the best other arms with their intervals, that of recall at
    the budget first; none for several classes, or where the runs kept no predictions."""
    budget, level = study.share, finding.question.level
    arms = _best(data, finding)
    rows = {name: _rows(arm, read) for name, arm in arms.items()}
    rows = {name: own for name, own in rows.items() if own}
    found = bands(rows, budget, varied=finding.varied, ratio=finding.ratio, level=level)
    if found is None:
        return []
    rates = [(run.targets == 1).mean() for own in rows.values() for run in own.values()]
    prevalence = float(np.mean(rates))
    around = f"bands: {words.percent(level)} intervals over {_AROUND.get(finding.varied, 'runs')}"
    size = _LEAD if len(study.findings) == 1 else _LEADS
    tested = min(len(run.targets) for own in rows.values() for run in own.values())
    recall = figures.recall_band(
        found.recall, budget=budget, prevalence=prevalence, rows=tested, size=size
    )
    title = f"{data.label}: precision and recall, test rows"
    precision = figures.precision_band(found.precision, prevalence=prevalence, title=title)
    trusted = f"{data.label}: reliability of the probabilities, test rows"
    points = {name: _reliability(own, arms[name], records) for name, own in rows.items()}
    return [
        Curves(
            "recall_at_budget",
            f"{data.label}: positives caught by share of the test rows flagged; {around}",
            recall,
        ),
        Curves("precision_by_recall", f"{title}; {around}", precision),
        Curves(
            "reliability",
            f"{trusted}; bands: 95 % intervals over test rows",
            figures.reliability(points, title=trusted),
        ),
    ]


def every_arm(
    study: Study, finding: Finding, arms: Sequence[Arm], records: Records
) -> list[Curves]:
    """The curves that all arms recorded, with the range over their runs."""
    found = read_all(arms, lambda run: records.curves(run))
    if not found:
        return []
    recall = f"{finding.data}: recall at an alert budget, test rows"
    precision = f"{finding.data}: precision and recall, test rows"
    budget = study.share
    return [
        Curves(
            "recall_at_quantile",
            recall,
            figures.recall_at_quantile(found, title=recall, budget=budget),
        ),
        Curves("precision_recall", precision, figures.precision_recall(found, title=precision)),
    ]


def read_all(arms: Sequence[Arm], read: Callable[[Run], Any]) -> dict[str, list[Any]]:
    """What ``read`` returns for each arm's runs; files are opened only for arms that are drawn."""
    found: dict[str, list[Any]] = {}
    for arm in arms[:MAX_ARMS]:
        if contents := [c for run in arm.runs.values() if (c := read(run)) is not None]:
            found[arm.label] = contents
    return found


def _best(data: DataSet, finding: Finding) -> dict[str, Arm]:
    """The baseline and the best other arms, by the names they are spoken of."""
    names = short_names(finding)
    labels = [finding.baseline.label, *(c.arm.label for c in best_first(finding))]
    return {names[label]: data.arm(label) for label in labels[:MOST]}


def _rows(arm: Arm, read: ReadRows) -> dict[Unit, TestRows]:
    return {unit: rows for unit, run in arm.runs.items() if (rows := read(run)) is not None}


def _reliability(
    rows: Mapping[Unit, TestRows], arm: Arm, records: Records
) -> dict[str, list[float]]:
    """The points of an arm's probabilities, calibrated where its runs calibrate."""
    given = [
        (_probabilities(r, arm.runs[unit], records), r.targets == 1) for unit, r in rows.items()
    ]
    return reliability_of(given)


def _probabilities(rows: TestRows, run: Run, records: Records) -> NDArray[np.float64]:
    path, logits = records.file(run, "calibration.json"), torch.tensor(rows.scores)
    if path is None:
        return probabilities_of(logits)[:, 0].numpy()
    return restored(json.loads(path.read_text(encoding="utf-8")))(logits)[:, 0].numpy()

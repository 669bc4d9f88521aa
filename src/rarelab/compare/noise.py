"""Test-row noise, computed from predictions or read from a file computed from them earlier.

Prediction files are too large to commit with a study; the noise itself is one line per arm.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from rarelab.compare.arms import DataSet
from rarelab.compare.contrast import Finding, NoiseOfRows, Question
from rarelab.compare.pairs import Pair
from rarelab.compare.rows import RowNoise, TestRows, can_be_resampled, resample, row_noise
from rarelab.records.load import Run

ReadRows = Callable[[Run], TestRows | None]

_SAME = 1e-6
_KEYS = ("data", "metric", "baseline", "level", "arm")


def resampled(read_rows: ReadRows) -> NoiseOfRows:
    """Bootstrap over the test rows that ``read_rows`` returns for each run."""

    def noise(
        data: DataSet, pairs: Mapping[str, Sequence[Pair]], question: Question, notes: list[str]
    ) -> Mapping[str, RowNoise]:
        if not can_be_resampled(question.metric):
            notes.append(_seeds_only(question.metric))
            return {}
        return _resampled(pairs, question, read_rows, notes)

    return noise


def kept(path: Path) -> NoiseOfRows:
    """Read what :func:`as_csv` wrote, ignoring lines that do not match the runs' differences.

    A missing file counts as empty.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    lines = list(csv.DictReader(text.splitlines()))

    def noise(
        data: DataSet, pairs: Mapping[str, Sequence[Pair]], question: Question, notes: list[str]
    ) -> Mapping[str, RowNoise]:
        if not can_be_resampled(question.metric):
            notes.append(_seeds_only(question.metric))
            return {}
        asked = (data.label, question.metric, question.baseline, repr(question.level))
        own = {line["arm"]: _of(line) for line in lines if _key(line)[:-1] == asked}
        found = {
            arm: own[arm]
            for arm, several in pairs.items()
            if arm in own and abs(own[arm].difference - _difference(several, question)) <= _SAME
        }
        if len(found) < len(pairs):
            notes.append(
                f"{len(pairs) - len(found)} of {len(pairs)} arms: "
                "test-row noise is not part of the verdict"
            )
        return found

    return noise


def as_csv(findings: Sequence[Finding]) -> str:
    """One line per arm with known test-row noise, in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_KEYS, *(field.name for field in fields(RowNoise))])
    for finding in findings:
        question = finding.question
        for c in finding.contrasts:
            if c.rows is not None:
                key = (finding.data, question.metric, question.baseline, repr(question.level))
                values = [_exact(value) for value in asdict(c.rows).values()]
                writer.writerow([*key, c.arm.label, *values])
    return text.getvalue()


def _exact(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(float(value))


def _of(line: Mapping[str, str]) -> RowNoise:
    found: dict[str, Any] = {}
    for field in fields(RowNoise):
        found[field.name] = (int if field.type is int else float)(line[field.name])
    return RowNoise(**found)


def _key(line: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(line[name] for name in _KEYS)


def _difference(pairs: Sequence[Pair], question: Question) -> float:
    metric = question.metric
    return float(np.mean([run.metrics[metric] - base.metrics[metric] for _, base, run in pairs]))


def _seeds_only(metric: str) -> str:
    return f"{metric}: cannot be resampled over test rows; the verdict rests on the seeds only"


def _resampled(
    pairs: Mapping[str, Sequence[Pair]],
    question: Question,
    read_rows: ReadRows,
    notes: list[str],
) -> dict[str, RowNoise]:
    """Test-row noise in each arm's differences, with the same resamples for all."""
    runs = {r.run_id: r for several in pairs.values() for _, *two in several for r in two}
    read = {run_id: rows for run_id, run in runs.items() if (rows := read_rows(run)) is not None}
    if len(read) < len(runs):
        notes.append(
            f"predictions.parquet is missing for {len(runs) - len(read)} of {len(runs)} runs: "
            "test-row noise is not part of their verdict"
        )
    if not read:
        return {}
    try:
        drawn = resample(list(read.values()), question.metric, budget=question.budget)
        values = dict(zip(read, drawn, strict=True))
    except ValueError as error:
        notes.append(f"{error}: test-row noise is not part of the verdict")
        return {}
    wrong = {i for i, v in values.items() if abs(v[0] - runs[i].metrics[question.metric]) > _SAME}
    if wrong:
        notes.append(
            f"{len(wrong)} prediction files do not give the recorded {question.metric} "
            f"({', '.join(sorted(wrong)[:3])}): their test rows are not used"
        )
    usable = values.keys() - wrong
    targets = next(iter(read.values())).targets
    return {
        label: row_noise(
            np.stack([values[run.run_id] - values[base.run_id] for _, base, run in several]),
            targets,
            level=question.level,
        )
        for label, several in pairs.items()
        if several and all({base.run_id, run.run_id} <= usable for _, base, run in several)
    }

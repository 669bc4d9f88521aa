"""Arms against a baseline on one data set: pairs, tests, noise of the test rows, verdicts."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from rarelab.compare import power, statistics
from rarelab.compare.arms import Arm, DataSet, Unit, higher_is_better
from rarelab.compare.load import Run
from rarelab.compare.rows import RowNoise, TestRows, can_be_resampled, resample, row_noise
from rarelab.compare.statistics import PairedTest

BETTER, WORSE = "better", "worse"
NO_DIFFERENCE, TOO_FEW = "no difference shown", "too few seeds to decide"

FIXED, SPLITS, DRAWN, UNKNOWN = "one fixed split", "splits", "drawn anew", "not recorded"
"""What the seeds of a data set vary: training alone, the split too, the data too."""

_DEFAULT_RATIO = 0.25 / 0.60
_SAME = 1e-6

ReadRows = Callable[[Run], TestRows | None]


@dataclass(frozen=True)
class Question:
    """What is asked of every data set."""

    metric: str
    baseline: str
    level: float = 0.95

    @property
    def alpha(self) -> float:
        return 1 - self.level


@dataclass(frozen=True)
class Summary:
    """An arm's own values: Student's interval of their mean."""

    label: str
    n: int
    mean: float
    low: float
    high: float
    spread: float


@dataclass(frozen=True)
class Contrast:
    """One arm against the baseline. Differences are arm minus baseline, in the metric's units.

    ``p`` is the larger of the test's over seeds and (on one fixed split) the one over seeds and
    test rows: a claim must pass both. ``p_holm`` is adjusted for all arms of the data set.
    ``needed``: pairs for a verdict, None if more than 1 000; ``detectable``: the difference that
    so many pairs would have shown four times in five; ``more_rows``: by what factor the test rows
    are too few, where they and not the seeds are what a verdict lacks.
    """

    arm: Summary
    units: Sequence[Unit]
    differences: Sequence[float] = field(repr=False)
    test: PairedTest | None
    rows: RowNoise | None
    p: float
    effect: float
    superiority: float
    p_holm: float = math.nan
    verdict: str = TOO_FEW
    needed: int | None = None
    detectable: float = math.inf
    more_rows: float | None = None


@dataclass(frozen=True)
class Finding:
    """What one data set says."""

    data: str
    question: Question
    baseline: Summary
    contrasts: Sequence[Contrast]
    varied: str
    ratio: float | None
    notes: Sequence[str]

    @property
    def comparisons(self) -> int:
        return len(self.contrasts)


def compare(data: DataSet, question: Question, read_rows: ReadRows) -> Finding | None:
    """Every other arm of a data set against the baseline; None if the baseline has no run there."""
    base = data.arm(question.baseline) if _has(data, question.baseline) else None
    if base is None or not base.runs:
        return None
    others = [arm for arm in data.arms if arm.label != base.label and arm.runs]
    notes = list(data.notes)
    varied = _varied([base, *others])
    ratio = _ratio(base) if varied == SPLITS else None
    pairs = {arm.label: _pairs(base, arm, notes) for arm in others}
    noise: Mapping[str, RowNoise] = {}
    if varied == FIXED:
        noise = _row_noise(pairs, question, read_rows, notes)
    contrasts = [
        _contrast(arm, pairs[arm.label], question, noise.get(arm.label), ratio) for arm in others
    ]
    return Finding(
        data.label,
        question,
        _summary(base, question, ratio),
        _judged(contrasts, question, ratio),
        varied,
        ratio,
        notes,
    )


Pair = tuple[Unit, Run, Run]


def _has(data: DataSet, label: str) -> bool:
    return any(arm.label == label for arm in data.arms)


def _varied(arms: Sequence[Arm]) -> str:
    runs = [run for arm in arms for run in arm.runs.values()]
    digests, splits = {run.digest for run in runs}, {run.split_seed for run in runs}
    if len(splits) > 1 and (len(digests) > 1 or None in digests):
        return SPLITS
    if None in digests:
        return UNKNOWN if None in splits else FIXED
    if len(digests) == 1:
        return FIXED
    # Real data whose rows changed under one split seed overlaps as splits do.
    return DRAWN if None in splits else SPLITS


def _ratio(arm: Arm) -> float:
    """Test rows / training rows, which the correction for overlapping splits needs."""
    for run in arm.runs.values():
        sizes = run.tags.get("rarelab.rows", "").split("/")
        if len(sizes) == 3 and all(size.isdecimal() for size in sizes) and int(sizes[0]):
            return int(sizes[2]) / int(sizes[0])
    return _DEFAULT_RATIO


def _pairs(base: Arm, arm: Arm, notes: list[str]) -> list[Pair]:
    pairs = []
    for unit, run in arm.runs.items():
        if unit not in base.runs:
            continue
        other = base.runs[unit]
        if run.digest and other.digest and run.digest != other.digest:
            notes.append(f"{arm.label}: {unit} saw other rows than {base.label}: no pair")
        else:
            pairs.append((unit, other, run))
    return pairs


def _summary(arm: Arm, question: Question, ratio: float | None) -> Summary:
    values = np.array([run.metrics[question.metric] for run in arm.runs.values()])
    if ratio is not None:
        values = _over_splits(list(arm.runs), values)
    low, high = statistics.mean_interval(values, level=question.level, ratio=ratio)
    spread = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return Summary(arm.label, len(arm.runs), float(values.mean()), low, high, spread)


def _over_splits(units: Sequence[Unit], values: NDArray) -> NDArray:
    """One value per split: seeds on the same split are no splits."""
    found = defaultdict(list)
    for unit, value in zip(units, values, strict=True):
        found[unit.split].append(value)
    return np.array([np.mean(several) for several in found.values()])


def _contrast(
    arm: Arm,
    pairs: Sequence[Pair],
    question: Question,
    noise: RowNoise | None,
    ratio: float | None,
) -> Contrast:
    units = [unit for unit, _, _ in pairs]
    metric = question.metric
    d = np.array([run.metrics[metric] - base.metrics[metric] for _, base, run in pairs])
    if ratio is not None and len(d):
        d = _over_splits(units, d)
    test = statistics.paired_test(d, level=question.level, ratio=ratio) if len(d) else None
    p = max(test.p if test else 1.0, noise.p if noise else 0.0)
    return Contrast(
        _summary(arm, question, ratio),
        units,
        d.tolist(),
        test,
        noise,
        p,
        statistics.standardised(d) if len(d) else math.nan,
        statistics.superiority(d) if len(d) else math.nan,
    )


def _row_noise(
    pairs: Mapping[str, Sequence[Pair]],
    question: Question,
    read_rows: ReadRows,
    notes: list[str],
) -> dict[str, RowNoise]:
    """The noise of the test rows in each arm's differences, under the same resamples for all."""
    if not can_be_resampled(question.metric):
        notes.append(f"{question.metric}: not computed on resampled test rows; seeds alone speak")
        return {}
    runs = {r.run_id: r for several in pairs.values() for _, *two in several for r in two}
    read = {run_id: rows for run_id, run in runs.items() if (rows := read_rows(run)) is not None}
    if len(read) < len(runs):
        notes.append(
            f"predictions.parquet is missing for {len(runs) - len(read)} of {len(runs)} runs: "
            "there the noise of the test rows is not part of the verdict"
        )
    if not read:
        return {}
    try:
        values = dict(zip(read, resample(list(read.values()), question.metric), strict=True))
    except ValueError as error:
        notes.append(f"{error}: the noise of the test rows is not part of the verdict")
        return {}
    wrong = {i for i, v in values.items() if abs(v[0] - runs[i].metrics[question.metric]) > _SAME}
    if wrong:
        notes.append(
            f"{len(wrong)} files of predictions do not give the recorded {question.metric} "
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


def _judged(
    contrasts: Sequence[Contrast], question: Question, ratio: float | None
) -> list[Contrast]:
    adjusted = statistics.holm([contrast.p for contrast in contrasts])
    left = len(contrasts) - sum(p <= question.alpha for p in adjusted)
    return [
        _verdict(replace(contrast, p_holm=p), question, ratio, len(contrasts), left)
        for contrast, p in zip(contrasts, adjusted, strict=True)
    ]


def _verdict(
    c: Contrast, question: Question, ratio: float | None, comparisons: int, left: int
) -> Contrast:
    """``left``: the arms that Holm's steps have not rejected, which set the bar for this one."""
    if c.p_holm <= question.alpha and c.test is not None:
        good = (c.test.difference > 0) == higher_is_better(question.metric)
        return replace(c, verdict=BETTER if good else WORSE)
    step = question.alpha / comparisons
    least = statistics.MIN_SPLITS if ratio is not None else power.least_pairs(comparisons)
    found = power.pairs_needed(c.effect, step, ratio or 0.0)
    spread = float(np.std(c.differences, ddof=1)) if len(c.differences) > 1 else math.inf
    effect = power.detectable(len(c.differences), step, ratio or 0.0)
    enough = c.test is not None and c.test.least_p * left <= question.alpha
    return replace(
        c,
        verdict=NO_DIFFERENCE if enough else TOO_FEW,
        needed=None if found is None else max(found, least),
        detectable=effect * spread,
        more_rows=_more_rows(c, question, left) if enough else None,
    )


def _more_rows(c: Contrast, question: Question, left: int) -> float | None:
    """By what factor the rows would have to grow for the difference seen to stand out."""
    if c.rows is None or c.test is None or c.test.p * left > question.alpha:
        return None
    critical = NormalDist().inv_cdf(1 - question.alpha / left / 2)
    seeds = c.rows.error**2 - c.rows.rows_error**2
    room = (c.rows.difference / critical) ** 2 - seeds
    return c.rows.rows_error**2 / room if room > 0 else math.inf

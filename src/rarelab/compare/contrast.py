"""Arms against a baseline on one data set: pairs, tests, test-row noise, verdicts."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rarelab.compare import power, statistics
from rarelab.compare.arms import Arm, DataSet, Unit
from rarelab.compare.pairs import (
    FIXED,
    SPLITS,
    Pair,
    describe_splits,
    over_splits,
    pair,
    rows_ratio,
    seed_noise,
    what_varied,
)
from rarelab.compare.rows import RowNoise
from rarelab.compare.rows import equivalence_p as rows_equivalence_p
from rarelab.compare.statistics import PairedTest
from rarelab.metrics.budget import Budget
from rarelab.metrics.table import find, higher_is_better, is_share, usual_margin

BETTER, WORSE = "better", "worse"
EQUAL, NOT_SETTLED = "practically equal", "not settled"


@dataclass(frozen=True)
class Question:
    """The question put to every data set.

    ``margin``: differences smaller than this do not matter to whoever asks, in the metric's units.
    ``budget``: that of a metric at the budget.
    ``positives``: how many a month has, where the metric is the share of them that is caught.
    """

    metric: str
    baseline: str
    level: float = 0.95
    margin: float | None = None
    budget: Budget | None = None
    positives: float | None = None

    @property
    def alpha(self) -> float:
        return 1 - self.level

    @property
    def within(self) -> float | None:
        """The margin; None if none was given and the metric has no usual one."""
        return usual_margin(self.metric) if self.margin is None else self.margin


NoiseOfRows = Callable[
    [DataSet, Mapping[str, Sequence[Pair]], Question, list[str]], Mapping[str, RowNoise]
]
"""Called with a data set, its pairs by arm, the question and a list of notes to append to; returns
the test-row noise by arm. See :mod:`rarelab.compare.noise`."""


@dataclass(frozen=True)
class Summary:
    """An arm's own mean with Student's t interval (``low``, ``high``) and standard deviation."""

    label: str
    n: int
    mean: float
    low: float
    high: float
    spread: float


class Chances(NamedTuple):
    """Posterior probabilities of an arm's difference from the baseline, by the margin."""

    worse: float
    equal: float
    better: float


@dataclass(frozen=True)
class Contrast:
    """One arm against the baseline. Differences are arm minus baseline, in the metric's units.

    ``p`` is the larger of two p-values: over seeds and, on one fixed split, over seeds and test
    rows; a claim must pass both. ``p_equal`` is against a difference of the margin or more, in the
    same way. ``p_holm`` and ``p_equal_holm`` are adjusted for all arms of the data set.
    ``chances``: the probabilities that the arm is worse than the margin allows, equal within it,
    and better; None without a margin or with a single pair.
    ``too_few``: whether no result of this many pairs could have been called better or worse.
    ``needed``: pairs that would show the observed difference, ``needed_equal`` that it is within
    the margin, None if more than 1 000; ``detectable``: the difference that this many pairs detect
    with 80 % power; ``more_rows``: how many times more test rows would show the difference, where
    rows rather than seeds are what is lacking; over splits, how many times more rows in all would
    settle it, where no number of splits would. ``seed_noise``: the share of the variance over
    splits that is the noise of their seeds. ``seconds``: what one more pair takes to train; over
    splits, one more split with its seeds.
    """

    arm: Summary
    units: Sequence[Unit]
    differences: Sequence[float] = field(repr=False)
    test: PairedTest | None
    rows: RowNoise | None
    p: float
    effect: float
    superiority: float
    p_equal: float = 1.0
    chances: Chances | None = None
    seconds: float = field(default=math.nan, compare=False)
    p_holm: float = math.nan
    p_equal_holm: float = math.nan
    verdict: str = NOT_SETTLED
    too_few: bool = True
    needed: int | None = None
    needed_equal: int | None = None
    detectable: float = math.inf
    more_rows: float | None = None
    seed_noise: float = math.nan


@dataclass(frozen=True)
class Finding:
    """The result on one data set."""

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


def by_difference(contrasts: Sequence[Contrast]) -> list[Contrast]:
    """Largest difference first; arms without a pair last."""
    return sorted(
        contrasts,
        key=lambda c: (c.test is None, -(c.test.difference if c.test else 0.0), c.arm.label),
    )


def compare(data: DataSet, question: Question, noise_of_rows: NoiseOfRows) -> Finding | None:
    """Compare every other arm with the baseline; None if the baseline has no run on this data."""
    base = data.arm(question.baseline) if _has(data, question.baseline) else None
    if base is None or not base.runs:
        return None
    others = [arm for arm in data.arms if arm.label != base.label and arm.runs]
    notes = list(data.notes)
    if find(question.metric) is None:
        notes.append(
            f"{question.metric}: not one of rarelab's own metrics, assuming higher is better"
        )
    pairs = {arm.label: pair(base, arm, notes) for arm in others}
    paired = [run for found in pairs.values() for _, *two in found for run in two]
    varied = what_varied(paired)
    ratio = rows_ratio(base) if varied == SPLITS else None
    if ratio is not None:
        notes.append(describe_splits(paired, ratio))
    noise: Mapping[str, RowNoise] = {}
    if varied == FIXED:
        noise = noise_of_rows(data, pairs, question, notes)
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


def _has(data: DataSet, label: str) -> bool:
    return any(arm.label == label for arm in data.arms)


def _summary(arm: Arm, question: Question, ratio: float | None) -> Summary:
    values = np.array([run.metrics[question.metric] for run in arm.runs.values()])
    if ratio is not None:
        values = over_splits(list(arm.runs), values)
    low, high = statistics.mean_interval(values, level=question.level, ratio=ratio)
    if is_share(question.metric):
        low, high = np.clip((low, high), 0.0, 1.0).tolist()  # Student's t is unbounded
    spread = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return Summary(arm.label, len(arm.runs), float(values.mean()), low, high, spread)


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
    noise_of_seeds = math.nan
    if ratio is not None and len(d):
        noise_of_seeds = seed_noise(units, d)
        d = over_splits(units, d)
    test = statistics.paired_test(d, level=question.level, ratio=ratio) if len(d) else None
    p = max(test.p if test else 1.0, noise.p if noise else 0.0)
    margin = question.within
    seconds = [base.seconds + run.seconds for _, base, run in pairs]
    p_equal, chances = 1.0, None
    if test is not None and margin is not None:
        p_equal = statistics.equivalence_p(d, margin, ratio=ratio)
        if noise is not None:
            p_equal = max(p_equal, rows_equivalence_p(noise, margin, len(pairs)))
        chances = _chances(d, question, margin, noise, ratio)
    return Contrast(
        _summary(arm, question, ratio),
        units,
        d.tolist(),
        test,
        noise,
        p,
        statistics.standardised(d) if len(d) else math.nan,
        statistics.superiority(d) if len(d) else math.nan,
        p_equal,
        chances,
        float(np.sum(seconds)) / len(d) if seconds else math.nan,
        seed_noise=noise_of_seeds,
    )


def _chances(
    d: NDArray, question: Question, margin: float, noise: RowNoise | None, ratio: float | None
) -> Chances | None:
    rows_error = noise.rows_error if noise else 0.0
    found = statistics.posterior(d, margin, ratio=ratio, rows_error=rows_error)
    if not found.known:
        return None
    if higher_is_better(question.metric):
        return Chances(found.below, found.within, found.above)
    return Chances(found.above, found.within, found.below)


def _judged(
    contrasts: Sequence[Contrast], question: Question, ratio: float | None
) -> list[Contrast]:
    adjusted = statistics.holm([contrast.p for contrast in contrasts])
    equal = statistics.holm([contrast.p_equal for contrast in contrasts])
    left = len(contrasts) - sum(p <= question.alpha for p in adjusted)
    return [
        _verdict(replace(contrast, p_holm=p, p_equal_holm=q), question, ratio, len(contrasts), left)
        for contrast, p, q in zip(contrasts, adjusted, equal, strict=True)
    ]


def _verdict(
    c: Contrast, question: Question, ratio: float | None, comparisons: int, left: int
) -> Contrast:
    """``left``: number of arms not rejected by Holm's steps, which sets the bar for this one.

    Equal within the margin comes first: a difference that does not matter is no reason to switch,
    however certain it is.
    """
    if c.test is None:
        return c
    if c.p_equal_holm <= question.alpha:
        return replace(c, verdict=EQUAL)
    if c.p_holm <= question.alpha:
        good = (c.test.difference > 0) == higher_is_better(question.metric)
        return replace(c, verdict=BETTER if good else WORSE)
    alpha = question.alpha
    step = alpha / comparisons
    least = statistics.MIN_SPLITS if ratio is not None else power.least_pairs(comparisons, alpha)
    spread = float(np.std(c.differences, ddof=1)) if len(c.differences) > 1 else math.inf
    of_seeds = power.pairs_needed(c.effect, step, ratio or 0.0)
    found = _beside_rows(c, of_seeds, abs(c.test.difference), step, spread)
    effect = power.detectable(len(c.differences), step, ratio or 0.0)
    enough = c.test.least_p * left <= question.alpha
    needed_equal = _needed_equal(c, question, spread, comparisons, ratio)
    more_rows = None
    if ratio is None:
        more_rows = _more_rows(c, question, left) if enough else None
        if more_rows is None and needed_equal is None and found is None and of_seeds is not None:
            more_rows = math.inf
    elif found is None and needed_equal is None:
        more_rows = _more_rows_in_all(c, question, spread, comparisons, ratio)
    return replace(
        c,
        too_few=not enough,
        needed=None if found is None else max(found, least),
        needed_equal=needed_equal,
        detectable=effect * spread,
        more_rows=more_rows,
    )


def _needed_equal(
    c: Contrast, question: Question, spread: float, comparisons: int, ratio: float | None
) -> int | None:
    """Pairs that show with 80 % power that the observed difference is within the margin."""
    assert c.test is not None
    room = (question.within or 0.0) - abs(c.test.difference)
    if room <= 0 or not 0 < spread < math.inf:
        return None
    # One-sided at α is two-sided at twice that, up to the other side's negligible share.
    alpha = 2 * question.alpha
    step = alpha / comparisons
    found = power.pairs_needed(room / spread, step, ratio or 0.0)
    found = _beside_rows(c, found, room, step, spread)
    least = statistics.MIN_SPLITS if ratio is not None else power.least_pairs(comparisons, alpha)
    return None if found is None else max(found, least)


def _beside_rows(
    c: Contrast, pairs: int | None, room: float, alpha: float, spread: float
) -> int | None:
    """The pairs with which a distance ``room`` shows beside the noise of the test rows too, with
    the same power: s²/n + r² <= (room / (z_(1 − α/2) + z_power))². More pairs do not reduce r."""
    if pairs is None or c.rows is None:
        return pairs
    normal = NormalDist()
    error = room / (normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power.POWER))
    left = error**2 - c.rows.rows_error**2
    if left <= spread**2 / power.MAX_PAIRS:
        return None
    return max(pairs, math.ceil(spread**2 / left))


def _more_rows_in_all(
    c: Contrast, question: Question, spread: float, comparisons: int, ratio: float
) -> float | None:
    """How many times more rows, divided in the same shares, would show the observed difference or
    that it is within the margin, with 80 % power: a standard error falls as 1 / √rows."""
    assert c.test is not None
    n, step = max(len(c.differences), statistics.MIN_SPLITS), question.alpha / comparisons
    if not 0 < spread < math.inf:
        return None
    size = abs(c.test.difference)
    ways = ((size, step), ((question.within or 0.0) - size, 2 * step))
    times = [
        (power.detectable(n, alpha, ratio) * spread / room) ** 2 for room, alpha in ways if room > 0
    ]
    return min(times, default=None)


def _more_rows(c: Contrast, question: Question, left: int) -> float | None:
    """How many times more test rows would make the observed difference significant."""
    if c.rows is None or c.test is None or c.test.p * left > question.alpha:
        return None
    critical = NormalDist().inv_cdf(1 - question.alpha / left / 2)
    seeds = c.rows.error**2 - c.rows.rows_error**2
    room = (c.rows.difference / critical) ** 2 - seeds
    return c.rows.rows_error**2 / room if room > 0 else math.inf

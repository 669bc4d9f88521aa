"""The verdict in words: the result, its certainty, what was varied, what a verdict would take."""

import math
from collections import Counter

from rarelab.compare.across import FEW, Across
from rarelab.compare.contrast import (
    BETTER,
    NO_DIFFERENCE,
    TOO_FEW,
    WORSE,
    Contrast,
    Finding,
)
from rarelab.compare.costs import Monthly
from rarelab.compare.pairs import DRAWN, FIXED, SPLITS
from rarelab.compare.power import MAX_PAIRS, POWER, least_pairs
from rarelab.compare.statistics import MIN_SPLITS

_VARIED = {
    FIXED: (
        "only the training seed, on one fixed split: the claim is about models trained on these "
        "training rows"
    ),
    SPLITS: (
        "the split (and the seed with it): splits share training rows, so the test corrects "
        "for their overlap"
    ),
    DRAWN: "the data, drawn anew for every seed, and the training with it",
}
_VARIED_UNKNOWN = "the seed; the records do not say whether the rows changed with it"


def headline(finding: Finding) -> str:
    """One sentence: how many arms are better, worse, and so on."""
    counts = Counter(c.verdict for c in finding.contrasts)
    if len(finding.contrasts) == 1:
        (c,) = finding.contrasts
        return f"{finding.data}: {c.arm.label} against {finding.baseline.label}: {c.verdict}"
    parts = [
        f"{counts[verdict]} {verdict}"
        for verdict in (BETTER, WORSE, NO_DIFFERENCE, TOO_FEW)
        if counts[verdict]
    ]
    return (
        f"{finding.data}: {len(finding.contrasts)} arms against {finding.baseline.label}: "
        f"{', '.join(parts)}"
    )


def sentence(finding: Finding, c: Contrast) -> str:
    """The verdict on one arm, with its numbers and what it would take to decide."""
    if c.test is None:
        return f"{c.arm.label}: {TOO_FEW}: it has no seed in common with {finding.baseline.label}"
    start = f"{c.arm.label}: {c.verdict}: {number(c.test.difference, signed=True)} {_interval(c)}"
    end = f"{start}, {p_value(c.p_holm)}{_adjusted(finding)}, {c.test.n} {_pairs(finding, c)}"
    if c.verdict in (BETTER, WORSE):
        return f"{end}{_rows(c)}"
    if c.verdict == TOO_FEW:
        return f"{end}; {_needed(finding, c)}"
    if c.more_rows is not None:
        return f"{end}{_rows(c)}; {_rows_needed(c)}"
    return f"{end}{_rows(c)}; {_could_have_shown(c)}; {_needed(finding, c)}"


def varied(finding: Finding) -> str:
    """What varies between the runs of an arm, and so what the claim is about."""
    text = f"varied: {_VARIED.get(finding.varied, _VARIED_UNKNOWN)}"
    if finding.varied != FIXED:
        return text
    noise = [c.rows for c in finding.contrasts if c.rows]
    if not noise:
        return f"{text}, scored on these test rows; how they score on other rows is unknown"
    return (
        f"{text}; the verdict includes the noise of the test rows ({noise[0].rows:,}, "
        f"{noise[0].positives:,} positive, {noise[0].resamples:,} resamples)"
    )


def test_names(finding: Finding) -> str:
    """The tests used, for the line under a table."""
    names = dict.fromkeys(c.test.name for c in finding.contrasts if c.test)
    adjusted = f", Holm over {finding.comparisons} arms" if finding.comparisons > 1 else ""
    return f"{' and '.join(names)} test, paired by seed{adjusted}"


test_names.__test__ = False  # type: ignore[attr-defined]  # keeps pytest from collecting it


def number(value: float, *, signed: bool = False) -> str:
    """A metric to four decimals, money and counts to fewer, by their size."""
    if math.isnan(value):
        return "-"
    size = abs(value)
    decimals = 4 if size < 10 else 1 if size < 1000 else 0
    return f"{value:{'+' if signed else ''},.{decimals}f}"


def p_value(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def interval(low: float, high: float) -> str:
    """``[low, high]``, or "any" where no value can be excluded."""
    if math.isnan(low):
        return "-"
    return "any" if math.isinf(low) else f"[{number(low)}, {number(high)}]"


def percent(level: float) -> str:
    return f"{100 * level:.3g} %"


def _interval(c: Contrast) -> str:
    assert c.test is not None
    if math.isinf(c.test.low):
        return "(too few pairs for an interval)"
    low, high = number(c.test.low, signed=True), number(c.test.high, signed=True)
    return f"[{low}, {high}] ({percent(c.test.level)})"


def _adjusted(finding: Finding) -> str:
    return f" after Holm over {finding.comparisons} arms" if finding.comparisons > 1 else ""


def _pairs(finding: Finding, c: Contrast) -> str:
    assert c.test is not None
    unit = "split" if finding.ratio is not None else "pair"
    return unit if c.test.n == 1 else f"{unit}s"


def _rows(c: Contrast) -> str:
    if c.rows is None:
        return ""
    low, high = number(c.rows.low, signed=True), number(c.rows.high, signed=True)
    also = "" if c.verdict == NO_DIFFERENCE else "also "
    return f"; {also}with other test rows: [{low}, {high}]"


def _needed(finding: Finding, c: Contrast) -> str:
    unit = "splits" if finding.ratio is not None else "seeds"
    if c.verdict == TOO_FEW:
        start = f"no verdict is possible with fewer than {least(finding)} {unit}"
        if math.isnan(c.effect):
            return start
        return f"{start}; {_for_this_difference(c, unit)} (power {percent(POWER)})"
    return _for_this_difference(c, unit)


def _for_this_difference(c: Contrast, unit: str) -> str:
    if c.needed is None:
        return f"the observed difference would take more than {MAX_PAIRS:,} {unit}"
    return f"the observed difference would take about {c.needed} {unit}"


def least(finding: Finding) -> int:
    """The fewest seeds (or splits) with which any verdict is possible."""
    if finding.ratio is not None:
        return MIN_SPLITS
    return least_pairs(finding.comparisons, finding.question.alpha)


def _could_have_shown(c: Contrast) -> str:
    assert c.test is not None
    return (
        f"{c.test.n} pairs would detect a difference of {number(c.detectable)} "
        f"with {percent(POWER)} power"
    )


def _rows_needed(c: Contrast) -> str:
    start = "the seeds agree on these test rows, but other rows might not: a verdict would take"
    if c.more_rows is None or math.isinf(c.more_rows):
        return f"{start} more test rows and more seeds"
    times = max(2, math.ceil(c.more_rows))
    return f"{start} about {times} times as many test rows, not more seeds"


def across(found: Across | None, alpha: float) -> list[str]:
    """The result across data sets."""
    if found is None:
        return []
    sets = found.data_sets
    best_first = sorted(found.ranks.items(), key=lambda item: (item[1], item[0]))
    ranks = ", ".join(f"{label} {rank:.2f}" for label, rank in best_first)
    lines = [
        f"over {sets} data sets (each counts once, however many seeds it has): {found.test} "
        f"statistic {found.statistic:.3f}, {p_value(found.p)}; average ranks: {ranks}"
    ]
    if found.p > alpha:
        lines.append("no difference between the arms is shown across the data sets")
    elif found.post_hoc is None:
        lines.append(f"across the data sets, {best_first[0][0]} ranks first")
    else:
        lines.append(_post_hoc(found, alpha))
    if found.post_hoc is not None and sets < FEW:
        lines.append(f"Friedman's test is approximate and weak with fewer than {FEW} data sets")
    return [*lines, *found.notes]


def _post_hoc(found: Across, alpha: float) -> str:
    labels = list(found.ranks)
    apart = [
        f"{a} and {b} ({p_value(float(found.post_hoc.loc[a, b]))})"
        for i, a in enumerate(labels)
        for b in labels[i + 1 :]
        if found.post_hoc.loc[a, b] <= alpha
    ]
    if not apart:
        return "the arms differ, but Nemenyi's post-hoc test separates no two of them"
    return f"different by Nemenyi's post-hoc test: {', '.join(apart)}"


def monthly(told: Monthly, currency: str) -> str:
    """One arm's monthly difference in counts, and in money if prices are given."""
    c = told.contrast
    text = (
        f"{told.data}, {c.arm.label} ({c.verdict}): {_range(told.caught)} positives caught; "
        "misses and false alerts change by the opposite"
    )
    if told.saved is None:
        return text
    unit = f" {currency}" if currency else ""
    return f"{text}; saves {_range(told.saved)}{unit}"


def _range(values: tuple[float, float, float]) -> str:
    middle, low, high = (f"{value:+,.{0 if abs(values[0]) >= 1000 else 1}f}" for value in values)
    if math.isinf(values[1]):
        return f"{middle} (too few pairs for an interval)"
    return f"{middle} [{low}, {high}]"

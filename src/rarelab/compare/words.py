"""The verdict in words: what was found, how sure it is, what was varied, what it would take."""

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
        "the training seed alone, on one fixed split: the claim is about models trained on these "
        "training rows"
    ),
    SPLITS: (
        "the split (and the seed with it): splits share training rows, so the test is corrected "
        "for their overlap"
    ),
    DRAWN: "the data itself, drawn anew for every seed, and with it the training",
}
_VARIED_UNKNOWN = "the seed; the records do not say whether it moved the rows too"


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
        f"{finding.data}: of {len(finding.contrasts)} arms against {finding.baseline.label}, "
        f"{', '.join(parts)}"
    )


def sentence(finding: Finding, c: Contrast) -> str:
    """The verdict on one arm, with its numbers and what a reader should do about it."""
    if c.test is None:
        return f"{c.arm.label}: {TOO_FEW}: it shares no seed with {finding.baseline.label}"
    start = f"{c.arm.label}: {c.verdict}: {number(c.test.difference, signed=True)} {_interval(c)}"
    end = f"{start}, {p_value(c.p_holm)}{_adjusted(finding)}, {c.test.n} {_pairs(finding, c)}"
    if c.verdict in (BETTER, WORSE):
        return f"{end}{_rows(c)}"
    if c.verdict == TOO_FEW:
        return f"{end}; {_needed(finding, c)}"
    if c.more_rows is not None:
        return f"{end}{_rows(c)}; {_rows_needed(c)}"
    return f"{end}{_rows(c)}; {_could_have_shown(c)}, {_needed(finding, c)}"


def varied(finding: Finding) -> str:
    """What the runs differ in besides the arm, and so what the claim is about."""
    text = f"varied: {_VARIED.get(finding.varied, _VARIED_UNKNOWN)}"
    if finding.varied != FIXED:
        return text
    noise = [c.rows for c in finding.contrasts if c.rows]
    if not noise:
        return f"{text}, and about these test rows; how other test rows would do is not known"
    return (
        f"{text}; the noise of the test rows ({noise[0].rows:,}, {noise[0].positives:,} positive) "
        f"is part of the verdict ({noise[0].resamples:,} resamples)"
    )


def test_names(finding: Finding) -> str:
    """The tests that were used, for the line under a table."""
    names = dict.fromkeys(c.test.name for c in finding.contrasts if c.test)
    adjusted = f", Holm over {finding.comparisons} arms" if finding.comparisons > 1 else ""
    return f"{' and '.join(names)} test, paired by seed{adjusted}"


test_names.__test__ = False  # type: ignore[attr-defined]  # pytest takes it for a test


def number(value: float, *, signed: bool = False) -> str:
    """A metric to four decimals, money and counts to as many as their size needs."""
    if math.isnan(value):
        return "-"
    size = abs(value)
    decimals = 4 if size < 10 else 1 if size < 1000 else 0
    return f"{value:{'+' if signed else ''},.{decimals}f}"


def p_value(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def interval(low: float, high: float) -> str:
    """``[low, high]``, or "any" where no value can be left out."""
    if math.isnan(low):
        return "-"
    return "any" if math.isinf(low) else f"[{number(low)}, {number(high)}]"


def percent(level: float) -> str:
    return f"{100 * level:.3g} %"


def _interval(c: Contrast) -> str:
    assert c.test is not None
    if math.isinf(c.test.low):
        return "(so few pairs allow no interval)"
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
    also = "" if c.verdict == NO_DIFFERENCE else " too"
    return f"; with other test rows of this kind{also}: [{low}, {high}]"


def _needed(finding: Finding, c: Contrast) -> str:
    unit = "splits" if finding.ratio is not None else "seeds"
    if c.verdict == TOO_FEW:
        start = f"no verdict is possible with fewer than {least(finding)} {unit}"
        if math.isnan(c.effect):
            return start
        return f"{start}; {_for_this_difference(c, unit)}"
    return _for_this_difference(c, unit)


def _for_this_difference(c: Contrast, unit: str) -> str:
    if c.needed is None:
        return f"one as small as this would take more than {MAX_PAIRS:,} {unit}"
    return f"one like this would take about {c.needed} {unit} (power {percent(POWER)})"


def least(finding: Finding) -> int:
    """The fewest seeds (or splits) with which any verdict is possible."""
    if finding.ratio is not None:
        return MIN_SPLITS
    return least_pairs(finding.comparisons, finding.question.alpha)


def _could_have_shown(c: Contrast) -> str:
    assert c.test is not None
    return (
        f"{c.test.n} pairs would have shown a difference of {number(c.detectable)} "
        "four times in five"
    )


def _rows_needed(c: Contrast) -> str:
    if c.more_rows is None or math.isinf(c.more_rows):
        return "the seeds agree on these rows, other test rows may not: it takes more of both"
    return (
        "the seeds agree on these rows, other test rows may not: it takes about "
        f"{max(2, math.ceil(c.more_rows))} times as many test rows, not more seeds"
    )


def across(found: Across | None, alpha: float) -> list[str]:
    """What several data sets say together."""
    if found is None:
        return []
    sets = found.data_sets
    best_first = sorted(found.ranks.items(), key=lambda item: (item[1], item[0]))
    ranks = ", ".join(f"{label} {rank:.2f}" for label, rank in best_first)
    lines = [
        f"over {sets} data sets (each counts once, whatever its seeds): {found.test} statistic "
        f"{found.statistic:.3f}, {p_value(found.p)}; average ranks: {ranks}"
    ]
    if found.p > alpha:
        lines.append("over the data sets no difference between the arms is shown")
    elif found.post_hoc is None:
        lines.append(f"over the data sets {best_first[0][0]} ranks first")
    else:
        lines.append(_told_apart(found, alpha))
    if found.post_hoc is not None and sets < FEW:
        lines.append(f"Friedman's test is approximate and weak with fewer than {FEW} data sets")
    return [*lines, *found.notes]


def _told_apart(found: Across, alpha: float) -> str:
    labels = list(found.ranks)
    apart = [
        f"{a} and {b} ({p_value(float(found.post_hoc.loc[a, b]))})"
        for i, a in enumerate(labels)
        for b in labels[i + 1 :]
        if found.post_hoc.loc[a, b] <= alpha
    ]
    if not apart:
        return "the arms differ, but Nemenyi's post-hoc test tells no two of them apart"
    return f"told apart by Nemenyi's post-hoc test: {', '.join(apart)}"


def monthly(told: Monthly, currency: str) -> str:
    """One arm's difference per month in counts, and in money where prices are known."""
    c = told.contrast
    text = (
        f"{told.data}, {c.arm.label} ({c.verdict}): {_range(told.caught)} positives caught, "
        "the opposite in misses and in false alerts"
    )
    if told.saved is None:
        return text
    unit = f" {currency}" if currency else ""
    return f"{text}; saves {_range(told.saved)}{unit}"


def _range(values: tuple[float, float, float]) -> str:
    middle, low, high = (f"{value:+,.{0 if abs(values[0]) >= 1000 else 1}f}" for value in values)
    if math.isinf(values[1]):
        return f"{middle} (so few pairs allow no interval)"
    return f"{middle} [{low}, {high}]"

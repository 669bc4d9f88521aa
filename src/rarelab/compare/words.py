"""The verdict in words: the result, its certainty, what was varied, what a verdict would take."""

import math
from collections import Counter

from rarelab.compare.across import FEW, Across
from rarelab.compare.contrast import (
    BETTER,
    EQUAL,
    NOT_SETTLED,
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
_MOST_TIMES = 100
"""Beyond this, "more than 100 times as many" rows is the answer."""
_MUCH = 0.3
"""From this share of the variance on, the seeds' noise is worth mentioning."""

_VARIED_UNKNOWN = "the seed; the records do not say whether the rows changed with it"


def headline(finding: Finding) -> str:
    """One sentence: how many arms are better, worse, and so on."""
    counts = Counter(c.verdict for c in finding.contrasts)
    if len(finding.contrasts) == 1:
        (c,) = finding.contrasts
        return f"{finding.data}: {c.arm.label} against {finding.baseline.label}: {c.verdict}"
    parts = [
        f"{counts[verdict]} {verdict}"
        for verdict in (BETTER, WORSE, EQUAL, NOT_SETTLED)
        if counts[verdict]
    ]
    return (
        f"{finding.data}: {len(finding.contrasts)} arms against {finding.baseline.label}: "
        f"{', '.join(parts)}"
    )


def sentence(finding: Finding, c: Contrast) -> str:
    """The verdict on one arm, with its numbers and what it would take to settle it."""
    if c.test is None:
        return f"{c.arm.label}: {c.verdict}: it has no seed in common with {finding.baseline.label}"
    parts = [f"{c.arm.label}: {c.verdict}: {_difference(c)}, {_certainty(finding, c)}{_rows(c)}"]
    if c.verdict == NOT_SETTLED:
        parts += _unsettled(finding, c)
    if c.chances is not None:
        shares = " / ".join(f"{100 * share:.0f}" for share in c.chances)
        parts.append(f"chance of worse / equal / better: {shares} %")
    return "; ".join(parts)


def margin(finding: Finding) -> str:
    """The margin within which arms count as equal."""
    found = finding.question.within
    if found is None:
        return f"no margin is set (margin=...): no arm can be called {EQUAL}"
    positives = finding.question.positives
    caught = "" if positives is None else f" ({found * positives:.3g} positives caught a month)"
    return f"{EQUAL}: less than {found:.4g}{caught} from {finding.baseline.label}"


def varied(finding: Finding) -> str:
    """What varies between the runs of an arm, and so what the claim is about."""
    text = f"varied: {_VARIED.get(finding.varied, _VARIED_UNKNOWN)}"
    if finding.varied != FIXED:
        return text
    noise = [c.rows for c in finding.contrasts if c.rows]
    if not noise:
        return f"{text}, scored on these test rows; how they score on other rows is unknown"
    return (
        f"{text}; the verdict includes the noise of the test rows ({noise[0].counts()}, "
        f"{noise[0].resamples:,} resamples)"
    )


def test_names(finding: Finding) -> str:
    """The tests used, for the line under a table."""
    names = dict.fromkeys(c.test.name for c in finding.contrasts if c.test)
    adjusted = f", Holm over {finding.comparisons} arms" if finding.comparisons > 1 else ""
    by = "seed" if finding.ratio is None else "split and seed"
    return f"{' and '.join(names)} test, paired by {by}{adjusted}"


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


def _difference(c: Contrast) -> str:
    assert c.test is not None
    start = number(c.test.difference, signed=True)
    if math.isinf(c.test.low):
        return f"{start} (too few pairs for an interval)"
    low, high = number(c.test.low, signed=True), number(c.test.high, signed=True)
    return f"{start} [{low}, {high}] ({percent(c.test.level)})"


def _certainty(finding: Finding, c: Contrast) -> str:
    """The p-value behind the verdict, and the number of pairs."""
    assert c.test is not None
    told = p_value(c.p_holm)
    if c.verdict == EQUAL:
        told = f"{finding.question.within:.4g} or more apart: {p_value(c.p_equal_holm)}"
    return f"{told}{_adjusted(finding)}, {c.test.n} {_pairs(finding, c)}"


def _adjusted(finding: Finding) -> str:
    return f" after Holm over {finding.comparisons} arms" if finding.comparisons > 1 else ""


def _pairs(finding: Finding, c: Contrast) -> str:
    assert c.test is not None
    unit = "split" if finding.ratio is not None else "pair"
    return unit if c.test.n == 1 else f"{unit}s"


def _rows(c: Contrast) -> str:
    if c.rows is None or (c.too_few and c.verdict == NOT_SETTLED):
        return ""
    low, high = number(c.rows.low, signed=True), number(c.rows.high, signed=True)
    also = "also " if c.verdict in (BETTER, WORSE) else ""
    return f"; {also}with other test rows: [{low}, {high}]"


def _unsettled(finding: Finding, c: Contrast) -> list[str]:
    """Why an arm is not settled, and what would settle it."""
    assert c.test is not None
    unit = "splits" if finding.ratio is not None else "seeds"
    if c.too_few:
        why = f"no difference can be shown with fewer than {least(finding)} {unit}"
        return [why] if math.isnan(c.effect) else [why, _would_settle(finding, c, unit)]
    if c.more_rows is not None and finding.ratio is None:
        return [_rows_needed(c)]
    why = (
        f"{c.test.n} {_pairs(finding, c)} would detect a difference of {number(c.detectable)} "
        f"with {percent(POWER)} power"
    )
    return [why, _would_settle(finding, c, unit), *_more_seeds(c)]


def _would_settle(finding: Finding, c: Contrast, unit: str) -> str:
    """The number of seeds or splits, and the time that they take to train, if it is known."""
    ways = []
    if c.needed is not None:
        ways.append(f"about {c.needed} {unit}{cost(c, c.needed)} would show such a difference")
    if c.needed_equal is not None:
        ways.append(
            f"about {c.needed_equal} {unit}{cost(c, c.needed_equal)} would show that it is "
            f"within {finding.question.within:.4g}"
        )
    if not ways and c.more_rows is not None:
        return (
            f"no number of {unit} like these would settle it, as they share their rows: "
            f"{times_as_many(c.more_rows)} rows would, or a smaller test share"
        )
    return " and ".join(ways) or f"more than {MAX_PAIRS:,} {unit} would be needed to settle it"


def _more_seeds(c: Contrast) -> list[str]:
    """Whether training with more seeds on each split would narrow the result."""
    if not c.seed_noise >= _MUCH:
        return []
    return [
        f"{100 * c.seed_noise:.0f} % of the variance between splits is the noise of training: "
        "more seeds on each split would reduce it"
    ]


def cost(c: Contrast, pairs: int) -> str:
    assert c.test is not None
    seconds = (pairs - c.test.n) * c.seconds
    if math.isnan(seconds) or seconds <= 0:
        return ""
    minutes = seconds / 60
    if minutes < 1:
        return f" ({seconds:.0f} s more of training)"
    time = f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"
    return f" ({time} more of training)"


def least(finding: Finding) -> int:
    """The fewest seeds (or splits) with which any verdict is possible."""
    if finding.ratio is not None:
        return MIN_SPLITS
    return least_pairs(finding.comparisons, finding.question.alpha)


def _rows_needed(c: Contrast) -> str:
    if c.more_rows is None or math.isinf(c.more_rows):
        return "other test rows might differ: a verdict would take more of them and more seeds"
    return (
        "the seeds agree on these test rows, but other rows might not: a verdict would take "
        f"{times_as_many(c.more_rows)} test rows, not more seeds"
    )


def times_as_many(times: float) -> str:
    """``about 3 times as many``."""
    if times > _MOST_TIMES:
        return f"more than {_MOST_TIMES} times as many"
    return f"about {max(2, math.ceil(times))} times as many"


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
    """One arm's monthly difference in counts and in value, and in money if prices are given."""
    c, unit = told.contrast, f" {currency}" if currency else ""
    text = f"{_range(told.caught)} positives caught; misses and false alerts change by the opposite"
    if told.value is not None and told.valued is not None:
        c, text = told.valued, f"{_range(told.value)}{unit} of value caught; {text}"
        text += "" if told.saved is None else "; fewer false alerts save "
    elif told.saved is not None:
        text += "; saves "
    saved = "" if told.saved is None else f"{_range(told.saved)}{unit}"
    return f"{told.data}, {c.arm.label} ({c.verdict}): {text}{saved}"


def _range(values: tuple[float, float, float]) -> str:
    middle, low, high = (f"{value:+,.{0 if abs(values[0]) >= 1000 else 1}f}" for value in values)
    if math.isinf(values[1]):
        return f"{middle} (too few pairs for an interval)"
    return f"{middle} [{low}, {high}]"

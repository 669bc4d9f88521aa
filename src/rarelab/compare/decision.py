"""The answer for whoever decides: keep the baseline, switch, or what would settle it."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rarelab.compare import words
from rarelab.compare.caught import Gain
from rarelab.compare.contrast import BETTER, EQUAL, NOT_SETTLED, WORSE, Contrast, Finding
from rarelab.compare.power import MAX_PAIRS
from rarelab.metrics.table import find, higher_is_better

SWITCH, KEEP, OPEN = "switch", "keep", "open"

_SHOWN = 3
_CROSS_ENTROPY = {"bce": "cross-entropy", "cross_entropy": "cross-entropy"}


@dataclass(frozen=True)
class Decision:
    """What to do about one data set, ``kind`` (SWITCH, KEEP or OPEN) and in a sentence."""

    kind: str
    text: str


def decide(finding: Finding, gains: Mapping[str, Gain] | None = None) -> Decision:
    """The answer that the verdicts on all arms add up to.

    One arm that is better is a reason to switch, to the one with the largest difference. Without
    one, an arm that is not settled leaves the question open; else the baseline stays.

    Args:
        finding: the verdicts.
        gains: by arm, what it catches at the budget beyond the baseline, where that is known.
    """
    names = short_names(finding)
    base = names[finding.baseline.label]
    arms: dict[str, list[Contrast]] = defaultdict(list)
    for c in best_first(finding):
        arms[c.verdict].append(c)

    def are(verdict: str, told: str) -> list[str]:
        found = [names[c.arm.label] for c in arms[verdict]]
        return [f"{listed(found)} {'is' if len(found) == 1 else 'are'} {told}"] if found else []

    if arms[BETTER]:
        best = arms[BETTER].pop(0)
        effect = _effect(finding, best, (gains or {}).get(best.arm.label))
        parts = [f"Switch to {names[best.arm.label]}: {effect}"]
        parts += [*are(BETTER, f"better than {base} too"), *are(NOT_SETTLED, "not settled")]
        return Decision(SWITCH, "; ".join(parts) + ".")
    if arms[NOT_SETTLED]:
        open_arms = [names[c.arm.label] for c in arms[NOT_SETTLED]]
        lead = arms[NOT_SETTLED][0]
        of = f"for {names[lead.arm.label]}, " if len(open_arms) > 1 else ""
        parts = [
            f"Not settled: whether {listed(open_arms, 'or')} is better than {base}",
            f"{of}{_settling(finding, lead, base)}",
            "until then there is no reason to switch",
            *are(EQUAL, f"practically equal to {base}{_within(finding)}"),
            *are(WORSE, "worse"),
        ]
        return Decision(OPEN, "; ".join(parts) + ".")
    equal = are(EQUAL, f"practically equal to it{_within(finding)}")
    if not (equal or arms[WORSE]):
        return Decision(OPEN, f"Nothing to compare: no other arm than {base} has a usable run.")
    worse = are(WORSE, "worse" if equal else "worse than it")
    if len(arms[WORSE]) == 1 and not equal:
        worse = [f"{worse[0]} ({_difference(finding, arms[WORSE][0])})"]
    return Decision(KEEP, f"Keep {base}: {'; '.join([*equal, *worse])}.")


def answers(findings: Sequence[Finding], decisions: Sequence[Decision]) -> list[str]:
    """The decision on each data set, which is named if there are several."""
    if len(decisions) == 1:
        return [decisions[0].text]
    told = zip(findings, decisions, strict=True)
    return [f"{finding.data}: {decision.text}" for finding, decision in told]


def best_first(finding: Finding) -> list[Contrast]:
    """The arms by difference in the direction that is good; those without a pair last."""
    sign = 1 if higher_is_better(finding.question.metric) else -1
    return sorted(
        finding.contrasts,
        key=lambda c: (c.test is None, -sign * c.test.difference if c.test else 0.0, c.arm.label),
    )


def short_names(finding: Finding) -> dict[str, str]:
    """Arms as they are spoken of, by label: ``smooth_ap`` of ``loss=smooth_ap``, where every label
    is a single value and no two are the same; else the labels."""
    labels = [finding.baseline.label, *(c.arm.label for c in finding.contrasts)]
    values = [label.partition("=")[2] for label in labels]
    if any(not value or " " in label for label, value in zip(labels, values, strict=True)):
        return {label: label for label in labels}
    spoken = [_CROSS_ENTROPY.get(value, value) for value in values]
    for texts in (spoken, values):
        if len(set(texts)) == len(labels):
            return dict(zip(labels, texts, strict=True))
    return {label: label for label in labels}


def measure(metric: str) -> str:
    """A metric's name in a sentence: ``AUCPR``, ``recall``, or its key."""
    row = find(metric)
    return row.label if row is not None and row.label else metric


def judged_by(metric: str) -> str:
    """What a metric measures, for a reader who does not know its key."""
    stem, _, level = metric.rpartition("/")
    if stem in ("test/recall_at_q", "test/precision_at_q"):
        return f"{measure(metric)} in the top {share(float(level))} of the test rows"
    name = measure(metric)
    return name if name == metric else f"{name} ({metric})"


def share(level: float) -> str:
    """A share of the rows, to as many digits as it was given with: ``0.5 %``."""
    return f"{100 * level:.6g} %"


def counted(value: float, like: float | None = None) -> str:
    """A count: whole from 2 on, else to a tenth; as many digits as ``like`` would have."""
    size = abs(value if like is None else like)
    return f"{value:,.0f}" if size >= 2 or size == 0 else f"{value:.1f}"


def _effect(finding: Finding, c: Contrast, gain: Gain | None) -> str:
    """What switching to an arm brings: in positives where they are known, else in the metric."""
    if gain is None:
        return _difference(finding, c)
    caught = _caught(gain)
    at_budget = finding.question.metric == gain.metric
    return caught if at_budget else f"{_difference(finding, c)}; {caught}"


def _caught(gain: Gain) -> str:
    more, low, high = gain.more
    count, way = counted(abs(more)), "fewer" if more < 0 else "more"
    if gain.alerts is None:
        of = f"of {counted(gain.positives)} positives in the test rows"
        start = f"{count} {way} {of} caught at {share(gain.budget)} flagged"
    else:
        start = f"{count} {way} positives caught a month at {counted(gain.alerts)} alerts"
    if not (math.isfinite(low) and math.isfinite(high)):
        return start
    if low * high >= 0:
        ends = sorted((abs(low), abs(high)))
        return f"{start}, between {counted(ends[0], more)} and {counted(ends[1], more)}"
    fewer, further = (counted(abs(end), more) for end in (low, high))
    if not float(fewer.replace(",", "")):
        return f"{start}, between 0 and {further}"
    return f"{start}, between {fewer} fewer and {further} more"


def _difference(finding: Finding, c: Contrast) -> str:
    """How much higher or lower an arm's metric is, with the interval that its verdict rests on."""
    assert c.test is not None
    bounds = c.rows or c.test
    sign = 1 if c.test.difference >= 0 else -1
    way = "higher" if sign > 0 else "lower"
    size, start = abs(c.test.difference), f"{measure(finding.question.metric)} {way} by "
    low, high = sorted((sign * bounds.low, sign * bounds.high))
    if not math.isfinite(low):
        return start + _short(size, size)
    width = max(high - low, size / 1000)  # more decimals would only show rounding
    return f"{start}{_short(size, width)}, between {_short(low, width)} and {_short(high, width)}"


def _within(finding: Finding) -> str:
    question = finding.question
    if question.within is None:
        return ""
    if question.positives is not None:
        positives = counted(question.within * question.positives)
        return f" (within {positives} positives caught a month)"
    return f" (within {question.within:.3g} {measure(question.metric)})"


def _settling(finding: Finding, c: Contrast, base: str) -> str:
    """What would settle the question for an arm, and the training time that it takes."""
    if c.test is None:
        return f"it takes runs with the seeds of {base}"
    if c.more_rows is not None:
        if math.isinf(c.more_rows):
            return "more test rows and more seeds would settle it"
        rows, unit = ("rows", "splits") if finding.ratio is not None else ("test rows", "seeds")
        return f"{words.times_as_many(c.more_rows)} {rows} would settle it, not more {unit}"
    unit = "splits" if finding.ratio is not None else "seeds"
    ways = [n for n in (c.needed, c.needed_equal) if n is not None]
    if ways and min(ways) > c.test.n:
        return f"about {min(ways)} {unit}{words.cost(c, min(ways))} would settle it"
    if ways:
        return f"a few more {unit} may settle it"
    if c.too_few and c.test.n < words.least(finding):
        return f"a verdict takes at least {words.least(finding)} {unit}"
    return f"it would take more than {MAX_PAIRS:,} {unit}"


def listed(names: Sequence[str], word: str = "and") -> str:
    """``a, b and c``; beyond three, the others are counted."""
    shown = list(names[:_SHOWN])
    if len(names) > _SHOWN:
        shown.append(f"{len(names) - _SHOWN} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {word} {shown[-1]}"


def _short(value: float, like: float) -> str:
    """A number to as many decimals as give ``like`` two significant digits."""
    digits = max(0, 1 - math.floor(math.log10(like))) if like else 0
    return f"{value:,.{digits}f}"

"""The answer in a sentence: over every combination of verdicts, in counts and without them."""

import math
from dataclasses import replace
from itertools import product

import pytest

from rarelab.compare.caught import Gain
from rarelab.compare.contrast import (
    BETTER,
    EQUAL,
    NOT_SETTLED,
    WORSE,
    Contrast,
    Finding,
    Question,
    Summary,
)
from rarelab.compare.decision import KEEP, OPEN, SWITCH, decide, short_names
from rarelab.compare.statistics import PairedTest

VERDICTS = (BETTER, WORSE, EQUAL, NOT_SETTLED)
RECALL = "test/recall_at_q/0.005"


def contrast(arm: str, verdict: str, difference: float = 0.03, **given) -> Contrast:
    low, high = difference - 0.02, difference + 0.02
    test = PairedTest("sign-flip", 10, difference, 0.01, low, high, 0.95, 0.002)
    given = {"needed": 15, "seconds": 60.0, **given} if verdict == NOT_SETTLED else given
    own = Summary(arm, 10, 0.8, 0.7, 0.9, 0.01)
    return Contrast(own, [], [], test, None, 0.01, 1.0, 1.0, verdict=verdict, **given)


def finding(*contrasts: Contrast, metric: str = "test/aucpr", **question) -> Finding:
    base = Summary("loss=bce", 10, 0.8, 0.7, 0.9, 0.01)
    asked = Question(metric, "loss=bce", **question)
    return Finding("creditcard", asked, base, contrasts, "", None, [])


def told(*contrasts: Contrast, gains=None, **question) -> str:
    return decide(finding(*contrasts, **question), gains).text


SHIFT = {BETTER: 0.03, WORSE: -0.03, EQUAL: 0.0, NOT_SETTLED: 0.01}


@pytest.mark.parametrize("verdicts", [*product(VERDICTS, repeat=3)])
def test_every_combination_of_verdicts_has_one_answer(verdicts: tuple[str, ...]) -> None:
    arms = [f"loss=arm{i}" for i in range(3)]
    found = decide(
        finding(*(contrast(a, v, SHIFT[v]) for a, v in zip(arms, verdicts, strict=True)))
    )
    starts = {
        SWITCH: "Switch to arm",
        OPEN: "Not settled: whether arm",
        KEEP: "Keep cross-entropy:",
    }
    expected = SWITCH if BETTER in verdicts else OPEN if NOT_SETTLED in verdicts else KEEP
    assert found.kind == expected and found.text.startswith(starts[expected])
    assert found.text.endswith(".") and "\n" not in found.text and "loss=" not in found.text
    for arm, verdict in zip(("arm0", "arm1", "arm2"), verdicts, strict=True):
        silent = expected == SWITCH and verdict in (WORSE, EQUAL)
        assert (arm in found.text) == (not silent)
        if not silent and verdict in (WORSE, EQUAL):
            after = found.text[found.text.index(arm) :]
            assert ("worse" if verdict == WORSE else "practically equal to") in after


def test_the_sentences_of_the_three_answers() -> None:
    a, b, c = "loss=smooth_ap", "loss=recall_at_quantile", "loss=weighted_bce"
    assert told(contrast(a, EQUAL), contrast(b, EQUAL, 0.001), contrast(c, WORSE, -0.05)) == (
        "Keep cross-entropy: smooth_ap and recall_at_quantile are practically equal to it "
        "(within 0.01 AUCPR); weighted_bce is worse."
    )
    assert told(contrast(a, WORSE, -0.05)) == (
        "Keep cross-entropy: smooth_ap is worse than it (AUCPR lower by 0.050, between 0.030 and "
        "0.070)."
    )
    assert told(contrast(a, BETTER, 0.05), contrast(b, BETTER), contrast(c, NOT_SETTLED)) == (
        "Switch to smooth_ap: AUCPR higher by 0.050, between 0.030 and 0.070; recall_at_quantile "
        "is better than cross-entropy too; weighted_bce is not settled."
    )
    assert told(contrast(a, NOT_SETTLED)) == (
        "Not settled: whether smooth_ap is better than cross-entropy; about 15 seeds (5 min more "
        "of training) would settle it; until then there is no reason to switch."
    )
    assert told(contrast(a, NOT_SETTLED), contrast(b, NOT_SETTLED, 0.01)) == (
        "Not settled: whether smooth_ap or recall_at_quantile is better than cross-entropy; for "
        "smooth_ap, about 15 seeds (5 min more of training) would settle it; until then there is "
        "no reason to switch."
    )
    assert told().startswith("Nothing to compare: no other arm than")


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ({"needed": 40, "needed_equal": 25}, "about 25 seeds (15 min more of training) would"),
        ({"needed": 8}, "a few more seeds may settle it"),
        ({"needed": None, "too_few": False}, "it would take more than 1,000 seeds"),
        ({"more_rows": 2.3}, "about 3 times as many test rows would settle it, not more seeds"),
        ({"more_rows": math.inf}, "more test rows and more seeds would settle it"),
        ({"test": None}, "it takes runs with the seeds of cross-entropy"),
    ],
)
def test_what_would_settle_it(given: dict, answer: str) -> None:
    one = contrast("loss=smooth_ap", NOT_SETTLED)
    assert f"; {answer}" in told(replace(one, **given))


def test_over_splits_it_takes_more_rows_in_all_and_not_more_test_rows() -> None:
    one = replace(contrast("loss=smooth_ap", NOT_SETTLED), more_rows=2.3)
    found = decide(replace(finding(one), ratio=0.125), None).text
    assert "; about 3 times as many rows would settle it, not more splits" in found


def test_too_few_pairs_for_any_verdict_say_how_many_it_takes() -> None:
    one = contrast("loss=smooth_ap", NOT_SETTLED, needed=None)
    one = replace(one, test=replace(one.test, n=1))
    assert "; a verdict takes at least 6 seeds; " in told(one)


BY_MONTH = Gain((12.2, 4.1, 20.3), 100.0, 0.005, 200.0, RECALL)
ON_TEST_ROWS = Gain((9.0, 2.6, 15.0), 352, 0.005, None, RECALL)


@pytest.mark.parametrize(
    ("gain", "answer"),
    [
        (BY_MONTH, "12 more positives caught a month at 200 alerts, between 4 and 20"),
        (
            ON_TEST_ROWS,
            "9 more of 352 positives in the test rows caught at 0.5 % flagged, between 3 and 15",
        ),
        (
            Gain((1.5, -0.25, 3.2), 100.0, 0.005, 5000.0, RECALL),
            "1.5 more positives caught a month at 5,000 alerts, between 0.2 fewer and 3.2 more",
        ),
        (
            Gain((7.0, -0.4, 13.2), 65, 0.005, None, RECALL),
            "7 more of 65 positives in the test rows caught at 0.5 % flagged, between 0 and 13",
        ),
        (
            Gain((-12.0, -20.0, -4.0), 100.0, 0.005, 200.0, RECALL),
            "12 fewer positives caught a month at 200 alerts, between 4 and 20",
        ),
        (
            Gain((12.0, -math.inf, math.inf), 100.0, 0.005, 200.0, RECALL),
            "12 more positives caught a month at 200 alerts",
        ),
    ],
)
def test_a_switch_is_told_in_positives_caught(gain: Gain, answer: str) -> None:
    one, gains = contrast("loss=smooth_ap", BETTER), {"loss=smooth_ap": gain}
    assert told(one, gains=gains, metric=RECALL) == f"Switch to smooth_ap: {answer}."
    first = "AUCPR higher by 0.030, between 0.010 and 0.050"
    assert told(one, gains=gains) == f"Switch to smooth_ap: {first}; {answer}."
    # The recall of another share than the budget is a metric like any other.
    assert told(one, gains=gains, metric="test/recall_at_q/0.02") == (
        f"Switch to smooth_ap: recall higher by 0.030, between 0.010 and 0.050; {answer}."
    )


def test_lower_is_better_where_the_metric_says_so() -> None:
    found = told(
        contrast("loss=a", BETTER, -0.03), contrast("loss=b", BETTER, -0.05), metric="test/brier"
    )
    assert found.startswith(
        "Switch to b: Brier lower by 0.050, between 0.030 and 0.070; a is better"
    )


def test_a_margin_in_positives_is_told_in_positives() -> None:
    one = contrast("loss=smooth_ap", EQUAL, 0.0)
    assert "(within 5 positives caught a month)" in told(
        one, metric=RECALL, margin=0.05, positives=100.0
    )
    assert "(within 0.05 recall)" in told(one, metric=RECALL, margin=0.05)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["loss=smooth_ap"], ["cross-entropy", "smooth_ap"]),
        (["loss=cross_entropy"], ["bce", "cross_entropy"]),
        (["arm=legacy"], ["cross-entropy", "legacy"]),
        (["loss=smooth_ap queue_size=8"], ["loss=bce", "loss=smooth_ap queue_size=8"]),
        (["model=a", "loss=a"], ["loss=bce", "model=a", "loss=a"]),
    ],
)
def test_arms_are_named_by_their_value_where_that_tells_them_apart(labels, names) -> None:
    found = short_names(finding(*(contrast(label, EQUAL) for label in labels)))
    assert list(found.values()) == names


def test_many_arms_are_counted() -> None:
    arms = [contrast(f"loss=arm{i}", EQUAL, -i / 1000) for i in range(6)]
    assert "arm0, arm1, arm2 and 3 more are practically equal to it" in told(*arms)

"""Recall in positives caught: margins that are given so, and what a switch brings."""

from pathlib import Path

import numpy as np
import pytest

from rarelab.compare import words
from rarelab.compare.caught import Caught, gains, is_recall, parsed
from rarelab.compare.contrast import EQUAL, NOT_SETTLED
from rarelab.compare.costs import Costs
from rarelab.compare.report import asked
from rarelab.compare.study import Options, Study, study
from rarelab.errors import RequestError
from rarelab.records.load import Records
from recorded import CREDITCARD, leave_files, record, scored

RECALL = "test/recall_at_q/0.005"
BASE = 0.5 + 0.02 * np.random.default_rng(0).normal(size=10)
NOISE = 0.002 * np.random.default_rng(1).normal(size=10)


def ask(home: Path, **options) -> Study:
    given = {"metric": RECALL, "baseline": "bce", **options}
    return study(Records(home), Options(experiment="study", **given))


def recalls(home: Path, data: str = "creditcard", rate: float = 0.01, **extra: float) -> None:
    arms = (("bce", BASE), ("smooth_ap", BASE + 0.01 + NOISE))
    for loss, values in arms:
        for seed, value in enumerate(values):
            metrics = {RECALL: value, "test/aucpr": value, "test/prevalence": rate, **extra}
            told = {**CREDITCARD, "dataset": data}
            tags = {"rarelab.rows": "600/150/4000"}
            record(home, {"loss": loss}, seed, metrics, data=told, tags=tags)


@pytest.mark.parametrize(
    ("costs", "caught", "margin"),
    [
        (Costs(rows_per_month=20_000), 4, 0.02),
        (Costs(rows_per_month=20_000), 1, 0.005),
        (Costs(alerts_per_month=200), 8, 0.02),
    ],
)
def test_a_margin_in_positives_is_one_of_recall(home: Path, costs, caught, margin) -> None:
    """Of 20 000 rows at 1 % positive 200 are positive: 4 of them are a recall of 0.02."""
    recalls(home)
    found = ask(home, margin=Caught(caught), costs=costs)
    plain = ask(home, margin=margin)
    (one,), (other,) = found.findings, plain.findings
    assert one.question.within == pytest.approx(margin)
    assert one.contrasts[0].p_equal == pytest.approx(other.contrasts[0].p_equal)
    assert one.contrasts[0].verdict == other.contrasts[0].verdict
    assert (one.contrasts[0].verdict == EQUAL) == (margin == 0.02)
    assert f"less than {margin:g} ({caught} positives caught a month) from" in words.margin(one)
    assert (
        f"less than {margin:g} ({caught} caught a month) counts as equal"
        in dict(asked(found))["Judged by"]
    )
    if margin == 0.02:
        assert found.decisions[0].text == (
            "Keep cross-entropy: smooth_ap is practically equal to it "
            f"(within {caught} positives caught a month)."
        )


def test_a_number_is_told_in_positives_too_where_the_rows_of_a_month_are_known(home: Path) -> None:
    recalls(home)
    (finding,) = ask(home, margin=0.02, costs=Costs(rows_per_month=20_000)).findings
    assert "less than 0.02 (4 positives caught a month)" in words.margin(finding)
    (finding,) = ask(home, margin=0.02).findings
    assert "caught" not in words.margin(finding)
    costs = Costs(rows_per_month=20_000)
    (finding,) = ask(home, metric="test/aucpr", costs=costs).findings
    assert words.margin(finding) == "practically equal: less than 0.01 from loss=bce"


def test_every_data_set_has_its_own_rate_of_positives(home: Path) -> None:
    recalls(home, "creditcard", 0.01)
    recalls(home, "letter", 0.05)
    found = ask(home, margin=Caught(4), costs=Costs(rows_per_month=20_000))
    assert [f.question.within for f in found.findings] == pytest.approx([0.02, 0.004])
    assert [f.contrasts[0].verdict for f in found.findings] != [EQUAL, EQUAL]
    assert len(found.decisions) == 2


@pytest.mark.parametrize(
    ("extra", "caught", "answer"),
    [
        ({"rate": 0.0}, 4, "have no test/prevalence of two classes"),
        ({"test/class/a/aucpr": 0.5}, 4, "have no test/prevalence of two classes"),
        ({}, 300, "margin=300 caught: on creditcard only 200 positives occur in 20,000 rows"),
    ],
)
def test_a_margin_that_cannot_be_converted_is_refused(home: Path, extra, caught, answer) -> None:
    recalls(home, **extra)
    with pytest.raises(RequestError, match=answer) as error:
        ask(home, margin=Caught(caught), costs=Costs(rows_per_month=20_000))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "positives"),
    [("5 caught", 5.0), (" 2.5  caught ", 2.5), ("5", None), ("caught", None), ("-5 caught", None)],
)
def test_a_margin_is_read_as_written(text: str, positives: float | None) -> None:
    found = parsed(text)
    assert (found and found.positives) == positives


@pytest.mark.parametrize(
    ("metric", "counts"),
    [
        (RECALL, True),
        ("test/recall_at_budget", True),
        ("test/recall_at_fpr/0.01", True),
        ("test/value_recall_at_budget", False),
        ("test/precision_at_q/0.01", False),
        ("test/class/a/recall_at_q/0.01", False),
        ("val/recall_at_q/0.01", False),
    ],
)
def test_only_a_recall_of_the_test_rows_is_a_count(metric: str, counts: bool) -> None:
    assert is_recall(metric) == counts


def test_gains_are_counted_a_month_or_on_the_test_rows(home: Path) -> None:
    recalls(home)
    found = ask(home)
    (finding,), (data,) = found.findings, found.data_sets
    test = finding.contrasts[0].test
    monthly = gains(data, finding, Costs(rows_per_month=20_000), 0.005)["loss=smooth_ap"]
    assert monthly.more == pytest.approx((200 * test.difference, 200 * test.low, 200 * test.high))
    assert (monthly.positives, monthly.alerts) == pytest.approx((200, 100))
    tested = gains(data, finding, Costs(), 0.005)["loss=smooth_ap"]
    assert (tested.positives, tested.alerts) == (40, None)
    assert tested.more == pytest.approx(tuple(v / 5 for v in monthly.more))


def test_what_a_switch_brings_is_computed_at_the_budget_from_kept_predictions(home: Path) -> None:
    for loss, shift in (("bce", 1.0), ("smooth_ap", 2.5)):
        for seed in range(6):
            directory = home / "runs" / "study" / f"{loss}-{seed}"
            own = scored(2000, 60, shift, draw=5, noise=0.1, seed=seed)
            record(home, {"loss": loss}, seed, leave_files(directory, *own), directory=directory)
    found = ask(home, metric="test/aucpr", budget=0.03)
    recall = ask(home, metric="test/recall_at_q/0.03", budget=0.03)
    rows = recall.findings[0].contrasts[0].rows
    told = f"{60 * rows.difference:.0f} more of 60 positives in the test rows caught at 3 % flagged"
    ends = f"between {60 * rows.low:.0f} and {60 * rows.high:.0f}."
    assert recall.decisions[0].text == f"Switch to smooth_ap: {told}, {ends}"
    assert found.decisions[0].text.endswith(f"; {told}, {ends}")
    assert found.decisions[0].text.startswith("Switch to smooth_ap: AUCPR higher by 0.")
    by_month = ask(home, metric="test/aucpr", budget=0.03, costs=Costs(alerts_per_month=300))
    assert "caught a month at 300 alerts" in by_month.decisions[0].text


def test_nothing_is_counted_where_nothing_is_known(home: Path) -> None:
    for loss, values in (("bce", BASE), ("smooth_ap", BASE + 0.1 + NOISE)):
        for seed, value in enumerate(values):
            record(home, {"loss": loss}, seed, {"test/aucpr": value})
    found = ask(home, metric="test/aucpr")
    assert found.decisions[0].text.startswith("Switch to smooth_ap: AUCPR higher by 0.10")
    assert "caught" not in found.decisions[0].text
    assert found.findings[0].contrasts[0].verdict != NOT_SETTLED

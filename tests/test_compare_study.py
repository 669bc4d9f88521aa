"""From records to verdicts: what is found, reported and refused."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scikit_posthocs
from scipy import stats

from rarelab.compare import power, words
from rarelab.compare.contrast import BETTER, EQUAL, NOT_SETTLED, WORSE, _beside_rows
from rarelab.compare.costs import Costs
from rarelab.compare.pairs import DRAWN, FIXED, SPLITS, UNKNOWN
from rarelab.compare.study import Options, Study, study
from rarelab.compare.two_runs import compare_pair
from rarelab.errors import RequestError
from rarelab.records.load import Records
from recorded import BCE, CREDITCARD, SMOOTH_AP, TOY, leave_files, paired, record, scored

RNG = np.random.default_rng(0)
BASE = 0.5 + 0.02 * RNG.normal(size=20)
NOISE = 0.01 * RNG.normal(size=20)


def ask(home: Path, **options) -> Study:
    return study(Records(home), Options(experiment="study", **options))


def only(home: Path, **options):
    (finding,) = ask(home, **options).findings
    (contrast,) = finding.contrasts
    return finding, contrast


@pytest.mark.parametrize(
    ("n", "shift", "verdict"),
    [
        (10, 0.03, BETTER),
        (10, -0.03, WORSE),
        (10, 0.0, EQUAL),
        (20, 0.03, BETTER),
        (2, 0.3, NOT_SETTLED),
        (1, 0.3, NOT_SETTLED),
        (5, 0.3, NOT_SETTLED),
    ],
)
def test_the_verdict_on_one_arm(home: Path, n: int, shift: float, verdict: str) -> None:
    paired(home, {"bce": BASE[:n], "smooth_ap": BASE[:n] + shift + NOISE[:n]})
    finding, contrast = only(home, baseline="bce")
    assert contrast.verdict == verdict
    assert contrast.test.n == n
    d = (BASE[:n] + shift + NOISE[:n]) - BASE[:n]
    assert contrast.test.difference == pytest.approx(d.mean())
    assert words.headline(finding).endswith(verdict)
    if n > 5:
        inside = contrast.test.low <= 0 <= contrast.test.high
        assert inside == (verdict not in (BETTER, WORSE))


def test_equal_needs_a_margin_wider_than_the_noise(home: Path) -> None:
    paired(home, {"bce": BASE[:10], "smooth_ap": BASE[:10] + 0.005 + 2 * NOISE[:10]})
    finding, contrast = only(home, baseline="bce")
    told = words.sentence(finding, contrast)
    assert contrast.verdict == NOT_SETTLED and "within 0.01" in told
    finding, contrast = only(home, baseline="bce", margin=0.05)
    told = words.sentence(finding, contrast)
    assert contrast.verdict == EQUAL and "0.05 or more apart: p < 0.001" in told
    assert words.margin(finding) == "practically equal: less than 0.05 from loss=bce"
    assert contrast.chances.equal > 0.99 and sum(contrast.chances) == pytest.approx(1)


def test_the_pairs_that_would_show_equality_are_enough_for_its_test(home: Path) -> None:
    near = {"bce": BASE[:3], "smooth_ap": BASE[:3] + np.array([0.0, 1e-4, -1e-4])}
    paired(home, near)
    contrast = only(home, baseline="bce")[1]
    assert contrast.verdict == NOT_SETTLED and contrast.needed_equal == 5  # 1 / 2^5 <= 5 %


def test_a_certain_difference_within_the_margin_is_practically_equal(home: Path) -> None:
    paired(home, {"bce": BASE[:10], "smooth_ap": BASE[:10] + 0.003 + 0.1 * NOISE[:10]})
    assert only(home, baseline="bce")[1].verdict == EQUAL
    assert only(home, baseline="bce", margin=0.001)[1].verdict == BETTER


def test_chances_follow_the_direction_of_the_metric_which_may_have_no_usual_margin(
    home: Path,
) -> None:
    cheaper = {"bce": BASE[:8], "smooth_ap": BASE[:8] - 0.1 + NOISE[:8]}
    paired(home, cheaper, "test/brier")
    paired(home, cheaper, "test/expected_cost")
    assert only(home, baseline="bce", metric="test/brier", margin=0.01)[1].chances.better > 0.99
    finding, contrast = only(home, baseline="bce", metric="test/expected_cost")
    assert contrast.chances is None and "no margin is set" in words.margin(finding)


@pytest.mark.parametrize(("level", "least"), [(0.95, 6), (0.99, 8), (0.999, 11)])
def test_two_seeds_are_too_few_and_the_number_needed_is_stated(
    home: Path, level: float, least: int
) -> None:
    paired(home, {"bce": [0.5, 0.52], "smooth_ap": [0.6, 0.63]})
    finding, contrast = only(home, baseline="bce", level=level)
    told = words.sentence(finding, contrast)
    assert NOT_SETTLED in told and f"fewer than {least} seeds" in told
    assert contrast.needed >= least and f"about {contrast.needed} seeds" in told


@pytest.mark.parametrize(
    "metric", ["test/brier", "test/calibrated/ece", "test/expected_cost", "train/zero_grad_frac"]
)
def test_lower_is_better_for_errors_costs_and_dead_gradients(home: Path, metric: str) -> None:
    paired(home, {"bce": BASE[:8], "smooth_ap": BASE[:8] - 0.1 + NOISE[:8]}, metric)
    assert only(home, baseline="bce", metric=metric)[1].verdict == BETTER


def test_a_metric_outside_the_table_is_noted_as_taken_higher_is_better(
    home: Path,
) -> None:
    paired(home, {"bce": BASE[:8], "smooth_ap": BASE[:8] - 0.1 + NOISE[:8]}, "test/f1")
    finding, contrast = only(home, baseline="bce", metric="test/f1")
    assert contrast.verdict == WORSE
    assert "test/f1: not one of rarelab's own metrics, assuming higher is better" in finding.notes
    paired(home, {"bce": BASE[:8], "smooth_ap": BASE[:8]}, "best/epoch")
    with pytest.raises(RequestError, match="metric=best/epoch: neither higher nor lower"):
        ask(home, baseline="bce", metric="best/epoch")


@pytest.mark.parametrize(("metric", "high"), [("test/aucpr", 1.0), ("test/expected_cost", None)])
def test_the_interval_of_a_mean_proportion_is_clipped_at_one(home: Path, metric: str, high) -> None:
    paired(home, {"bce": [0.9, 0.99], "smooth_ap": [0.8, 0.9]}, metric)
    (finding,) = ask(home, baseline="bce", metric=metric).findings
    assert finding.baseline.low == pytest.approx(0.945 - 0.5718, abs=1e-3)
    assert finding.baseline.high == pytest.approx(high or 0.945 + 0.5718, abs=1e-3)


def test_holm_is_over_all_arms_of_the_data_set(home: Path) -> None:
    arms = {f"loss_{i}": BASE[:7] + 0.03 + NOISE[i : i + 7] for i in range(3)}
    paired(home, {"bce": BASE[:7], **arms})
    (finding,) = ask(home, baseline="bce").findings
    # The least p is 2 / 2^7 = 0.0156: significant with up to three arms, not with four.
    assert {c.test.p for c in finding.contrasts} == {0.015625}
    assert [c.p_holm for c in finding.contrasts] == pytest.approx([3 * 0.015625] * 3)
    paired(home, {"loss_4": BASE[:7] + NOISE[:7]})
    (finding,) = ask(home, baseline="bce").findings
    assert {c.verdict for c in finding.contrasts} == {NOT_SETTLED}
    assert "fewer than 8 seeds" in words.sentence(finding, finding.contrasts[0])


@pytest.mark.parametrize("name", ["bce", "loss=bce", None])
def test_a_baseline_may_be_named_by_any_value_that_identifies_it(home: Path, name) -> None:
    paired(home, {"bce": BASE[:3], "smooth_ap": BASE[:3]})
    assert ask(home, baseline=name).question.baseline == "loss=bce"


def test_a_baseline_among_several_arms_of_one_loss(home: Path) -> None:
    for size in ("1024", "8192"):
        record(home, {**SMOOTH_AP, "loss.queue_size": size}, 0, {"test/aucpr": 0.5})
    record(home, BCE, 0, {"test/aucpr": 0.4})
    expected = "loss=smooth_ap queue_size=8192"
    for name in ("8192", "queue_size=8192", "loss.queue_size=8192", "smooth_ap 8192", expected):
        assert ask(home, baseline=name).question.baseline == expected
    with pytest.raises(RequestError, match="2 arms match; choose from: 'loss=smooth_ap queue"):
        ask(home, baseline="smooth_ap")


@pytest.mark.parametrize("name", ["bce", None])
def test_a_baseline_of_each_model_leads_to_a_comparison_within_each(home: Path, name) -> None:
    for model in ("mlp", "lightgbm"):
        for loss in (BCE, SMOOTH_AP):
            record(home, {"model": model, **loss}, 0, {"test/aucpr": 0.5})
    with pytest.raises(
        RequestError, match=r"2 arms match; .*, or compare within each: within=\[model\]$"
    ):
        ask(home, baseline=name)
    assert ask(home, baseline=name, within=["model"]).question.baseline == "loss=bce"


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ({"baseline": "smoth_ap"}, "no arm matches; did you mean 'smooth_ap'"),
        ({"metric": "test/aucprr"}, "no run has it; did you mean 'test/aucpr'"),
        ({"sweep": "s2"}, "no run belongs to it; did you mean 's1'"),
        ({"metric": "test/only_smooth"}, "baseline=loss=bce: it has no usable run"),
        ({"costs": Costs(1.0, rows_per_month=1e6)}, "budget=0.005: not recorded"),
    ],
)
def test_a_wrong_request_is_answered_in_one_line(home: Path, options, answer: str) -> None:
    tags = {"rarelab.sweep": "s1"}
    record(home, BCE, 0, {"test/aucpr": 0.5}, tags=tags)
    record(home, SMOOTH_AP, 0, {"test/aucpr": 0.6, "test/only_smooth": 1.0}, tags=tags)
    with pytest.raises(RequestError) as error:
        ask(home, **options)
    assert answer in str(error.value) and "\n" not in str(error.value)


def test_a_study_without_two_usable_arms_is_refused(home: Path) -> None:
    record(home, BCE, 0, {"test/aucpr": 0.5})
    with pytest.raises(RequestError, match="a comparison needs two configurations"):
        ask(home)
    record(home, SMOOTH_AP, 0, {"test/aucpr": 0.5}, status="diverged")
    with pytest.raises(RequestError, match="no other arm has a usable run"):
        ask(home)


def test_unusable_runs_are_named(home: Path) -> None:
    paired(home, {"bce": BASE[:8], "smooth_ap": BASE[:6] + 0.03})
    record(home, {"loss": "bce"}, 3, {"test/aucpr": 0.9}, status="diverged")
    newest = record(home, {"loss": "smooth_ap"}, 1, {"test/aucpr": 0.8})
    record(home, {"loss": "smooth_ap"}, 2, {"test/aucpr": float("nan")})
    record(home, {"loss": "bce"}, 0, {"test/aucpr": BASE[0]})
    record(home, {"loss": "smooth_ap"}, 5, {}, status="running")
    finding, contrast = only(home, baseline="bce")
    notes = "\n".join(finding.notes)
    assert "loss=bce: diverged, left out: seed 3 (split 0)" in notes
    assert f"recorded 2 times, with different values; the newest is used ({newest})" in notes
    assert "seed 0 (split 0) was recorded 2 times, with equal values" in notes
    assert "test/aucpr is not finite, left out: seed 2" in notes
    assert "loss=smooth_ap: still running, left out: seed 5" in notes
    assert "loss=smooth_ap: no usable run for seed 6 (split 0), seed 7 (split 0)" in notes
    assert contrast.test.n == 6
    assert contrast.differences[1] == pytest.approx(0.8 - BASE[1])


def test_runs_on_different_rows_are_not_paired(home: Path) -> None:
    paired(home, {"bce": BASE[:7]}, digest="a")
    paired(home, {"smooth_ap": BASE[:6] + 0.1}, digest="a")
    record(home, {"loss": "smooth_ap"}, 6, {"test/aucpr": 0.9}, digest="b")
    finding, contrast = only(home, baseline="bce")
    assert contrast.test.n == 6
    assert "seed 6 (split 0) used different rows than loss=bce: not a pair" in "".join(
        finding.notes
    )


def test_arms_without_a_common_seed_are_not_compared(home: Path) -> None:
    record(home, BCE, 0, {"test/aucpr": 0.5})
    record(home, SMOOTH_AP, 1, {"test/aucpr": 0.5})
    finding, contrast = only(home)
    assert contrast.test is None and contrast.verdict == NOT_SETTLED
    assert "no seed in common" in words.sentence(finding, contrast)


def test_what_varies_between_seeds_is_read_from_the_data_digests(home: Path) -> None:
    for seed in range(6):
        for loss in ("bce", "smooth_ap"):
            for experiment, data, digest in (
                ("fixed", CREDITCARD, "a"),
                ("drawn", TOY, f"rows of {seed}"),
                ("splits", {**CREDITCARD, "dataset.split_seed": str(seed)}, f"split {seed}"),
                ("unknown", {}, None),
            ):
                record(
                    home, {"loss": loss}, seed, {"test/aucpr": BASE[seed]},
                    experiment=experiment, data=data, digest=digest,
                    tags={"rarelab.rows": "600/150/300"},
                )  # fmt: skip
    found = {
        name: study(Records(home), Options(experiment=name)).findings[0]
        for name in ("fixed", "drawn", "splits", "unknown")
    }
    assert {name: finding.varied for name, finding in found.items()} == {
        "fixed": FIXED, "drawn": DRAWN, "splits": SPLITS, "unknown": UNKNOWN,
    }  # fmt: skip
    assert found["splits"].ratio == 0.5 and found["splits"].contrasts[0].test.n == 6
    assert "one fixed split" in words.varied(found["fixed"])
    assert "drawn anew" in words.varied(found["drawn"])
    assert "corrected resampled t" in words.test_names(found["splits"])
    assert "do not say" in words.varied(found["unknown"])


def test_seeds_on_one_split_count_as_one_split(home: Path) -> None:
    for split in range(6):
        data = {**CREDITCARD, "dataset.split_seed": str(split)}
        for seed in range(3):
            base = BASE[split] + NOISE[seed]
            for loss, shift in (("bce", 0.0), ("smooth_ap", 0.02 + 0.01 * NOISE[split])):
                metrics = {"test/aucpr": base + shift}
                record(home, {"loss": loss}, seed, metrics, data=data, digest=f"{split}")
    finding, contrast = only(home)
    assert contrast.test.n == len(contrast.differences) == 6
    assert finding.baseline.n == 18
    expected = stats.t.ppf(0.975, 5) * math.sqrt(
        (1 / 6 + 0.25 / 0.6) * np.var(contrast.differences, ddof=1)
    )
    assert contrast.test.high - contrast.test.difference == pytest.approx(expected)


def with_rows(home: Path, arms: dict[str, float], *, rows: int, seeds: int, noise: float) -> None:
    for loss, shift in arms.items():
        for seed in range(seeds):
            directory = home / "runs" / "study" / f"{loss}-{seed}"
            own = scored(rows, rows // 50, shift, draw=5, noise=noise, seed=seed)
            metrics = leave_files(directory, *own)
            record(home, {"loss": loss}, seed, metrics, directory=directory)


def test_on_one_split_the_test_rows_are_part_of_the_verdict(home: Path) -> None:
    """Seeds that agree on 400 rows with 8 positives say nothing about other rows."""
    with_rows(home, {"bce": 1.5, "smooth_ap": 1.7}, rows=400, seeds=8, noise=0.02)
    finding, contrast = only(home)
    assert contrast.test.p < 0.01 and contrast.rows.p > 0.05
    assert contrast.p == contrast.p_holm == contrast.rows.p
    assert contrast.verdict == NOT_SETTLED
    assert "times as many test rows, not more seeds" in words.sentence(finding, contrast)
    assert "includes the noise of the test rows (400, 8 positive" in words.varied(finding)


def test_more_seeds_do_not_make_up_for_few_test_rows(home: Path) -> None:
    def pairs(rows_error: float) -> int | None:
        c: Any = SimpleNamespace(rows=SimpleNamespace(rows_error=rows_error))
        return _beside_rows(c, 7, 0.03, 0.05, 0.02)

    assert (pairs(0.0), pairs(0.01), pairs(0.02)) == (7, 28, None)
    # Seeds that disagree, on 8 positives: more of them would settle it on these rows alone.
    with_rows(home, {"bce": 1.5, "smooth_ap": 1.505}, rows=400, seeds=6, noise=0.2)
    finding, contrast = only(home)
    assert power.pairs_needed(contrast.effect, 0.05) is not None and contrast.test.p > 0.05
    assert contrast.needed is None and contrast.more_rows == math.inf
    assert "a verdict would take more of them and more seeds" in words.sentence(finding, contrast)


def test_seeds_and_rows_agree_with_enough_rows(home: Path) -> None:
    with_rows(home, {"bce": 1.0, "smooth_ap": 2.0}, rows=5000, seeds=6, noise=0.1)
    contrast = only(home)[1]
    assert contrast.verdict == BETTER and contrast.rows.low > 0
    assert contrast.rows.resamples == 2000 and contrast.rows.positives == 100
    recall = only(home, metric="test/recall_at_q/0.01")[1]
    assert recall.rows is not None and recall.verdict == BETTER
    auroc = only(home, metric="test/auroc")
    assert auroc[1].rows is None and "rests on the seeds only" in "".join(auroc[0].notes)


def test_predictions_that_are_not_the_runs_own_are_not_used(home: Path) -> None:
    with_rows(home, {"bce": 1.0, "smooth_ap": 2.0}, rows=500, seeds=6, noise=0.1)
    leave_files(home / "runs" / "study" / "bce-0", *scored(500, 10, 3.0, draw=5))
    finding, contrast = only(home)
    assert contrast.rows is None
    assert "do not give the recorded test/aucpr" in "".join(finding.notes)
    (home / "runs" / "study" / "bce-0" / "predictions.parquet").unlink()
    assert "missing for 1 of 12 runs" in "".join(only(home)[0].notes)


def test_a_pair_of_runs_is_compared_over_the_test_rows(home: Path) -> None:
    with_rows(home, {"bce": 1.0, "smooth_ap": 2.5}, rows=3000, seeds=1, noise=0.1)
    records = Records(home)
    first, second = sorted(records.runs("study"), key=lambda run: run.name)
    told = compare_pair(records, first, second, "test/aucpr", 0.95).text()
    assert told.startswith(f"loss=smooth_ap ({second.run_id[:8]}) against loss=bce")
    assert ": better\n" in told and "3,000 test rows (60 positive)" in told
    assert ": worse\n" in compare_pair(records, second, first, "test/aucpr", 0.95).text()
    same = compare_pair(records, first, first, "test/aucpr", 0.95).text()
    assert ": not settled\n" in same and "p = 1.000" in same
    with pytest.raises(RequestError, match=r"did you mean 'test/recall_at_q/0\.005'"):
        compare_pair(records, first, second, "test/recall_at_q", 0.95)
    lone = record(home, BCE, 9, {"test/aucpr": 0.5})
    with pytest.raises(RequestError, match=r"it has no predictions\.parquet"):
        compare_pair(records, first, records.run(lone), "test/aucpr", 0.95)


def over_data_sets(home: Path, arms: int, sets: int) -> np.ndarray:
    table = np.random.default_rng(4).normal(0.5, 0.02, size=(sets, arms)) + 0.02 * np.arange(arms)
    for row in range(sets):
        data = {**TOY, "dataset": f"set{row}"}
        for arm in range(arms):
            for seed in range(2):
                spread = 0.001 if seed else -0.001
                metrics = {"test/aucpr": table[row, arm] + spread}
                loss = {"loss": f"loss{arm}"}
                record(home, loss, seed, metrics, data=data, digest=f"{row}/{seed}")
    return table


def test_several_data_sets_count_once_each_and_agree_with_scipy_and_scikit_posthocs(
    home: Path,
) -> None:
    table = over_data_sets(home, arms=4, sets=6)
    found = ask(home, baseline="loss0").across
    expected = stats.friedmanchisquare(*table.T)
    assert (found.test, found.data_sets) == ("Friedman", 6)
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    nemenyi = scikit_posthocs.posthoc_nemenyi_friedman(table)
    np.testing.assert_allclose(found.post_hoc.to_numpy(), nemenyi.to_numpy())
    ranks = (-table).argsort(axis=1).argsort(axis=1).mean(axis=0) + 1
    assert list(found.ranks.values()) == pytest.approx(ranks)
    told = " ".join(words.across(found, 0.05))
    assert "over 6 data sets (each counts once" in told and "fewer than 10 data sets" in told


def test_two_arms_over_data_sets_use_wilcoxons_test(home: Path) -> None:
    table = over_data_sets(home, arms=2, sets=6)
    found = ask(home, baseline="loss0").across
    assert found.p == pytest.approx(stats.wilcoxon(table[:, 0] - table[:, 1]).pvalue)
    assert found.post_hoc is None


def test_an_arm_missing_from_a_data_set_is_named(home: Path) -> None:
    over_data_sets(home, arms=2, sets=2)
    record(home, {"loss": "extra"}, 0, {"test/aucpr": 0.1}, data={**TOY, "dataset": "set0"})
    assert ask(home, baseline="loss0").across.notes == [
        "loss=extra: missing from some data sets, left out of the ranks"
    ]


def test_costs_are_reported_per_month(home: Path) -> None:
    for loss, recall in (("bce", 0.5), ("smooth_ap", 0.6)):
        for seed in range(6):
            metrics = {
                "test/aucpr": 0.5,
                "test/recall_at_q/0.005": recall + NOISE[seed],
                "test/prevalence": 0.002,
            }
            record(home, {"loss": loss}, seed, metrics)
    costs = Costs(5.0, 100.0, rows_per_month=1e6, currency="EUR")
    (told,) = ask(home, costs=costs).monthly
    assert told.alerts == 5000
    assert told.caught == pytest.approx((200, 200, 200))
    assert told.saved == pytest.approx((21_000, 21_000, 21_000))
    line = words.monthly(told, "EUR")
    assert (
        "+200.0 [+200.0, +200.0] positives caught" in line and "+21,000" in line and "EUR" in line
    )
    (by_alerts,) = ask(home, costs=Costs(5.0, 100.0, alerts_per_month=5000)).monthly
    assert by_alerts.saved == pytest.approx(told.saved)


def test_a_missed_positive_can_cost_its_amount(home: Path) -> None:
    for loss, recall, value in (("bce", 0.5, 0.4), ("smooth_ap", 0.6, 0.35)):
        for seed in range(6):
            metrics = {
                "test/aucpr": 0.5,
                "test/recall_at_q/0.005": recall + NOISE[seed],
                "test/value_recall_at_q/0.005": value + NOISE[seed],
                "test/prevalence": 0.002,
                "test/amount_per_row": 0.3,
            }
            record(home, {"loss": loss}, seed, metrics)
    costs = Costs(5.0, "amount", rows_per_month=1e6, currency="EUR")
    (told,) = ask(home, costs=costs).monthly
    assert told.value == pytest.approx((-15_000, -15_000, -15_000))  # 300 000 a month, -5 %
    assert told.caught == pytest.approx((200, 200, 200))
    assert told.saved == pytest.approx((1000, 1000, 1000)), "the false alerts alone"
    line = words.monthly(told, "EUR")
    assert line == (
        "creditcard, loss=smooth_ap (worse): -15,000 [-15,000, -15,000] EUR of value caught; "
        "+200.0 [+200.0, +200.0] positives caught; misses and false alerts change by the opposite; "
        "fewer false alerts save +1,000.0 [+1,000.0, +1,000.0] EUR"
    )
    (alone,) = ask(home, costs=Costs(missed_positive="amount", rows_per_month=1e6)).monthly
    assert alone.saved is None and alone.value == told.value


def test_costs_by_amount_need_runs_that_kept_amounts(home: Path) -> None:
    metrics = {"test/aucpr": 0.5, "test/recall_at_q/0.005": 0.4, "test/prevalence": 0.002}
    for loss in ("bce", "smooth_ap"):
        record(home, {"loss": loss}, 0, metrics)
    costs = Costs(missed_positive="amount", rows_per_month=1e6)
    with pytest.raises(RequestError, match="no run kept the amounts of its test rows"):
        ask(home, costs=costs)


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ({"costs": Costs(1.0)}, "costs.rows_per_month: expected a number"),
        (
            {"costs": Costs(1.0, rows_per_month=1.0, alerts_per_month=1.0)},
            "expected only one of them",
        ),
        ({"level": 1.0}, "level=1: expected"),
        ({"budget": 0.0}, "budget=0: expected"),
        ({"runs": ["a"]}, "expected two run ids, got 1"),
        ({"experiment": None}, "expected the name of a recorded experiment"),
    ],
)
def test_invalid_options_are_refused(options, answer: str) -> None:
    with pytest.raises(RequestError, match=answer):
        Options(**{"experiment": "study", **options}).check()


def test_arms_that_tie_on_every_data_set_do_not_divide_by_zero(home: Path) -> None:
    for name in ("a", "b"):
        values = [0.1, 0.2, 0.3, 0.7]
        arms = {f"loss{arm}": values[arm:] + values[:arm] for arm in range(3)}
        paired(home, arms, data={**TOY, "dataset": name}, digest=None)
    found = ask(home, baseline="loss0").across
    assert (found.statistic, found.p) == (0.0, 1.0)
    assert set(found.ranks.values()) == {2.0}

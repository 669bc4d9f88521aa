"""A comparison over several splits: which they are, its correction, what would settle it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import pytest

from rarelab.compare import power, words
from rarelab.compare.arms import group
from rarelab.compare.contrast import NOT_SETTLED, Contrast, Finding, Question, compare
from rarelab.compare.pairs import SPLITS
from rarelab.records.load import Run

METRIC = "test/aucpr"
CV = {"dataset.split": "cv"}
ROLLING = {"dataset.split": "time", "dataset.origins": "6"}


def runs_of(
    split: int, seed: int, difference: float, data: Mapping[str, str], rows: str
) -> list[Run]:
    """The baseline's run and the other arm's on one split."""
    return [
        Run(
            run_id=f"{loss}-{split}-{seed}",
            name=loss,
            experiment="in memory",
            params={
                "loss": loss, "dataset": "real", "dataset.split_seed": str(split),
                "seed": str(seed), **data,
            },
            tags={"rarelab.data_digest": f"split {split}", "rarelab.rows": rows},
            metrics={METRIC: 0.5 + added},
            status="done",
            started=0,
            seconds=30.0,
        )
        for loss, added in (("bce", 0.0), ("smooth_ap", difference))
    ]  # fmt: skip


def judged(runs: Iterable[Run]) -> tuple[Finding, Contrast]:
    (data,) = group(list(runs), METRIC)
    finding = compare(data, Question(METRIC, "loss=bce"), lambda *_: {})
    assert finding is not None
    return finding, finding.contrasts[0]


def over(
    splits: Iterable[int],
    data: Mapping[str, str] = CV,
    *,
    shift: float = 0.0,
    seeds: int = 1,
    rows: str = "650/150/200",
) -> tuple[Finding, Contrast]:
    """Two arms on these splits; a standard deviation of 0.02 between and as much within them."""
    rng = np.random.default_rng(0)
    runs: list[Run] = []
    for split in splits:
        of_split = shift + 0.02 * rng.normal()
        for seed in range(seeds):
            own = 0.02 * rng.normal() if seeds > 1 else 0.0
            runs += runs_of(split, seed, of_split + own, data, rows)
    return judged(runs)


@pytest.mark.parametrize(
    ("splits", "data", "said"),
    [
        (range(5), CV, "5 splits: 5-fold cross-validation; corrected for 0.31 test rows per"),
        (range(10), CV, "10 splits: 5-fold cross-validation, repeated twice; corrected"),
        (range(6), {**CV, "dataset.folds": "2"}, "6 splits: 2-fold cross-validation, 3 repetit"),
        (range(1, 7), CV, "cross-validation, repeated twice, 4 folds missing; corrected"),
        (range(6), ROLLING, "6 splits: rolling origin, the verdict is about the mean over these"),
        (range(1, 6), ROLLING, "5 splits: rolling origin of 6, the verdict"),
        (range(6), {"dataset.split": "stratified"}, "6 splits; corrected for 0.31 test rows"),
    ],
)
def test_the_notes_say_what_the_splits_are(
    splits: range, data: Mapping[str, str], said: str
) -> None:
    finding, contrast = over(splits, data)
    assert said in "\n".join(finding.notes)
    assert finding.varied == SPLITS and contrast.test is not None
    assert contrast.test.n == len(splits) and "corrected resampled t" in contrast.test.name
    assert finding.ratio == pytest.approx(200 / 650)


def test_rolling_origins_are_corrected_by_the_fewest_training_rows() -> None:
    sizes = dict(enumerate((300, 400, 500, 600, 700)))
    runs = [
        run
        for split in reversed(sizes)  # recorded in whatever order
        for run in runs_of(split, 0, 0.01 * split, ROLLING, f"{sizes[split]}/100/50")
    ]
    finding, _ = judged(runs)
    assert finding.ratio == pytest.approx(50 / 300)
    assert "per training row of the oldest window" in finding.notes[-1]


def test_what_would_settle_it_is_counted_in_splits_with_its_cost() -> None:
    finding, contrast = over(range(6), shift=0.05, seeds=2, rows="700/200/100")
    told = words.sentence(finding, contrast)
    assert contrast.verdict == NOT_SETTLED and contrast.needed is not None
    more = contrast.needed - 6
    assert "6 splits would detect a difference of" in told
    # Two arms of two seeds, 30 s each.
    assert f"about {contrast.needed} splits ({more * 2:.0f} min more of training)" in told


def test_where_no_number_of_splits_would_do_more_rows_are_asked_for() -> None:
    finding, contrast = over(range(10), shift=0.015)
    told = words.sentence(finding, contrast)
    assert contrast.needed is None and contrast.needed_equal is None and finding.ratio
    assert contrast.more_rows is not None and contrast.more_rows > 1
    assert "no number of splits like these would settle it, as they share their rows" in told
    assert f"about {math.ceil(contrast.more_rows)} times as many rows would" in told
    effect = contrast.effect * math.sqrt(contrast.more_rows)  # errors fall as 1 / √rows
    assert power.power(effect, 10, 0.05, finding.ratio) == pytest.approx(0.8, abs=1e-3)


def test_the_seeds_share_of_the_variance_over_splits_is_told_where_it_is_much() -> None:
    finding, contrast = over(range(40), shift=0.01, seeds=2)
    assert contrast.seed_noise == pytest.approx(1 / 3, abs=0.15)  # 0.02² / 2 of 0.02² + 0.02² / 2
    for share, said in ((0.4, True), (0.1, False), (math.nan, False)):
        told = words.sentence(finding, replace(contrast, verdict=NOT_SETTLED, seed_noise=share))
        assert ("more seeds on each split would reduce it" in told) == said
    assert math.isnan(over(range(6))[1].seed_noise)

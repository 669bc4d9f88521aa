"""``dataset.scores``: a model in use is an arm of every comparison on the rows it scored."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss

import rarelab
from rarelab.cli import main
from rarelab.config.signature import signature
from rarelab.data.describe import describe
from rarelab.data.file import TableFile
from rarelab.errors import RequestError
from rarelab.metrics import evaluate
from rarelab.records.load import Records
from rarelab.records.seedless import for_every_seed, in_use
from rarelab.runs import summary
from rarelab.runs.evaluation import write_predictions
from recorded import BCE, CREDITCARD, SMOOTH_AP, leave_files, record, scored

ROWS = 800
FILE = {**CREDITCARD, "dataset": "file", "dataset.scores": "['legacy_score']"}


def payments(folder: Path) -> Path:
    """A table whose features tell little, and whose legacy score tells nearly all."""
    draw = np.random.default_rng(0)
    fraud = draw.random(ROWS) < 0.12
    frame = pd.DataFrame(
        {
            "amount": draw.normal(size=ROWS) + 0.3 * fraud,
            "hour": draw.integers(0, 24, ROWS),
            "customer": draw.integers(0, 300, ROWS),
            "legacy_score": 1 / (1 + np.exp(-draw.normal(size=ROWS) - 3 * fraud)),
            "fraud": fraud.astype(int),
        }
    )
    frame.to_csv(folder / "payments.csv", index=False)
    return folder / "payments.csv"


@pytest.mark.slow
def test_a_better_legacy_score_is_called_better_as_a_user_asks(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    payments(tmp_path)
    asked = ["dataset=file", "dataset.path=payments.csv", "dataset.target=fraud", "model=linear"]
    asked += ["dataset.scores=[legacy_score]", "dataset.group=customer", "loss=bce", "debug=fast"]
    asked += ["schedule=constant", "tracking.figures=false", "tracking.experiment=payments"]
    assert main(["train", "-m", *asked, "seed=range(6)"]) == 0
    capsys.readouterr()
    table = rarelab.compare(["experiment=payments", "baseline=bce"])
    (legacy,) = table[table["arm"] == "arm=legacy_score"].to_dict("records")
    assert legacy["verdict"] == "better" and legacy["difference"] > 0.3 and legacy["runs"] == 6
    assert main(["compare", "experiment=payments", "baseline=legacy_score"]) == 0
    said = capsys.readouterr().out
    assert "loss=bce: worse: -0." in said
    assert "arm=legacy_score: a model without a seed, paired with every seed of its split" in said
    report = home / "reports" / "payments" / "compare-1"
    for file in ("report.html", "figures/recall_at_budget.svg"):
        assert "legacy_score" in (report / file).read_text(encoding="utf-8"), file

    (run, *_) = Records(home).runs("payments")
    assert {run.params.get("arm") for run in Records(home).runs("payments")} == {None}
    folder = Path(run.tags["rarelab.directory"])
    rows = pq.read_table(folder / "predictions.parquet").to_pandas()
    frame = pd.read_csv("payments.csv").iloc[rows["row"]]
    assert rows["given/score/legacy_score"].tolist() == frame["legacy_score"].tolist()
    assert rows["given/group"].tolist() == frame["customer"].tolist()
    test = (rows["split"] == "test").to_numpy()
    groups = frame["customer"][test].nunique()
    assert f"test rows resampled by customer, {groups} groups" in said
    found = average_precision_score(frame["fraud"][test], frame["legacy_score"][test])
    assert legacy["mean"] == pytest.approx(found)

    unscored = pd.read_csv("payments.csv").drop(columns=["legacy_score", "customer"])
    unscored.to_csv("new.csv", index=False)
    assert main(["predict", folder.name, "new.csv"]) == 0


def test_its_role_is_described_and_it_is_no_feature(tmp_path: Path) -> None:
    path = str(payments(tmp_path))
    plain = TableFile(path, "fraud", drop=["legacy_score"])
    scored_by = TableFile(path, "fraud", scores=["legacy_score"])
    assert "legacy_score  the score of a model in use (scores)" in describe(scored_by)[0]
    first, second = plain.splits(0), scored_by.splits(0)
    assert first.digest == second.digest and first.features == second.features
    scores = second.test.origin["given/score/legacy_score"]
    metrics = evaluate(second.test.x[:, :1], second.test.y, classes=second.classes)
    found = average_precision_score(second.test.y, scores)
    assert f"\n  in use: legacy_score  AUCPR {found:.4f}, recall " in summary.test_table(
        metrics, second
    )
    assert "in use" not in summary.test_table(metrics, first)


def test_a_signature_is_as_before_without_scores() -> None:
    cfg = {"dataset": {"path": "a.csv", "keep": []}}
    assert signature(cfg) == signature({"dataset": {**cfg["dataset"], "scores": []}})
    assert signature(cfg) != signature({"dataset": {**cfg["dataset"], "scores": ["risk"]}})


def _several(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(fraud=np.arange(ROWS) % 3)


def _hole(value: object):
    def spoil(frame: pd.DataFrame) -> pd.DataFrame:
        column = frame["legacy_score"].astype(object)
        column[2] = column[7] = value
        return frame.assign(legacy_score=column)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "scores", "answer"),
    [
        (_hole("high"), "legacy_score", "in 2 of 800 rows (the first is 'high' in row 3)"),
        (_hole(None), "legacy_score", "not a finite number in 2 of 800 rows (the first is 'nan'"),
        (_hole(np.inf), "legacy_score", "not a finite number in 2 of 800 rows (the first is 'inf'"),
        (_several, "legacy_score", "has 3 classes, but a score tells two apart"),
        (lambda frame: frame, "legacy_scor", "is not a column: did you mean 'legacy_score'?"),
        (lambda frame: frame, "fraud", "fraud is the target"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused_before_training(
    tmp_path: Path, spoil, scores: str, answer: str
) -> None:
    path = payments(tmp_path)
    spoil(pd.read_csv(path)).to_csv(path, index=False)
    table = TableFile(str(path), "fraud", scores=[scores])
    for refusing in (table.check, lambda: table.splits(0)):
        with pytest.raises(RequestError) as refused:
            refusing()
        assert answer in str(refused.value) and "\n" not in str(refused.value)
        assert str(refused.value).startswith("dataset.scores=")


def test_a_kept_column_may_not_take_the_place_of_a_given_one(tmp_path: Path) -> None:
    path = payments(tmp_path)
    frame = pd.read_csv(path).rename(columns={"hour": "given/group"})
    frame.to_csv(path, index=False)
    with pytest.raises(RequestError, match=r"predictions\.parquet has a column 'given/group'"):
        TableFile(str(path), "fraud", keep=["given/group"]).splits(0)


def kept(home: Path, splits: range, seeds: range) -> dict[int, np.ndarray]:
    """Record two arms that kept a legacy score, better than both; it is of each split's rows."""
    legacy = {split: scored(400, 60, 4.0, draw=split)[0][:, 0].double().numpy() for split in splits}
    for split in splits:
        for arm, shift in ((BCE, 0.8), (SMOOTH_AP, 1.0)):
            for seed in seeds:
                directory = home / "runs" / "study" / f"{arm['loss']}-{split}-{seed}"
                logits, targets = scored(400, 60, shift, draw=split + 50, noise=0.3, seed=seed)
                metrics = leave_files(directory, logits, targets)
                origin = {"row": np.arange(400), "given/score/legacy_score": legacy[split]}
                write_predictions(
                    directory / "predictions.parquet",
                    {"test": (logits, targets)},
                    ("0", "1"),
                    {"test": origin},
                )
                data = {**FILE, "dataset.split_seed": str(split)}
                own = {"data": data, "digest": f"split {split}", "directory": directory}
                record(home, arm, seed, metrics, tags={"rarelab.rows": "960/0/400"}, **own)
    return legacy


def test_it_has_one_value_a_split_beside_every_seed_and_its_metrics_are_of_these_rows(
    home: Path,
) -> None:
    legacy = kept(home, range(2), range(2))
    records = Records(home)
    runs = records.runs("study")
    found = in_use(records, runs)
    assert [run.split_seed for run in found] == [0, 1] and {run.seed for run in found} == {None}
    targets = scored(400, 60, 1.0, draw=0)[1].numpy()
    for run in found:
        expected = average_precision_score(targets, legacy[run.split_seed])
        assert run.metrics["test/aucpr"] == pytest.approx(expected)
        assert run.digest == f"split {run.split_seed}" and run.arm == {"arm": "legacy_score"}
        assert records.curves(run) is not None and records.file(run, "history.jsonl") is None
    assert [found[0].metrics["test/brier"]] == pytest.approx(
        [brier_score_loss(targets, 1 / (1 + np.exp(-legacy[0])))]
    )
    beside = for_every_seed([*runs, *found])
    assert [(r.split_seed, r.seed) for r in beside if r.every_seed] == [
        *((0, 0), (0, 1), (1, 0), (1, 1))
    ]
    folder = Path(found[0].tags["rarelab.directory"])
    assert folder.is_dir()
    del records
    assert not folder.exists()


def test_over_splits_it_is_better_than_every_arm_at_any_metric(home: Path) -> None:
    kept(home, range(6), range(2))
    for metric in ("test/aucpr", "test/recall_at_q/0.12"):
        table = rarelab.compare(
            ["experiment=study", "baseline=legacy_score", f"metric={metric}", f"paths.home={home}"]
        )
        assert table["verdict"].tolist() == ["baseline", "worse", "worse"], metric
    costs = ["costs.false_alert=1", "costs.rows_per_month=1000", "budget=0.05"]
    asked = ["experiment=study", "baseline=bce", *costs, f"paths.home={home}"]
    assert rarelab.compare(asked)["verdict"].tolist()[:2] == ["baseline", "better"]
    within = rarelab.compare([*asked, "within=[model]"])
    assert set(within["arm"]) == {"loss=bce", "loss=smooth_ap", "arm=legacy_score"}


def test_within_a_setting_it_stands_beside_every_value(home: Path) -> None:
    kept(home, range(1), range(2))
    records = Records(home)
    runs = records.runs("study")
    other = [replace(run, params={**run.params, "model": "linear"}) for run in runs]
    beside = for_every_seed([*runs, *other, *in_use(records, runs)], ["model"])
    found = {(run.params["model"], run.seed) for run in beside if run.every_seed}
    assert found == {("mlp", 0), ("mlp", 1), ("linear", 0), ("linear", 1)}

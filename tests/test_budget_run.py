"""A budget from training to scoring new rows, as a user goes: shares, capacities and days."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

import rarelab
from rarelab.cli import main
from rarelab.compare.rows import TestRows, metric_of, read_test_rows, weigher
from rarelab.config import build
from rarelab.config.compose import compose_train
from rarelab.config.compose_many import Composer, loader
from rarelab.config.signature import signature
from rarelab.dashboard.view import METRIC_COLUMNS, state
from rarelab.errors import RequestError
from rarelab.metrics import table
from rarelab.metrics.budget import budgets
from rarelab.records.load import Records, from_directory
from rarelab.runs.run import Outcome
from rarelab.sweep.job import Result
from rarelab.sweep.table import Arm, columns
from rarelab.training.history import read_rows

QUICK = ["debug=fast", "dataset=toy", "loss=bce", "dataset.n_samples=4000"]
SMALL = [*QUICK, "dataset.pos_rate=0.03", "tracking.figures=false"]
CAPACITY = ["budget.alerts=37", "budget.per=10000 rows"]
DAILY = ["budget.alerts=3", "budget.per=day"]
START = pd.Timestamp("2024-02-20")


@pytest.fixture(scope="module")
def dated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1 000 payments, some 12 a day, with a few days without any."""
    rng = np.random.default_rng(0)
    days = np.sort(rng.choice(np.delete(np.arange(90), [20, 70, 75]), 1000))
    y = rng.random(1000) < 0.08
    frame = pd.DataFrame({"date": START + pd.to_timedelta(days, "D"), "a": rng.normal(2 * y)})
    frame = frame.assign(b=rng.normal(size=1000), day=days, fraud=y.astype(int))
    path = tmp_path_factory.mktemp("dated") / "payments.csv"
    frame.to_csv(path, index=False)
    return path


def on(file: Path, *overrides: str) -> list[str]:
    given = [f"dataset.path={file}", "dataset.target=fraud", "dataset.drop=[day]"]
    return ["dataset=file", "model=linear", "loss=bce", "debug=fast", *given, *overrides]


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("RARELAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yield tmp_path / "home"


def predictions(run: Outcome, split: str) -> tuple[np.ndarray, np.ndarray]:
    kept = pd.read_parquet(Path(run.directory) / "predictions.parquet")
    kept = kept[kept["split"] == split]
    return kept["score"].to_numpy(), kept["target"].to_numpy() == 1


def by_hand(scores: np.ndarray, positives: np.ndarray, size: int) -> tuple[float, float]:
    """Recall and precision of the first ``size`` rows; the last tie group counts in proportion."""
    cut = np.sort(scores)[::-1][size - 1]
    above, tied = scores > cut, scores == cut
    caught = positives[above].sum() + (size - above.sum()) / tied.sum() * positives[tied].sum()
    return caught / positives.sum(), caught / size


def found_at_budget(run: Outcome, split: str, size: int) -> None:
    """The recorded metrics are those of so many alerts."""
    start = "test/" if split == "test" else "best/val_"
    names = ("recall", "precision", "alerts")
    recorded = [run.metrics[f"{start}{name}_at_budget"] for name in names]
    assert recorded == pytest.approx([*by_hand(*predictions(run, split), size), size])


def test_a_share_is_recorded_shown_and_kept_beside_the_fixed_levels(
    homes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = rarelab.train([*SMALL[:-1], "budget=[0.02,0.005,0.3]"])
    said = capsys.readouterr().out
    found_at_budget(run, "test", 20)
    found_at_budget(run, "val", 12)
    scores, positives = predictions(run, "test")
    for share in (0.005, 0.3):
        recall, precision = by_hand(scores, positives, math.ceil(share * 1000))
        assert run.metrics[f"test/recall_at_q/{share}"] == pytest.approx(recall)
        assert run.metrics[f"test/precision_at_q/{share}"] == pytest.approx(precision)
    assert {f"test/recall_at_q/{level}" for level in table.LEVELS} <= run.metrics.keys()
    recall, precision = by_hand(scores, positives, 20)
    caught = f"caught {recall * 30:.0f} of 30 with 20 alerts"
    assert f"  budget     2 %: recall {recall:.4f}, precision {precision:.4f}; {caught}\n" in said
    assert "  budget     30 %: recall " in said and " with 300 alerts\n" in said
    curves = json.loads((Path(run.directory) / "curves.json").read_text())
    assert curves["at_budget"][0] == {"share": 0.02, "recall": run.metrics["test/recall_at_budget"]}
    assert (Path(run.directory) / "figures" / "recall_at_quantile.png").is_file()
    (recorded,) = Records(homes).runs("rarelab")
    at_budget = {key: v for key, v in run.metrics.items() if key.endswith("_at_budget")}
    assert len(at_budget) == 7 and at_budget.items() <= recorded.metrics.items()
    rows = read_test_rows(Path(run.directory) / "predictions.parquet")
    assert metric_of(rows, "test/recall_at_q/0.02") == run.metrics["test/recall_at_budget"]


def test_it_chooses_the_epoch(homes: Path) -> None:
    many = ["trainer.max_epochs=6", "trainer.select_by=val/recall_at_budget", "budget=0.02"]
    run = rarelab.train([*SMALL, *many])
    rows = [row["metrics"] for row in read_rows(Path(run.directory) / "history.jsonl")]
    ranks = [(row["val/recall_at_budget"], row["val/aucpr"]) for row in rows if "val/aucpr" in row]
    assert len(ranks) == 6 and run.metrics["best/epoch"] == ranks.index(max(ranks))
    assert run.metrics["best/val_recall_at_budget"] == max(ranks)[0]
    with pytest.raises(RequestError, match=r"select_by=val/recall_at_budget: there is no budget"):
        rarelab.train([*SMALL, many[1]])


@pytest.mark.parametrize("model", ["hist_gradient_boosting", "lightgbm"])
def test_every_kind_of_model_records_it(homes: Path, model: str) -> None:
    rounds = ["model.num_iterations=3"] if model == "lightgbm" else ["model.max_iter=3"]
    by = ["budget=0.02", "trainer.select_by=val/recall_at_budget"]
    run = rarelab.train([*SMALL, f"model={model}", *rounds, *by])
    found_at_budget(run, "test", 20)
    found_at_budget(run, "val", 12)
    assert "val/recall_at_budget" in run.metrics


def test_several_classes_are_averaged_at_the_same_number_of_alerts(homes: Path) -> None:
    data = ["dataset=longtail_toy", "dataset.n_samples=3000", "dataset.n_classes=4"]
    run = rarelab.train(["debug=fast", "loss=cross_entropy", *data, "budget=0.05", "tracking=none"])
    kept = pd.read_parquet(Path(run.directory) / "predictions.parquet")
    kept = kept[kept["split"] == "test"]
    size = math.ceil(0.05 * len(kept))
    each = [
        by_hand(kept[f"score/c{c}"].to_numpy(), kept["target"].to_numpy() == c, size)
        for c in range(4)
    ]
    recorded = [run.metrics[f"test/{kind}_at_budget"] for kind in ("recall", "precision")]
    assert recorded == pytest.approx(np.mean(each, axis=0))
    assert run.metrics["test/recall_at_budget"] == run.metrics["test/recall_at_q/0.05"]
    assert run.metrics["test/alerts_at_budget"] == size


def test_without_a_budget_nothing_changes(homes: Path) -> None:
    run = rarelab.train([*SMALL, "tracking=none"])
    assert not [key for key in run.metrics if "budget" in key]
    assert "at_budget" not in (Path(run.directory) / "curves.json").read_text()
    assert "budget" not in json.loads((Path(run.directory) / "model" / "model.json").read_text())
    assert not [key for key in from_directory(run.directory).params if "budget" in key]
    plain = OmegaConf.to_container(compose_train(SMALL)[0], resolve=True)
    assert isinstance(plain, dict) and plain.pop("budget") is None
    empty = {**plain, "budget": {"alerts": None, "per": None}}
    asked = OmegaConf.to_container(compose_train([*SMALL, "budget=0.02"])[0])
    assert signature(plain) == signature(empty) != signature(asked)  # pyright: ignore


@pytest.mark.parametrize(
    ("overrides", "value"),
    [
        ([], None),
        (["budget=0.02"], 0.02),
        (["budget=[0.02,0.005]"], [0.02, 0.005]),
        (CAPACITY, {"alerts": 37, "per": "10000 rows"}),
        (["budget.alerts=100", "budget.per=day"], {"alerts": 100, "per": "day"}),
        (["budget={alerts:100,per:day}"], {"alerts": 100, "per": "day"}),
        (["budget={alerts:100,per:day}", "budget.alerts=50"], {"alerts": 50, "per": "day"}),
    ],
)
def test_every_form_composes_by_hydra_and_in_a_sweep(overrides: list[str], value: object) -> None:
    cfg, _ = compose_train([*SMALL, *overrides])
    with loader() as found:
        job, _ = Composer(found).job([*SMALL, *overrides])
    assert OmegaConf.to_container(cfg)["budget"] == value  # pyright: ignore
    assert OmegaConf.to_container(job)["budget"] == value  # pyright: ignore


def test_the_command_line_replaces_a_budget_of_another_form(tmp_path: Path) -> None:
    (tmp_path / "experiments").mkdir()
    study = "# @package _global_\nbudget: {alerts: 5, per: day}\n"
    (tmp_path / "experiments" / "mine.yaml").write_text(study)
    with loader([str(tmp_path)]) as found:
        composer = Composer(found)
        for given, value in (
            ([], {"alerts": 5, "per": "day"}),
            (["budget.alerts=7"], {"alerts": 7, "per": "day"}),
            (["budget=[0.1,0.2]"], [0.1, 0.2]),
            (["budget=null"], None),
        ):
            job, _ = composer.job([*SMALL, "experiments=mine", *given])
            assert OmegaConf.to_container(job)["budget"] == value  # pyright: ignore


@pytest.mark.parametrize(
    ("overrides", "answer"),
    [
        (["budget=2"], "budget=2: expected a share of the rows above 0 and below 1"),
        (["budget.alert=2"], "budget.alert: there is no such key; did you mean 'alerts'?"),
        (["budget.alerts=2"], "budget.per: missing beside budget.alerts"),
        (["budget=0.02", "budget.alerts=2"], "budget=0.02 and budget.alerts=2 are both given"),
        (DAILY, "budget.per=day: expected dataset.time to name a column of dates"),
    ],
)
def test_a_wrong_budget_is_refused_before_anything_runs(
    homes: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], answer: str
) -> None:
    assert main(["train", *SMALL, *overrides]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {answer}") and said.count("\n") == 1
    assert not homes.exists()


def days_of(file: Path, rows: slice) -> int:
    """Days from the first to the last of these rows of the sorted file."""
    dates = pd.read_csv(file, parse_dates=["date"])["date"].iloc[rows]
    return (dates.max() - dates.min()).days + 1


def test_a_budget_per_day_counts_the_days_of_each_split(
    homes: Path, dated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = rarelab.train(on(dated, "dataset.time=date", *DAILY, "tracking.experiment=dated"))
    said = capsys.readouterr().out
    days = {"val": days_of(dated, slice(600, 750)), "test": days_of(dated, slice(750, None))}
    assert days["val"] > 10 and days["test"] > 20
    for split, count in days.items():
        found_at_budget(run, split, 3 * count)
    assert "  budget     3 alerts a day: recall " in said
    assert f"with {3 * days['test']} alerts\n" in said
    # Kept with the predictions, so another number a day can be asked for later.
    asked = ["experiment=dated", "metric=test/recall_at_budget"]
    rarelab.train(on(dated, "dataset.time=date", *DAILY, "tracking.experiment=dated", "seed=1"))
    rows = read_test_rows(Path(run.directory) / "predictions.parquet")
    (two_a_day,) = budgets({"alerts": 2, "per": "day"})
    expected = by_hand(*predictions(run, "test"), 2 * days["test"])[0]
    assert metric_of(rows, "test/recall_at_budget", two_a_day) == pytest.approx(expected)
    with pytest.raises(RequestError, match="only one arm"):
        rarelab.compare([*asked, "budget.alerts=2", "budget.per=day"])
    # New rows alert from the score that spent it on the validation days.
    assert main(["predict", Path(run.directory).name, str(dated), "output=-"]) == 0
    told = capsys.readouterr().err
    spent = 3 * days["val"]
    assert "alert at a budget of 3 alerts a day: score >= " in told
    assert f"chosen on validation ({spent} of its 150 rows" in told
    assert "3 alerts a day is the budget that the run was trained at; budget=none" in told


@pytest.mark.parametrize("more", [["dataset.time=day", "dataset.drop=[date]"]])
def test_days_of_a_numeric_time_are_refused(homes: Path, dated: Path, more: list[str]) -> None:
    asked = [item for item in on(dated) if not item.startswith("dataset.drop")]
    with pytest.raises(RequestError, match=r"budget\.per=day: the rows have no dates; expected"):
        rarelab.train([*asked, *more, *DAILY])
    with pytest.raises(RequestError, match=r"budget\.per=day: the rows have no dates; expected"):
        rarelab.train(on(dated, "dataset.time=date", "dataset.split=stratified", *DAILY))


def arms(seeds: int, *overrides: str) -> list[Outcome]:
    """Two arms: what a sweep over them records, in this process."""
    return [
        rarelab.train([*SMALL, f"loss={loss}", f"seed={seed}", *overrides])
        for loss in ("bce", "sigmoid_focal")
        for seed in range(seeds)
    ]


def test_runs_are_compared_at_their_budget_and_at_any_other(
    homes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = arms(2, *CAPACITY)
    capsys.readouterr()
    assert all(run.metrics["test/alerts_at_budget"] == 4 for run in runs)  # of 1 000 rows
    asked = ["compare", "experiment=rarelab", "baseline=bce", "metric=test/recall_at_budget"]
    assert main(asked) == 0
    told = capsys.readouterr().out
    assert "note: test/recall_at_budget: the budget is 37 alerts per 10,000 rows" in told
    frame = rarelab.compare(asked[1:]).set_index("arm")
    (decision,) = frame.attrs["decisions"].values()
    assert decision in told
    mean = np.mean([run.metrics["test/recall_at_budget"] for run in runs[:2]])
    assert frame.loc["loss=bce", "mean"] == mean
    other = rarelab.compare([*asked[1:], "budget=0.05"]).set_index("arm")
    same = rarelab.compare([*asked[1:3], "metric=test/recall_at_q/0.05"]).set_index("arm")
    numbers = ["mean", "difference", "p"]
    assert other[numbers].equals(same[numbers]) and not other["mean"].equals(frame["mean"])
    pair = f"runs=[{runs[0].run_id},{runs[2].run_id}]"
    two = rarelab.compare([pair, "metric=test/recall_at_budget", "budget=0.05"])
    equal = rarelab.compare([pair, "metric=test/recall_at_q/0.05"])
    assert two.drop(columns="metric").equals(equal.drop(columns="metric"))
    shown = state(Records(homes).runs("rarelab"), [])["selectedColumns"]
    assert "tags.`test/recall_at_budget`" in shown
    assert "test/recall_at_budget" not in METRIC_COLUMNS
    results = [Result(0, "done", metrics=run.metrics) for run in runs]
    assert "test/recall_at_budget" in columns([Arm("loss=bce", results, 0)])


def test_runs_at_several_budgets_or_none_need_one_to_be_named(homes: Path) -> None:
    asked = ["experiment=rarelab", "baseline=bce", "metric=test/recall_at_budget"]
    arms(1)
    with pytest.raises(RequestError, match=r"the runs have no budget; give one"):
        rarelab.compare(asked)
    found = rarelab.compare([*asked, "budget=0.02"])
    # A budget that chose no epoch does not set an arm apart: runs of both kinds are repetitions.
    run = rarelab.train([*SMALL, "seed=2", "budget=0.02"])
    at_its_own = rarelab.compare(asked).set_index("arm")
    assert at_its_own.loc["loss=bce", "runs"] == found.set_index("arm").loc["loss=bce", "runs"] + 1
    assert list(at_its_own.index) == ["loss=bce", "loss=sigmoid_focal"]
    assert run.metrics["test/recall_at_budget"] >= 0
    rarelab.train([*SMALL, "seed=3", "budget=0.03"])
    with pytest.raises(RequestError, match=r"have different budgets \(2 %, 3 %\); give one"):
        rarelab.compare(asked)


def test_recall_at_a_budget_is_resampled_like_recall_at_that_level(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random(600) < 0.1).astype(np.int64)
    rows = TestRows(np.round(rng.normal(size=(600, 1)) + targets[:, None], 1), targets)
    drawn = rng.multinomial(600, np.full(600, 1 / 600), 40).T.astype(np.float32)
    (budget,) = budgets(0.037)
    for kind in ("recall", "precision"):
        found = weigher(rows, f"test/{kind}_at_budget", budget)(drawn)
        assert np.array_equal(found, weigher(rows, f"test/{kind}_at_q/0.037")(drawn))


def test_new_rows_alert_at_the_runs_budget_unless_told_otherwise(
    homes: Path, dated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = rarelab.train(on(dated, "budget=0.02", "dataset.drop=[day,date]", "tracking=none"))
    name = Path(run.directory).name

    def scored(*settings: str) -> tuple[pd.DataFrame, str]:
        path = tmp_path / "scores.csv"
        told = ["predict", name, str(dated), f"output={path}", "overwrite=true", *settings]
        capsys.readouterr()
        assert main(told) == 0
        return pd.read_csv(path), capsys.readouterr().out

    own, said = scored()
    assert "2 % is the budget that the run was trained at; budget=none writes no alerts" in said
    asked, _ = scored("budget=0.02")
    assert own.equals(asked) and own["alert"].any()
    none, said = scored("budget=none")
    assert "alert" not in none and "budget" not in said
    capacity, said = scored("budget.alerts=20", "budget.per=1000 rows")
    assert capacity["alert"].equals(own["alert"])
    assert "alert at a budget of 20 alerts per 1,000 rows: " in said and "budget=none" not in said
    assert "budget=none" not in scored("alerts=3")[1]
    loaded = rarelab.load(run.directory)
    frame = pd.read_csv(dated)
    assert loaded.budget == 0.02
    assert loaded.score(frame, loaded.budget, drop=["fraud"])["alert"].tolist() == list(
        own["alert"]
    )
    for settings, answer in {
        ("budget=0.02", "budget.alerts=3"): "budget= and budget.alerts= are both given",
        ("budget.alerts=3",): "budget.per: missing beside budget.alerts",
        ("budget.alerts=3", "budget.per=day"): "budget.per=day: the rows have no dates",
    }.items():
        assert main(["predict", name, str(dated), "output=-", *settings]) == 2
        assert capsys.readouterr().err.startswith(f"error: {answer}")


def test_a_refit_keeps_the_budget_and_a_reproduction_is_equal(homes: Path, dated: Path) -> None:
    run = rarelab.train(on(dated, "dataset.time=date", *DAILY))
    assert main(["reproduce", run.run_id]) == 0
    assert main(["refit", run.run_id]) == 0
    (again,) = [path for path in (homes / "runs" / "rarelab").glob("refit*") if path.is_dir()]
    earlier, later = (
        json.loads((folder / "model" / "model.json").read_text())["budget"]
        for folder in (Path(run.directory), again)
    )
    assert earlier == later and earlier["alerts"] == 3 * earlier["days"]


def test_the_check_names_the_key(homes: Path) -> None:
    cfg, _ = compose_train([*SMALL, "budget=[0.02,3]"])
    with pytest.raises(RequestError, match=r"^budget=\[0.02, 3\]: expected a share"):
        build.check(cfg)

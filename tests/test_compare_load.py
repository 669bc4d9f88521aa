"""Reading records: runs, arms and their labels, and the errors for wrong requests."""

import json
from pathlib import Path

import pytest

import rarelab
from rarelab.errors import RequestError
from rarelab.figures import arms as figures
from rarelab.records.load import Records
from rarelab.records.names import ABSENT, differences, labels
from recorded import BCE, CREDITCARD, SMOOTH_AP, TOY, leave_files, record, scored

QUEUE_8192 = {**SMOOTH_AP, "loss.queue_size": "8192"}


def test_a_recorded_run_reads_back_as_trained(home: Path) -> None:
    small = ["trainer.max_epochs=1", "dataset.n_samples=2000", "dataset.pos_rate=0.05", "loss=bce"]
    outcome = rarelab.train([*small, "seed=3", "tracking.experiment=real"])
    (run,) = Records(home).runs("real")
    assert (run.run_id, run.status, run.seed) == (outcome.run_id, "done", 3)
    assert run.metrics["test/aucpr"] == outcome.metrics["test/aucpr"]
    assert run.split_seed is None and run.digest
    assert run.arm["loss"] == "bce" and run.arm["optimizer.lr"] == "0.001"
    assert not {"seed", "tracking", "dataset", "dataset.pos_rate"} & set(run.arm)
    assert run.data["dataset.pos_rate"] == "0.05"
    curves = Records(home).curves(run)
    assert curves and curves["recall_at_q"]["steps"][0] == 1
    assert Records(home).file(run, "predictions.parquet") == (
        outcome.directory / "predictions.parquet"
    )


def test_a_file_is_found_in_a_home_that_moved_and_in_the_store(home: Path, tmp_path: Path) -> None:
    gone = tmp_path / "old" / "runs" / "study" / "job-0"
    run_id = record(home, BCE, 0, {}, directory=gone)
    records = Records(home)
    (run,) = records.runs("study")
    assert records.file(run, "curves.json") is None and records.curves(run) is None
    note = tmp_path / "note.txt"
    note.write_text("kept", encoding="utf-8")
    records.client.log_artifact(run_id, str(note))
    found = records.file(run, "note.txt")
    assert found is not None and found.read_text(encoding="utf-8") == "kept"
    moved = home / "runs" / "study" / "job-0"
    leave_files(moved, *scored(50, 5, 1.0, draw=0))
    assert records.file(run, "curves.json") == moved / "curves.json"


def test_the_sweeps_own_run_is_not_an_arm(home: Path) -> None:
    child = record(home, BCE, 0, {}, tags={"rarelab.sweep": "s1"})
    parent = record(home, BCE, 0, {}, tags={"rarelab.kind": "sweep", "rarelab.sweep": "s1"})
    records = Records(home)
    assert [run.run_id for run in records.runs("study")] == [child]
    assert [run.run_id for run in records.parents("study")] == [parent]
    assert records.run(child).sweep == "s1"


def test_all_pages_of_runs_are_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rarelab.records.load._PAGE", 2)
    made = {record(home, BCE, seed, {}) for seed in range(5)}
    assert {run.run_id for run in Records(home).runs("study")} == made


def test_wrong_requests_suggest_the_nearest_name(home: Path) -> None:
    with pytest.raises(RequestError, match="nothing has been recorded there"):
        Records(home)
    assert not (home / "mlflow.db").exists()
    record(home, BCE, 0, {}, experiment="creditcard")
    records = Records(home)
    with pytest.raises(RequestError, match="did you mean 'creditcard'"):
        records.runs("creditcrad")
    with pytest.raises(RequestError, match="no run has been recorded in it"):
        records.runs("Default")
    with pytest.raises(RequestError, match="no run with this id"):
        records.run("0" * 32)


@pytest.mark.parametrize(
    ("configurations", "expected"),
    [
        ([BCE, SMOOTH_AP], ["loss=bce", "loss=smooth_ap"]),
        (
            [BCE, SMOOTH_AP, QUEUE_8192],
            ["loss=bce", "loss=smooth_ap queue_size=1024", "loss=smooth_ap queue_size=8192"],
        ),
        ([{**BCE, "seed": "0"}, {**SMOOTH_AP, "seed": "0"}], ["loss=bce", "loss=smooth_ap"]),
        (
            [{**BCE, "seed": "0"}, {**BCE, "seed": "1"}, {**SMOOTH_AP, "seed": "0"}],
            ["loss=bce seed=0", "loss=bce seed=1", "loss=smooth_ap seed=0"],
        ),
        (
            [
                {"loss": "bce", "schedule.temp_end": "0.1"},
                {"loss": "smooth_ap", "schedule.temp_end": "0.1"},
                {"loss": "recall", "schedule.temp_end": "0.2"},
                {"loss": "recall", "schedule.temp_end": "0.3"},
            ],
            ["loss=bce", "loss=smooth_ap", "loss=recall temp_end=0.2", "loss=recall temp_end=0.3"],
        ),
        ([BCE, BCE], ["loss=bce", "loss=bce"]),
        ([{"loss._target_": "mine.Hinge"}, BCE], ["loss=Hinge", "loss=bce"]),
        ([{}, {}], ["all runs", "all runs"]),
        (
            [{**CREDITCARD, "model.hidden": "[64, 64]"}, {**TOY, "model.hidden": "[8]"}],
            ["dataset=creditcard hidden=[64,64]", "dataset=toy hidden=[8]"],
        ),
        (
            [
                {"loss": "a", "loss.gamma": "1", "model": "m", "model.gamma": "1"},
                {"loss": "a", "loss.gamma": "2", "model": "m", "model.gamma": "2"},
            ],
            ["model.gamma=1 loss.gamma=1", "model.gamma=2 loss.gamma=2"],
        ),
    ],
)
def test_a_label_names_what_differs(configurations, expected) -> None:
    assert labels(configurations) == expected


def test_a_key_absent_from_a_similar_configuration_is_a_difference() -> None:
    older = {key: value for key, value in SMOOTH_AP.items() if key != "loss.queue_size"}
    assert differences([older, SMOOTH_AP])[0] == {"loss.queue_size": ABSENT}


def curves_of(directory: Path, shift: float, seed: int):
    leave_files(directory, *scored(400, 20, shift, draw=1, noise=0.5, seed=seed))
    return json.loads((directory / "curves.json").read_text(encoding="utf-8"))


def test_pictures_show_each_arm_chance_and_the_best_in_three_formats(tmp_path: Path) -> None:
    arms = {
        name: [curves_of(tmp_path / f"{shift}-{seed}", shift, seed) for seed in range(3)]
        for name, shift in (("loss=bce", 1.0), ("<script>$x^2$", 2.0))
    }
    figure = figures.recall_at_quantile(arms, budget=0.005)
    axes = figure.axes[0]
    lines = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
    assert {"loss=bce (3 runs)", "<script>$x^2$ (3 runs)", "chance", "best possible"} <= set(lines)
    mean = sum(sum(run["recall_at_q"]["values"]) for run in arms["loss=bce"]) / 3
    assert sum(lines["loss=bce (3 runs)"]) == pytest.approx(mean)
    styles = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in axes.lines}
    assert len(styles) == len(axes.lines)
    for name, drawn in (("recall", figure), ("pr", figures.precision_recall(arms))):
        written = figures.save(drawn, tmp_path / "figures", name)
        assert [path.suffix for path in written] == [".svg", ".pdf", ".png"]
        text = written[0].read_text(encoding="utf-8")
        assert "<script" not in text
        figures.save(drawn, tmp_path / "again", name)
        assert (tmp_path / "again" / f"{name}.svg").read_text(encoding="utf-8") == text


def test_arms_too_many_to_tell_apart_are_counted(tmp_path: Path) -> None:
    one = curves_of(tmp_path, 1.0, 0)
    figure = figures.recall_at_quantile({f"arm {i}": [one] for i in range(11)})
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert legend.get_title().get_text() == "3 more arms in the table"
    assert len(legend.get_texts()) == 8 + 2


def test_an_estimators_label_names_no_loss_or_optimiser() -> None:
    network = {"model": "mlp", "optimizer": "adam", "calibration": "none"}
    rates = {"bce": "0.1", "smooth_ap": "0.2"}
    arms = [{**network, "loss": loss, "optimizer.lr": rate} for loss, rate in rates.items()]
    assert labels([*arms, {"model": "hist_gradient_boosting", "calibration": "none"}]) == [
        "model=mlp loss=bce lr=0.1",
        "model=mlp loss=smooth_ap lr=0.2",
        "model=hist_gradient_boosting",
    ]

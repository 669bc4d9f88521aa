"""``rarelab record``: predictions of another program as runs, and what is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss

import rarelab
from rarelab import cli
from rarelab.compare.study import Options, study
from rarelab.errors import RequestError
from rarelab.records.load import Records
from rarelab.records.names import labels
from recorded import BCE, CREDITCARD, SMOOTH_AP, leave_files, record, scored

SEEDS = range(7)
ROWS, POSITIVES = 1000, 60


def trained(home: Path) -> np.ndarray:
    """Record two arms over all seeds on the same test rows; their labels."""
    for arm, shift in ((BCE, 0.8), (SMOOTH_AP, 1.0)):
        for seed in SEEDS:
            directory = home / "runs" / "study" / f"{arm['loss']}-{seed}"
            logits, targets = scored(ROWS, POSITIVES, shift, draw=1, noise=0.3, seed=seed)
            metrics = leave_files(directory, logits, targets)
            record(home, arm, seed, metrics, directory=directory)
    return targets.numpy()


def legacy(truth: np.ndarray, shift: float = 4.0) -> pd.DataFrame:
    """A system far better than the trained arms; its scores are probabilities."""
    score = np.random.default_rng(5).normal(size=len(truth)) + shift * truth
    return pd.DataFrame({"fraud": truth, "risk": 1 / (1 + np.exp(-score))})


def tell(home: Path, frame: pd.DataFrame, *settings: str, experiment: str = "study") -> int:
    """Record a frame as the legacy arm; the exit code."""
    file = home.parent / "legacy.csv"
    frame.to_csv(file, index=False)
    asked = {"arm": "legacy", "target": "fraud", "score": "risk"}
    asked |= dict(setting.split("=") for setting in settings)
    words = [f"{key}={value}" for key, value in asked.items()]
    return cli.main(["record", str(file), f"experiment={experiment}", *words, f"--home={home}"])


def runs(home: Path, experiment: str = "study") -> int:
    return len(Records(home).runs(experiment))


def test_a_better_legacy_score_is_called_better_than_every_arm(
    home: Path, capsys, monkeypatch
) -> None:
    """Recorded once, without a seed, it is paired with every seed; and then with one."""
    monkeypatch.setattr("rarelab.runs.evaluation.run_figures", lambda *_: [])
    frame = legacy(trained(home)).assign(customer=np.arange(ROWS) // 4, value=np.arange(ROWS))
    own = {"experiment": "study", "arm": "legacy", "target": "fraud", "score": "risk"}
    run = rarelab.record(frame, **own, group="customer", amount="value", home=home)
    assert (
        run.status == "done" and run.metrics["test/aucpr"] > 0.9 and capsys.readouterr().out == ""
    )
    rows = pq.read_table(run.directory / "predictions.parquet")
    assert rows["given/group"].to_pylist() == frame["customer"].tolist()
    assert rows["given/amount"].to_pylist() == frame["value"].tolist()
    asked = ["experiment=study", "baseline=bce", f"paths.home={home}"]
    told = rarelab.compare(asked).set_index("arm").loc["arm=legacy"]
    assert told["verdict"] == "better" and told["runs"] == len(SEEDS)
    (found,) = study(Records(home), Options("study", baseline="legacy")).findings
    assert [contrast.verdict for contrast in found.contrasts] == ["worse", "worse"]
    assert "arm=legacy: a model without a seed, paired with every seed of its split" in found.notes
    assert "test rows resampled by group, 250 groups" in found.notes
    again = {**own, "arm": "once", "seed": 3}
    rarelab.record(frame, **again, home=home)
    alone = rarelab.compare(asked).set_index("arm").loc["arm=once"]
    assert alone["runs"] == 1 and alone["verdict"] == "not settled"
    with pytest.raises(RequestError, match="arm=legacy is already recorded in study"):
        rarelab.record(frame, **own, home=home)
    with pytest.raises(RequestError, match=r"^the frame: 999 rows, the experiment's test rows are"):
        rarelab.record(frame[1:], **{**own, "arm": "short"}, home=home)


def test_a_split_is_found_by_its_labels_or_named(home: Path, capsys) -> None:
    for split, (positives, shift) in enumerate([(60, 1.0), (60, 1.2), (50, 1.0)]):
        directory = home / "runs" / "study" / f"bce-{split}"
        metrics = leave_files(directory, *scored(ROWS, positives, shift, draw=split))
        data = {**CREDITCARD, "dataset.split_seed": str(split)}
        own = {"digest": f"split {split}", "directory": directory}
        record(home, BCE, 0, metrics, data=data, **own)

    def split_of(arm: str) -> int | None:
        (run,) = [run for run in Records(home).runs("study") if run.params.get("arm") == arm]
        return run.split_seed

    first, third = (legacy((np.arange(ROWS) < positives).astype(int)) for positives in (60, 50))
    assert tell(home, third, "arm=third") == 0 and split_of("third") == 2
    assert tell(home, first) == 2
    assert "fit the test rows of several splits (0, 1): say which" in capsys.readouterr().err
    assert tell(home, first, "arm=first", "split=1") == 0 and split_of("first") == 1
    assert tell(home, first, "split=7") == 2
    assert "has this split; choose from: 0, 1, 2" in capsys.readouterr().err
    for split in (0, 1):
        assert tell(home, first, f"split={split}", experiment="new") == 0
    assert {run.split_seed for run in Records(home).runs("new")} == {0, 1}


def test_a_lone_trained_arm_keeps_its_name_beside_a_legacy_score() -> None:
    trained = {"model": "mlp", **BCE, "trainer.max_epochs": "3"}
    other = {"arm": "legacy"}
    assert labels([trained, other, trained]) == ["loss=bce", "arm=legacy", "loss=bce"]
    assert labels([trained, {**trained, "trainer.max_epochs": "5"}, other]) == [
        "max_epochs=3",
        "max_epochs=5",
        "arm=legacy",
    ]


def test_the_run_has_the_metrics_and_files_of_a_trained_one(home: Path, capsys) -> None:
    fraud = (np.random.default_rng(0).random(400) < 0.1).astype(int)
    frame = legacy(fraud, 1.5).assign(
        fraud=np.where(fraud, "yes", "no"), part=np.where(np.arange(400) < 100, "val", "test")
    )
    settings = ("positive_label=yes", "split_col=part", "id=key", "group=card")
    frame = frame.assign(key=[f"k{i}" for i in range(400)], card=np.arange(400) // 3)
    assert tell(home, frame, *settings, experiment="new") == 0
    (run,) = Records(home).runs("new")
    assert run.status == "done" and run.arm == {"arm": "legacy"} and run.seed is None
    truth, risk = fraud[100:], frame["risk"].to_numpy()[100:]
    assert run.metrics["test/aucpr"] == pytest.approx(average_precision_score(truth, risk))
    assert run.metrics["test/brier"] == pytest.approx(brier_score_loss(truth, risk))
    assert run.metrics["test/aucpr_lo"] < run.metrics["test/aucpr"] < run.metrics["test/aucpr_hi"]
    val = average_precision_score(fraud[:100], frame["risk"][:100])
    assert run.metrics["best/val_aucpr"] == pytest.approx(val)
    folder = Path(run.tags["rarelab.directory"])
    assert (folder / "figures" / "precision_recall.png").is_file()
    assert (folder / "curves.json").is_file()
    table = pq.read_table(folder / "predictions.parquet")
    assert table.column_names == ["split", "row", "key", "given/group", "target", "score"]
    assert table["row"].to_pylist() == list(range(400))
    for command in ("reproduce", "refit"):
        assert cli.main([command, folder.name, f"--home={home}"]) == 2
        assert "made by another program, so there is nothing to train" in capsys.readouterr().err


def test_rows_are_aligned_by_a_column_that_the_runs_kept(home: Path, capsys) -> None:
    fraud = (np.random.default_rng(0).random(300) < 0.1).astype(int)
    frame = legacy(fraud, 1.5).assign(key=np.arange(300))
    assert tell(home, frame, "id=key", experiment="new") == 0
    shuffled = frame.sample(frac=1, random_state=1)
    assert tell(home, shuffled, "arm=other", experiment="new") == 2
    assert "labels differ from those of the experiment's test rows" in capsys.readouterr().err
    assert tell(home, shuffled, "arm=other", "id=key", experiment="new") == 0
    first, second = (
        pq.read_table(Path(run.tags["rarelab.directory"]) / "predictions.parquet")
        for run in Records(home).runs("new")
    )
    for name in ("key", "target", "score"):
        assert first[name].to_pylist() == second[name].to_pylist()
    strange = frame.assign(key=np.arange(300) + 5)
    assert tell(home, strange, "arm=third", "id=key", experiment="new") == 2
    assert "5 of the experiment's test rows are not in" in capsys.readouterr().err


def test_wrong_predictions_are_refused_in_one_line_and_nothing_is_recorded(
    home: Path, capsys
) -> None:
    frame = legacy(trained(home))
    before = runs(home)

    def refused(frame: pd.DataFrame, *settings: str) -> str:
        capsys.readouterr()
        assert tell(home, frame, *settings) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        return line

    assert "999 rows, the experiment's test rows are 1,000" in refused(frame[1:])
    swapped = frame.assign(fraud=frame["fraud"].to_numpy()[::-1])
    assert "120 of 1,000 labels differ" in refused(swapped)
    holes = frame.assign(risk=frame["risk"].where(frame.index > 2))
    assert "score=risk is not a finite number in 3 of 1,000 rows" in refused(holes)
    endless = frame.assign(risk=frame["risk"].where(frame.index > 0, np.inf))
    assert "score=risk is not a finite number in 1 of 1,000 rows" in refused(endless)
    assert "did you mean 'risk'?" in refused(frame, "score=rsk")
    unlabelled = frame.assign(fraud=frame["fraud"].astype(float).where(frame.index > 4))
    assert "target=fraud is missing in 5 of 1,000 rows" in refused(unlabelled)
    assert "has 3 different values" in refused(frame.assign(fraud=np.arange(ROWS) % 3))
    assert "has only one value" in refused(frame.assign(fraud=0))
    assert "say which is positive, for example positive_label=" in refused(
        frame.assign(fraud=np.where(frame["fraud"], "yes", "no"))
    )
    assert "did you mean 'seed'?" in refused(frame, "sed=1")
    assert "seed=a: expected a whole number" in refused(frame, "seed=a")
    priced = frame.assign(value=np.where(frame.index < 4, -1.0, 2.0))
    assert "amount=value is not a finite number of at least 0 in 4 of 1,000" in refused(
        priced, "amount=value"
    )
    assert runs(home) == before
    assert tell(home, frame, "seed=1") == 0
    assert "arm=legacy seed=1 is already recorded" in refused(frame, "seed=1")
    assert runs(home) == before + 1

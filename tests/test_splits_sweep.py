"""A sweep over splits and its verdict, as a user asks for them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import rarelab as package
from rarelab.cli import main


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 3))
    frame = pd.DataFrame(x, columns=list("abc"))
    frame["day"] = rng.permutation(600)
    frame["late"] = (x[:, 0] + rng.normal(size=600) > 1.8).astype(int)
    path = tmp_path / "orders.csv"
    frame.to_csv(path, index=False)
    return path


def request(table: Path, *split: str) -> list[str]:
    return [
        *("-m", "debug=fast", "model=linear", "loss=bce,smooth_ap", "schedule=constant"),
        *("dataset=file", f"dataset.path={table}", "dataset.target=late", "dataset.drop=[day]"),
        *("trainer.batch_size=256", *split),
    ]


@pytest.mark.slow
def test_folds_swept_by_number_end_in_a_corrected_verdict(
    table: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = request(table, "dataset.split=cv", "dataset.folds=3", "dataset.split_seed=range(3)")
    assert main(["train", *asked, "sweep.dry_run=true"]) == 0
    plan = capsys.readouterr().out
    assert "2 arms planned, each with 3 splits" in plan
    assert "take at least 5 splits: 'dataset.split_seed=range(5)'" in plan
    assert plan.count("loss=smooth_ap split_seed=") == 3

    found = package.train(asked)
    assert [run.status for run in found] == ["done"] * 6
    shown = capsys.readouterr()
    rows = [line for line in (shown.out + shown.err).splitlines() if line.startswith("loss=")]
    assert [row.split()[:2] for row in rows] == [["loss=bce", "3"], ["loss=smooth_ap", "3"]]

    tested = [
        pd.read_parquet(path).query("split == 'test'")["row"]
        for path in (home / "runs" / "rarelab").glob("file-*-smooth_ap-*/predictions.parquet")
    ]
    assert len(tested) == 3 and sorted(pd.concat(tested)) == list(range(600))

    assert main(["compare", "experiment=rarelab", "baseline=bce"]) == 0
    said = capsys.readouterr().out
    assert "3 splits: 3-fold cross-validation; corrected for 0.65 test rows per training" in said
    assert "corrected resampled t test, paired by split and seed" in said


def test_origins_swept_by_number_plan_one_split_each(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = request(table, "dataset.drop=[]", "dataset.time=day", "dataset.origins=5")
    assert main(["train", *asked, "dataset.split_seed=range(5)", "sweep.dry_run=true"]) == 0
    assert "2 arms planned, each with 5 splits" in capsys.readouterr().out
    assert main(["train", *asked, "dataset.split_seed=range(6)", "sweep.dry_run=true"]) == 2
    assert "expected a whole number below dataset.origins=5" in capsys.readouterr().err

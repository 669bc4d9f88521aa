"""Runs recorded by an earlier version can be compared, reproduced, used for scoring and served."""

import json
import shutil
import sqlite3
import tarfile
import warnings
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from rarelab.cli import main

STORED = Path(__file__).parent / "recorded_before"
PAYMENTS = STORED / "payments.csv"
RECORDED_IN = "/recorded/home"
SINGLE = "single/toy-linear-smooth_ap-s0-85558a46-0"
TABLE = "table/file-linear-smooth_ap-s0-f0419a81-0"
ARITHMETIC = ("cpu_capability", "torch", "numpy", "scipy", "scikit-learn", "platform")
"""What can change the last bits of a number, as ``rarelab reproduce`` names it."""


@pytest.fixture(autouse=True)
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stored home, unpacked as the test's home; the cwd is the folder that holds its table."""
    home = tmp_path / "home"
    monkeypatch.setenv("RARELAB_HOME", str(home))
    with tarfile.open(STORED / "home.tar.xz") as archive:
        archive.extractall(home.parent, filter="data")
    for path in home.rglob("*"):
        if path.suffix in (".json", ".csv", ".yaml"):
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace(RECORDED_IN, str(home)), encoding="utf-8")
    _rewrite(home / "mlflow.db", {f"file://{RECORDED_IN}": home.as_uri(), RECORDED_IN: str(home)})
    shutil.copy(PAYMENTS, home.parent)
    monkeypatch.chdir(home.parent)
    return home


def _rewrite(database: Path, places: dict[str, str]) -> None:
    """Replace the paths in an MLflow store, as a user does after moving the folder."""
    with closing(sqlite3.connect(database)) as db, db:
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("tags", "value"),
        ):
            for old, new in places.items():
                db.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (old, new))


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main(list(arguments))
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def facts(home: Path, run: str, file: str = "record.json") -> dict:
    return json.loads((home / "runs" / run / file).read_text(encoding="utf-8"))


def test_the_stored_runs_do_not_reveal_the_recording_machine(stored: Path) -> None:
    texts = [*stored.rglob("*.json"), *stored.rglob("*.yaml"), *stored.rglob("*.log")]
    said = "".join(path.read_text(encoding="utf-8") for path in texts)
    assert len(texts) > 50 and "/tmp" not in said.replace(str(stored), "")
    assert sum(path.stat().st_size for path in STORED.iterdir()) < 300_000


def test_the_stored_sweep_can_be_compared(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = command(capsys, "compare", "experiment=sweep", "baseline=bce")
    assert code == 0, said
    assert "smooth_ap" in said and "bce" in said
    (report,) = (stored / "reports").rglob("*.html")
    assert "0.149" in report.read_text(encoding="utf-8")  # mean test AUCPR per arm


def test_two_runs_can_be_compared_by_id(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = pd.read_csv(next((stored / "runs" / "sweep").glob("sweep-*/jobs.csv")))
    pair = ",".join(jobs["run_id"].iloc[[0, 2]])
    code, said = command(capsys, "compare", f"runs=[{pair}]")
    assert code == 0, said
    assert "test/aucpr" in said


@pytest.mark.parametrize("run", [SINGLE, TABLE])
def test_a_stored_run_can_be_reproduced(
    run: str, stored: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = command(capsys, "reproduce", run)
    if code != 0:
        # Another processor or torch may round differently; the command then says that it differs.
        differs = [line for line in said.splitlines() if "differs today: " in line]
        assert any(f"differs today: {name} " in line for line in differs for name in ARITHMETIC)
    assert code in (0, 1) and "reproduced" in said
    assert "digest has changed" not in said


def test_the_stored_model_gives_the_stored_scores(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "scores.csv"
    asked = ["predict", TABLE, str(PAYMENTS), "budget=0.05", f"output={output}"]
    code, said = command(capsys, *asked)
    assert code == 0, said
    found = pd.read_csv(output)
    assert len(found) == 400 and 0 < found["alert"].sum() < 60
    assert_scores(stored, found["score"])


def test_mlflow_loads_the_stored_model(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stored model names the module that loads it, so that module must never move."""
    run_id = facts(stored, TABLE)["run_id"]
    shutil.rmtree(stored / "runs")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # raised by MLflow itself
        import mlflow

        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{stored / 'mlflow.db'}")
        model = mlflow.pyfunc.load_model(f"runs:/{run_id}/model")
        rows = pd.read_csv(PAYMENTS).astype({"months": float})
        found = model.predict(rows)
    with tarfile.open(STORED / "home.tar.xz") as archive:
        archive.extractall(stored.parent, filter="data")
    assert_scores(stored, found["score"])


def assert_scores(stored: Path, found: pd.Series) -> None:
    """Every recorded validation and test score is among the scores of the whole table.

    To within 1e-5, because they were recorded with another batch composition.
    """
    recorded = pd.read_parquet(stored / "runs" / TABLE / "predictions.parquet")
    assert len(recorded) == 160
    ordered = found.sort_values(ignore_index=True)
    nearest = pd.merge_asof(
        recorded[["score"]].astype(float).sort_values("score"),
        pd.DataFrame({"score": ordered.astype(float), "found": ordered.astype(float)}),
        on="score",
        direction="nearest",
    )
    assert (nearest["found"] - nearest["score"]).abs().max() < 1e-5


def test_planning_a_stored_sweep_again_recognises_its_jobs(
    stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Signatures do not change with the layout; the code's fingerprint may."""
    small = ["model=linear", "trainer.max_epochs=2", "trainer.batch_size=128"]
    small += ["schedule.warmup_epochs=1", "schedule.blend_epochs=0"]
    small += ["dataset.n_samples=800", "dataset.pos_rate=0.05", "tracking.experiment=sweep"]
    code, said = command(
        capsys, "train", "-m", *small, "loss=bce,smooth_ap", "seed=range(2)", "sweep.dry_run=true"
    )
    assert code == 0, said
    jobs = [line for line in said.splitlines() if line.startswith(("  done ", "  missing "))]
    assert len(jobs) == 4
    for job in jobs:
        assert job.startswith("  done ") or "(the code changed since" in job

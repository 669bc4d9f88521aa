"""The commands from Python: a run's model, a comparison as a frame; and a run refitted."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import rarelab as package
from rarelab import api
from rarelab.cli import main
from rarelab.compare.study import Study
from rarelab.errors import RequestError
from rarelab.predict.facts import read_facts
from rarelab.records.load import Records
from rarelab.tracking.entry import load_entry
from rarelab.training.history import read_rows
from recorded import BCE, SMOOTH_AP, leave_files, record, scored
from refitted import TRAINED, alike, blocks, trained


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return trained(tmp_path_factory.mktemp("runs"), *TRAINED)


def test_importing_the_package_loads_no_library() -> None:
    """Not even once the package of comparisons, whose name is also the function's, is there."""
    code = "import rarelab, sys; print(callable(rarelab.compare), *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    can_be_called, *modules = done.stdout.split()
    heavy = {"torch", "pandas", "numpy", "mlflow", "hydra", "sklearn"}
    assert can_be_called == "True" and not heavy & {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize("model", TRAINED)
def test_the_test_rows_get_the_recorded_scores_bit_for_bit(
    runs: dict[str, Path], model: str
) -> None:
    frame = pd.read_csv(runs["file"], dtype={"zip": str})
    rows = alike(frame).test
    found = package.load(runs[model].name, home=runs["home"]).score(frame.iloc[rows])
    recorded = pd.read_parquet(runs[model] / "predictions.parquet")
    recorded = recorded[recorded["split"] == "test"]["score"].to_numpy()
    assert found["score"].to_numpy().tobytes() == recorded.tobytes()
    assert found.index.tolist() == rows.tolist()


def test_a_file_and_a_frame_give_what_the_command_writes(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    name, path = runs["mlp"].name, tmp_path / "scores.parquet"
    arguments = [name, str(runs["file"]), "budget=0.05", f"output={path}"]
    assert main(["predict", *arguments, "--home", str(runs["home"])]) == 0
    written = pd.read_parquet(path)
    for run in (name, name[:-2], runs["mlp"], runs["mlp"] / "model"):
        scorer = package.load(run, home=runs["home"])
        assert scorer.run == name and scorer.classes == ("fine", "fraud")
    assert list(scorer.columns)[:2] == ["amount", "country"]
    for rows in (runs["file"], str(runs["file"]), pd.read_csv(runs["file"], dtype={"zip": str})):
        found = scorer.score(rows, budget=0.05)
        assert {"score", "alert"} <= {*found.columns} <= {*written.columns}
        assert found["alert"].sum() > 0
        assert found.equals(written[found.columns])
    assert ((found["score"] >= scorer.threshold(0.05).value) == found["alert"]).all()


def test_what_cannot_be_loaded_or_scored_is_refused(runs: dict[str, Path]) -> None:
    with pytest.raises(RequestError, match="there is no such run; did you mean"):
        package.load(runs["mlp"].name[:-2] + "x", home=runs["home"])
    scorer = package.load(runs["mlp"])
    with pytest.raises(RequestError, match="expected a DataFrame or a path, got list"):
        scorer.score([1, 2])  # pyright: ignore
    with pytest.raises(RequestError, match="column 'amount' is missing"):
        scorer.score(pd.read_csv(runs["file"]).drop(columns="amount"))
    with pytest.raises(RequestError, match="there is no such file"):
        scorer.score(runs["file"].with_name("other.csv"))


@pytest.fixture(scope="module")
def study(runs: dict[str, Path]) -> Path:
    """The home of the runs, with an experiment of two arms and eight seeds."""
    for arm, shift in ((BCE, 1.0), (SMOOTH_AP, 2.0)):
        for seed in range(8):
            directory = runs["home"] / "runs" / "study" / f"{arm['loss']}-{seed}"
            own = scored(800, 20, shift, draw=2, noise=0.3, seed=seed)
            metrics = leave_files(directory, *own)
            record(runs["home"], arm, seed, metrics, directory=directory)
    return runs["home"]


@pytest.fixture
def at_the_study(study: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RARELAB_HOME", str(study))
    return study


def test_the_frame_of_a_comparison_holds_the_numbers_of_the_commands_table(
    at_the_study: Path, capsys: pytest.CaptureFixture
) -> None:
    asked = ["experiment=study", "baseline=loss=bce", "level=0.9"]
    frame = package.compare(asked)
    assert capsys.readouterr().out == "" and not (at_the_study / "reports").exists()
    assert main(["compare", *asked]) == 0
    said = capsys.readouterr().out
    (table,) = (at_the_study / "reports" / "study" / "compare-1").rglob("*.csv")
    again = pd.read_csv(table)
    pd.testing.assert_frame_equal(frame, again, rtol=1e-14, atol=0, check_dtype=False)
    assert frame["arm"].tolist() == ["loss=bce", "loss=smooth_ap"]
    other = frame.iloc[1]
    assert other["verdict"] == "better" and f"+{other['difference']:.4f}" in said
    assert other["low"] < other["difference"] < other["high"] and other["level"] > 0.85
    assert 0 < other["p_holm"] < 0.1 and other["runs"] == 8


def test_a_comparison_writes_its_report_only_if_asked(
    at_the_study: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def report(found: Study, records: Records, overrides: list[str]) -> tuple[Path, str]:
        written.append(overrides)
        return at_the_study / "report.html", "also attached"

    monkeypatch.setattr("rarelab.compare.command._report", report)
    assert "report" not in package.compare(["experiment=study"]).attrs and not written
    frame = package.compare(["experiment=study"], report=True)
    assert frame.attrs["report"] == str(at_the_study / "report.html")
    assert written == [["experiment=study"]] and capsys.readouterr().out == ""
    for asked in (["experiment=stdy"], ["experiment=study", "metrc=x"], ["experiment"]):
        with pytest.raises(RequestError):
            package.compare(asked)


def test_two_runs_are_compared_as_a_row_each(
    at_the_study: Path, capsys: pytest.CaptureFixture
) -> None:
    runs = {run.name: run.run_id for run in Records(at_the_study).runs("study")}
    asked = f"runs=[{runs['bce-s0']},{runs['smooth_ap-s0']}]"
    frame = package.compare([asked])
    assert main(["compare", asked]) == 0
    said = capsys.readouterr().out
    assert frame["run"].tolist() == [runs["bce-s0"], runs["smooth_ap-s0"]]
    assert frame["verdict"].tolist() == ["baseline", "better"]
    assert f"+{frame.loc[1, 'difference']:.4f} [+{frame.loc[1, 'low']:.4f}" in said
    with pytest.raises(RequestError, match="a pair of runs has no report"):
        package.compare([asked], report=True)


def test_the_page_for_python_runs_as_written(
    runs: dict[str, Path], at_the_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("new.csv").write_bytes(runs["file"].read_bytes())
    names = {"frame": pd.read_csv("new.csv", dtype={"zip": str})}
    truth = np.arange(200) % 8 == 0
    risk = np.random.default_rng(0).random(200) + truth
    rows = {"id": range(200), "Class": truth.astype(int), "risk": risk}
    names["predictions"] = pd.DataFrame(rows)
    for code in blocks()[:3]:
        code = code.replace("3f2a91", runs["mlp"].name).replace("=creditcard", "=study")
        exec(compile(code, "python.md", "exec"), names)
    assert names["scored"]["score"].equals(names["alerts"]["score"])
    assert names["alerts"]["alert"].any()
    assert "reason_3" in names["why"] and names["why"].index.equals(names["scored"].index)
    assert set(names["table"]["metric"]) == {"test/recall_at_q/0.005"}
    assert names["run"].status == "done" and names["run"].directory.parent.name == "creditcard"
    assert names["run"].metrics["test/aucpr"] > 0.9


def test_the_function_and_the_package_share_a_name() -> None:
    assert isinstance(package.compare, api.ComparePackage)
    assert package.compare.study.Study is Study  # pyright: ignore


@pytest.fixture(scope="module")
def refits(runs: dict[str, Path]) -> dict[str, Path]:
    for model in TRAINED:
        assert main(["refit", runs[model].name, "--home", str(runs["home"])]) == 0
    return {
        model: next((runs["home"] / "runs" / "rarelab").glob(f"refit-*-{model}-*"))
        for model in TRAINED
    }


@pytest.mark.parametrize("model", TRAINED)
def test_a_refit_predicts_with_the_threshold_it_came_from(
    runs: dict[str, Path],
    refits: dict[str, Path],
    model: str,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    scorer, earlier = package.load(refits[model]), package.load(runs[model])
    assert f"its threshold is that of {runs[model].name}, unverified" in caplog.text
    assert scorer.threshold(0.05) == earlier.threshold(0.05)
    assert scorer.scorer.rules.calibrator == earlier.scorer.rules.calibrator is not None
    now, then = scorer.score(runs["file"]), earlier.score(runs["file"])
    assert not np.array_equal(now["score"], then["score"])
    assert np.corrcoef(now["score"], then["score"])[0, 1] > 0.5
    output = tmp_path / "scores.csv"
    arguments = [refits[model].name, str(runs["file"]), f"output={output}"]
    assert main(["predict", *arguments, "--home", str(runs["home"])]) == 0
    assert len(pd.read_csv(output)) == len(now)


def test_a_refit_trains_as_long_as_the_run_did_on_all_rows(
    runs: dict[str, Path], refits: dict[str, Path]
) -> None:
    rows, kept = (read_rows(run["mlp"] / "history.jsonl") for run in (refits, runs))
    best = next(row["metrics"] for row in kept if "best/epoch" in row["metrics"])["best/epoch"]
    trained_for = [row["step"] for row in rows if "train/loss" in row["metrics"]]
    assert trained_for == [*range(int(best) + 1)]
    measured = {key for row in rows for key in row["metrics"]}
    assert not [key for key in measured if key.startswith(("val/", "test/"))]
    entry = load_entry(refits["mlp"])
    assert entry is not None and entry.tags["rarelab.rows"] == "1500/0/0"
    # Of the booster, as many trees as validation had left, not as many as were allowed.
    trees = []
    for run in (runs, refits):
        with np.load(run["hist_gradient_boosting"] / "model" / "arrays.npz") as arrays:
            trees.append(len(arrays["model/roots"]))
    assert trees[0] == trees[1] < 200


def test_a_refit_of_a_network_with_embeddings_takes_its_bins_from_all_rows(
    runs: dict[str, Path], refits: dict[str, Path]
) -> None:
    earlier, now = (read_facts(run["tabm"] / "model")["model"] for run in (runs, refits))
    assert earlier["one_hot"] == now["one_hot"] != []
    assert [len(edges) > 0 for edges in earlier["bin_edges"]] == [
        len(edges) > 0 for edges in now["bin_edges"]
    ]
    assert earlier["bin_edges"] != now["bin_edges"]


def test_a_refit_is_no_evidence_and_no_finished_job(
    runs: dict[str, Path], refits: dict[str, Path], capsys: pytest.CaptureFixture
) -> None:
    home, tags = runs["home"], load_entry(refits["mlp"])
    assert tags is not None and tags.tags["rarelab.kind"] == "refit"
    first = load_entry(runs["mlp"])
    assert first is not None and tags.tags["rarelab.refit_of"] == first.run_id
    assert tags.tags["rarelab.signature"] != first.tags["rarelab.signature"]
    compared = {run.run_id for run in Records(home).runs("rarelab")}
    assert first.run_id in compared and tags.run_id not in compared
    frame = package.compare(["experiment=rarelab", "baseline=mlp", f"paths.home='{home}'"])
    assert frame["runs"].tolist() == [1] * len(TRAINED)
    with pytest.raises(RequestError, match=r"it has no predictions\.parquet"):
        package.compare([f"runs=[{first.run_id},{tags.run_id}]", f"paths.home='{home}'"])
    for command in ("refit", "reproduce"):
        assert main([command, refits["mlp"].name, "--home", str(home)]) == 2
        assert "this is a refit" in capsys.readouterr().err


def test_a_run_that_is_only_in_mlflow_is_refitted_too(runs: dict[str, Path]) -> None:
    entry, folder = load_entry(runs["linear"]), runs["home"] / "runs"
    assert entry is not None and entry.run_id is not None
    away = folder.rename(folder.with_name("away"))
    try:
        assert main(["refit", entry.run_id, "--home", str(runs["home"])]) == 0
        (made,) = (folder / "rarelab").glob("refit-file-linear-*")
        assert load_entry(made).tags["rarelab.refit_of"] == entry.run_id  # pyright: ignore
        assert package.load(made).score(runs["file"])["probability"].between(0, 1).all()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        away.rename(folder)

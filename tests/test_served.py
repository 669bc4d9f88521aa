"""The model of a recorded run, loaded and served by MLflow."""

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import rarelab as package
from rarelab.cli import main
from rarelab.errors import RequestError
from rarelab.predict.served import _load_pyfunc
from rarelab.runs.run import Outcome
from rarelab.tracking import client, sync, write_status
from rarelab.tracking.wheel import NAME as WHEEL
from rarelab.tracking.wheel import wheel

QUICK = ["trainer.max_epochs=1", "trainer.select=any", "loss=bce", "tracking.figures=false"]


def write_table(path: Path) -> None:
    draw = np.random.default_rng(0)
    amount = draw.lognormal(3, 1, 800)
    frame = pd.DataFrame(
        {
            "amount": np.where(draw.random(800) < 0.1, np.nan, amount),
            "country": draw.choice(["DE", "FR", None], 800),
            "age": draw.integers(18, 80, 800),
            "fraud": (amount > np.quantile(amount, 0.93)).astype(int),
        }
    )
    frame.to_csv(path, index=False)


@pytest.fixture
def run(tmp_path: Path, home: Path) -> Outcome:
    write_table(tmp_path / "new.csv")
    request = ["dataset=file", f"dataset.path={tmp_path / 'new.csv'}", "dataset.target=fraud"]
    return package.train([*request, *QUICK])


def uri(home: Path) -> str:
    return f"sqlite:///{home / 'mlflow.db'}"


def artifacts(home: Path, run_id: str) -> set[str]:
    return {file.path for file in client(uri(home)).list_artifacts(run_id, "model")}


FILES = {
    f"model/{name}"
    for name in (
        *("MLmodel", "model.json", "arrays.npz", "checkpoint.pt", "requirements.txt"),
        *("python_env.yaml", "input_example.json", "serving_input_example.json", WHEEL),
    )
}


def test_a_run_leaves_an_mlflow_model(run: Outcome, home: Path) -> None:
    from mlflow.models import Model

    assert artifacts(home, run.run_id) == FILES
    folder = client(uri(home)).download_artifacts(run.run_id, "model")
    described = Model.load(folder)
    assert described.run_id == run.run_id
    assert described.flavors["python_function"]["loader_module"] == "rarelab.predict.served"
    assert described.signature is not None
    assert described.signature.inputs.input_names() == ["amount", "country", "age"]
    assert described.signature.outputs.input_names() == ["score"]
    example = described.load_input_example(folder)
    needed = (Path(folder) / "requirements.txt").read_text().splitlines()
    assert f"rarelab=={package.__version__}" in needed
    assert needed[0] == "--find-links ."  # where the wheel lies
    assert all("==" in line and "+" not in line for line in needed[1:])
    served = _load_pyfunc(folder)
    assert served.predict(example)["score"].notna().all()


def test_the_served_model_gives_the_recorded_scores(run: Outcome, tmp_path: Path) -> None:
    served = _load_pyfunc(str(run.directory / "model"))
    rows = pd.read_csv(tmp_path / "new.csv").drop(columns="fraud")
    plain, alerting = served.predict(rows), served.predict(rows, {"budget": 0.02})
    assert list(plain.columns) == ["score"] and list(alerting.columns) == ["score", "alert"]
    recorded = pd.read_parquet(run.directory / "predictions.parquet")["score"]
    assert set(np.round(recorded, 4)) <= set(np.round(plain["score"], 4))
    assert 0 < alerting["alert"].sum() < 0.1 * len(rows)
    with pytest.raises(RequestError, match="named columns"):
        served.predict(rows.to_numpy())


def test_a_run_only_in_mlflow_predicts_by_id(
    run: Outcome, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    shutil.rmtree(home / "runs")
    assert main(["predict", run.run_id, str(tmp_path / "new.csv"), "output=-"]) == 0
    assert capsys.readouterr().out.startswith("row,score,probability,rank,status\n0,")
    for other in (run.run_id[:12], "0" * 32):
        assert main(["predict", other, str(tmp_path / "new.csv")]) == 2
        assert "there is no such run" in capsys.readouterr().err
    nowhere = ["--home", str(tmp_path / "nowhere")]
    assert main(["predict", run.run_id, str(tmp_path / "new.csv"), *nowhere]) == 2
    assert not (tmp_path / "nowhere").exists()


def test_a_failure_to_describe_the_model_leaves_the_run_finished(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def broken(*_: object) -> bool:
        raise ValueError("no such type")

    monkeypatch.setattr("rarelab.tracking.writer.describe", broken)
    done = package.train([*QUICK, "dataset.n_samples=2000", "dataset.pos_rate=0.05"])
    assert "cannot be served: no such type" in capsys.readouterr().out
    stored = client(uri(home)).get_run(done.run_id)
    assert stored.info.status == "FINISHED" and not artifacts(home, done.run_id)
    monkeypatch.undo()
    write_status(done.directory, "done")  # makes sync push again
    sync(home)
    assert artifacts(home, done.run_id) == FILES


def test_a_failure_to_save_the_model_does_not_fail_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("rarelab.runs.run.write_model", full)
    small = ["dataset.n_samples=2000", "dataset.pos_rate=0.05", "tracking=none"]
    assert package.train([*QUICK, *small]).status == "done"
    assert "no model was saved for `rarelab predict`: disk full" in capsys.readouterr().out


def test_a_run_records_at_most_40_keys_besides_per_class_ones(home: Path) -> None:
    small = ["dataset=longtail_toy", "dataset.n_samples=4000", "loss=cross_entropy"]
    done = package.train([*QUICK, *small])
    keys = client(uri(home)).get_run(done.run_id).data.metrics
    general = [key for key in keys if not key.startswith("test/class/")]
    assert len(keys) == len(general) + 6
    assert len(general) <= 40


@contextmanager
def serving(home: Path, run_id: str) -> Iterator[str]:
    """Run ``mlflow models serve`` on a run's model; yield its address once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["-m", "mlflow", "models", "serve", "-m", f"runs:/{run_id}/model"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, *command],
        # MLflow looks for uvicorn on PATH, as in an activated environment.
        env={
            **os.environ,
            "MLFLOW_TRACKING_URI": uri(home),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/ping", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.5)
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def ask(address: str, body: bytes, kind: str = "application/json") -> tuple[int, dict]:
    request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.slow
def test_mlflow_serves_the_model_of_a_run(run: Outcome, home: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(tmp_path / "new.csv").drop(columns="fraud")
    expected = _load_pyfunc(str(run.directory / "model")).predict(frame, {"budget": 0.02})
    split = json.loads(frame.to_json(orient="split"))
    body = {"dataframe_split": {k: split[k] for k in ("columns", "data")}}
    with serving(home, run.run_id) as address:
        status, answer = ask(address, json.dumps(body | {"params": {"budget": 0.02}}).encode())
        assert status == 200
        found = pd.DataFrame(answer["predictions"])
        assert found["score"].astype(np.float32).tolist() == expected["score"].tolist()
        assert found["alert"].tolist() == expected["alert"].tolist()
        status, answer = ask(address, frame.to_csv(index=False).encode(), "text/csv")
        assert status == 200
        again = [row["score"] for row in answer["predictions"]]
        assert again == pytest.approx(expected["score"].tolist(), rel=1e-5)
        status, answer = ask(address, b'{"dataframe_records": [{"amount": 1.0, "age": 20}]}')
        assert status == 400 and "country" in answer["message"]


def test_the_wheel_beside_the_model_holds_the_package_as_installed(tmp_path: Path) -> None:
    (tmp_path / WHEEL).write_bytes(wheel())
    with zipfile.ZipFile(tmp_path / WHEEL) as archive:
        assert archive.testzip() is None
        packed = {name: archive.read(name) for name in archive.namelist()}
    package_folder = Path(package.__file__).parent
    for path in package_folder.rglob("*.py"):
        assert packed[f"rarelab/{path.relative_to(package_folder)}"] == path.read_bytes()
    assert {"rarelab/conf/train.yaml", "rarelab/conf/experiments/losses.yaml"} <= {*packed}
    (record,) = [content for name, content in packed.items() if name.endswith("/RECORD")]
    listed = {line.split(",")[0] for line in record.decode().splitlines()}
    assert listed == {*packed}
    wheel.cache_clear()
    assert wheel() == (tmp_path / WHEEL).read_bytes()


@pytest.mark.slow
def test_the_requirements_of_a_model_install_where_no_index_has_the_package(
    run: Outcome, home: Path, tmp_path: Path
) -> None:
    downloaded = Path(client(uri(home)).download_artifacts(run.run_id, "model", str(tmp_path)))
    folder = downloaded.rename(tmp_path / "a model")
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    # Without the libraries, which are an index's: they are borrowed.
    needed = folder / "requirements.txt"
    needed.write_text("\n".join(needed.read_text().splitlines()[:2]) + "\n")
    install = ["pip", "install", "--no-deps", "--no-index", "-r", needed]
    subprocess.run([python, "-m", *install], check=True, cwd="/")
    (site,) = (environment / "lib").glob("python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    code = (
        "import json, sys, mlflow, pandas, rarelab; model = mlflow.pyfunc.load_model(sys.argv[1]);"
        "rows = pandas.read_csv(sys.argv[2], dtype={'age': float}).drop(columns='fraud');"
        "found = model.predict(rows);"
        "print(json.dumps([rarelab.__file__, found['score'].astype(float).tolist()]))"
    )
    done = subprocess.run(
        [python, "-c", code, folder, tmp_path / "new.csv"],
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    where, scores = json.loads(done.stdout.splitlines()[-1])
    assert str(environment) in where
    expected = package.load(run.directory).score(tmp_path / "new.csv")["score"]
    assert scores == expected.astype(float).tolist()

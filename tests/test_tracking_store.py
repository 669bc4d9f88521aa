"""The store: one absolute address, and a first start that several processes may race for."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from rarelab.errors import RequestError
from rarelab.records.finished import finished
from rarelab.tracking import client, ensure_store, resolve_uri, tables
from rarelab.tracking.store import (
    StoreUnavailable,
    artifact_root,
    ensure_experiment,
    sqlite_path,
    sqlite_uri,
)

RECORD_ONE_RUN = """
import sys, time
from pathlib import Path
import mlflow  # before the starting signal, so that all meet at the store
from rarelab.tracking import MlflowSink, RunRecord
home, name = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
directory = home / "runs" / "race" / name
directory.mkdir(parents=True)
sink = MlflowSink(experiment="race", home=str(home))
sink.open(RunRecord(name, {"seed": name}, {}, directory))
sink({"step": 0, "time": 1, "metrics": {"train/loss": 0.5}})
sink.close("done")
"""


def test_the_store_comes_from_the_setting_then_the_environment_then_the_home(tmp_path, monkeypatch):
    assert resolve_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert resolve_uri(tmp_path) == "http://127.0.0.1:5000"
    assert resolve_uri(tmp_path, "postgresql+psycopg2://h/db") == "postgresql+psycopg2://h/db"


def test_a_relative_path_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_uri(Path("out")) == f"sqlite:///{tmp_path}/out/mlflow.db"
    assert resolve_uri(tmp_path, "sqlite:///other.db") == f"sqlite:///{tmp_path}/other.db"


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "htp://host", "sqlite", "http"])
def test_an_invalid_address_is_refused_with_its_origin(tmp_path, monkeypatch, uri):
    with pytest.raises(RequestError, match=r"tracking\.uri=.*expected sqlite:///PATH"):
        resolve_uri(tmp_path, uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(RequestError, match=r"MLFLOW_TRACKING_URI="):
        resolve_uri(tmp_path)


@pytest.mark.parametrize("folder", ["a?b", "a%20b"])
def test_a_path_that_a_uri_would_misread_is_refused(tmp_path, folder):
    with pytest.raises(RequestError, match=r"paths\.home="):
        sqlite_uri(tmp_path / folder / "mlflow.db")


def test_artifacts_are_stored_beside_an_sqlite_file_or_where_the_server_decides(tmp_path):
    assert artifact_root("sqlite:////data/mlflow.db", tmp_path) == Path("/data/artifacts")
    assert artifact_root("postgresql://h/db", tmp_path) == tmp_path / "artifacts"
    assert artifact_root("http://h", tmp_path) is None


def test_a_store_opens_in_a_path_with_spaces_and_accents_beside_a_stray_mlruns(
    tmp_path, monkeypatch
):
    home = tmp_path / "mes résultats # 100% d'été"
    stray = tmp_path / "mlruns" / "7"
    stray.mkdir(parents=True)
    (stray / "meta.yaml").write_text("name: old\n")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    uri = sqlite_uri(home / "mlflow.db")
    tracker = client(uri, home)
    experiment = tracker.get_experiment(ensure_experiment(tracker, "étude/1", uri, home))
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    run = tracker.create_run(experiment.experiment_id)
    tracker.log_text(run.info.run_id, "x", "note.txt")
    [note] = (home / "artifacts").rglob("note.txt")
    assert note.read_text() == "x"
    assert sorted(p for p in tmp_path.rglob("*") if home not in (p, *p.parents)) == before
    assert tracker.get_experiment("0").artifact_location.startswith("file:")
    assert sqlite_path(uri) == home / "mlflow.db"


def test_a_second_call_keeps_the_store_and_its_experiment(tmp_path):
    uri = sqlite_uri(tmp_path / "mlflow.db")
    tracker = client(uri, tmp_path)
    first = ensure_experiment(tracker, "e", uri, tmp_path)
    ensure_store(uri, tmp_path)
    assert ensure_experiment(client(uri, tmp_path), "e", uri, tmp_path) == first
    tracker.delete_experiment(first)
    assert ensure_experiment(tracker, "e", uri, tmp_path) == first
    assert tracker.get_experiment(first).lifecycle_stage == "active"


def test_an_experiment_created_elsewhere_gets_the_tag_for_the_right_view(tmp_path):
    uri = sqlite_uri(tmp_path / "mlflow.db")
    tracker = client(uri, tmp_path)
    made = tracker.create_experiment("mine")
    assert ensure_experiment(tracker, "mine", uri, tmp_path) == made
    tags = tracker.get_experiment(made).tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"


def test_an_empty_file_left_by_a_crash_is_replaced_and_foreign_bytes_are_not(tmp_path):
    empty, foreign = tmp_path / "empty.db", tmp_path / "foreign.db"
    empty.touch()
    foreign.write_bytes(b"not a database, but someone's" * 50)
    client(sqlite_uri(empty), tmp_path).search_experiments()
    with pytest.raises(StoreUnavailable, match="not a database"):
        ensure_store(sqlite_uri(foreign), tmp_path)
    assert foreign.read_bytes().startswith(b"not a database")


def test_the_tables_of_mlflow_are_the_ones_we_read(tmp_path, monkeypatch):
    """Written for MLflow 3.17; other tables are read through MLflow's client, more slowly."""
    uri = sqlite_uri(tmp_path / "mlflow.db")
    tracker = client(uri, tmp_path)
    experiment = ensure_experiment(tracker, "mine", uri, tmp_path)
    tags = {f"rarelab.{name}": name[0] for name in ("signature", "code", "data")}
    for status in ("done", "diverged"):
        run = tracker.create_run(experiment, tags={**tags, "rarelab.status": status})
        tracker.set_terminated(run.info.run_id, "FINISHED" if status == "done" else "FAILED")
    read = tables.finished_tags(tmp_path / "mlflow.db", "mine")
    assert read is not None and len(read) == 1
    [found] = finished(uri, "mine", ["s"]).values()
    assert found == {"signature": "s", "code": "c", "data": "d", "status": "done"}
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE runs (id)")
    assert tables.finished_tags(tmp_path / "other.db", "mine") is None
    monkeypatch.setattr(tables, "finished_tags", lambda path, experiment: None)
    assert list(finished(uri, "mine", ["s"]).values()) == [found]


def test_telemetry_is_off_and_no_thread_is_left_behind(tmp_path):
    # In a separate process: whoever imports MLflow first decides for the whole process.
    script = (
        "import os, sys, threading\n"
        "from pathlib import Path\n"
        "from rarelab.tracking import client\n"
        "from rarelab.tracking.store import sqlite_uri\n"
        "home = Path(sys.argv[1])\n"
        "client(sqlite_uri(home / 'mlflow.db'), home)\n"
        "from mlflow.telemetry import get_telemetry_client\n"
        "assert get_telemetry_client() is None\n"
        "assert not [t for t in threading.enumerate() if 'mlflow' in t.name.lower()]\n"
    )
    ensure_store(sqlite_uri(tmp_path / "mlflow.db"))  # in a new process it takes seconds
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=environment, check=True)


def race(home: Path, processes: int) -> None:
    """Start processes that race to create the store; each of them must record a finished run."""
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", RECORD_ONE_RUN, str(home), f"job{i}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=home,
        )
        for i in range(processes)
    ]
    for job in jobs:
        assert job.stdout is not None and job.stdout.readline() == "ready\n"
    for job in jobs:
        assert job.stdin is not None
        job.stdin.write("go\n")
        job.stdin.flush()
    said = [job.communicate() for job in jobs]
    assert [job.returncode for job in jobs] == [0] * processes, said
    assert all(not err for _, err in said), said
    uri = sqlite_uri(home / "mlflow.db")
    tracker = client(uri, home)
    experiment = tracker.get_experiment_by_name("race")
    assert experiment is not None
    runs = tracker.search_runs([experiment.experiment_id])
    assert sorted(run.data.params["seed"] for run in runs) == [f"job{i}" for i in range(processes)]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert all(run.data.metrics == {"train/loss": 0.5} for run in runs)
    with closing(sqlite3.connect(home / "mlflow.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert not list(home.glob("*.part"))


@pytest.mark.slow
def test_two_processes_create_one_store(tmp_path):
    race(tmp_path, 2)


@pytest.mark.slow
def test_eight_processes_create_one_store_three_times_in_a_row(tmp_path):
    for attempt in range(3):
        home = tmp_path / str(attempt)
        home.mkdir()
        race(home, 8)

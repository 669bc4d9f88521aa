"""Tracking may fail without affecting training: every store fault at every moment of a run."""

import json
import logging
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

import rarelab as package
from rarelab.cli import main
from rarelab.tracking import MlflowSink, RunRecord, client, sync
from rarelab.tracking.entry import read_status, write_status
from rarelab.tracking.store import ensure_store, sqlite_uri
from rarelab.training.history import History, read_rows

EPOCHS = 6
FAULTS = [pytest.param("locked", marks=pytest.mark.slow), "full"]


@contextmanager
def locked(path: Path):
    """Another process holds the write lock; MLflow waits 20 s for it on each attempt."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("BEGIN EXCLUSIVE")
        yield


@contextmanager
def full(path: Path):
    """Every write fails, as on a full or read-only disk."""
    tables = ("runs", "metrics", "params", "tags")
    with closing(sqlite3.connect(path)) as db:
        for table in tables:
            for event in ("INSERT", "UPDATE"):
                db.execute(
                    f"CREATE TRIGGER full_{table}_{event} BEFORE {event} ON {table} "
                    "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
                )
        db.commit()
        yield
        for table in tables:
            for event in ("INSERT", "UPDATE"):
                db.execute(f"DROP TRIGGER full_{table}_{event}")
        db.commit()


broken_by = {"locked": locked, "full": full}


def train(
    home: Path, at: Callable[[str], None], uri: str | None = None, *, slow: bool = True
) -> Path:
    """Record a run, calling ``at`` with each of its moments; return its directory."""
    directory = home / "runs" / "rarelab" / "job"
    directory.mkdir(parents=True)
    at("start")
    sink = MlflowSink(uri, home=str(home))
    sink.open(RunRecord("job", {"a": "1"}, {}, directory))
    history = History(directory / "history.jsonl", [sink])
    for epoch in range(EPOCHS):
        if epoch == EPOCHS // 2:
            at("middle")
        # Slow epochs: each row is written at once.
        sink._start -= 1000 if slow else 0
        history.append(epoch, {"train/loss": 1.0 - 0.1 * epoch})
    curve = {"steps": [1, 2], "values": [0.1, 0.2]}
    (directory / "curves.json").write_text(json.dumps({"recall_at_q": curve}))
    at("end")
    sink.close("done", directory)
    return directory


def assert_level(home: Path, directory: Path, uri: str | None = None) -> None:
    rows = read_rows(directory / "history.jsonl")
    assert [row["step"] for row in rows] == list(range(EPOCHS))
    tracker = client(uri or sqlite_uri(home / "mlflow.db"), home)
    experiment = tracker.get_experiment_by_name("rarelab")
    assert experiment is not None
    [run] = tracker.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.data.params == {"a": "1"}
    assert run.data.tags["rarelab.status"] == "done"
    stored = tracker.get_metric_history(run.info.run_id, "train/loss")
    expected = [(row["step"], row["metrics"]["train/loss"], row["time"]) for row in rows]
    assert [(m.step, m.value, m.timestamp) for m in stored] == expected
    assert len(tracker.get_metric_history(run.info.run_id, "curve/recall_at_q")) == 2


def warnings_of(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("moment", ["start", "middle", "end"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_gives_one_warning_and_sync_brings_mlflow_up_to_date(
    tmp_path, caplog, fault, moment
):
    uri = sqlite_uri(tmp_path / "mlflow.db")
    ensure_store(uri, tmp_path)
    with ExitStack() as broken:

        def at(now: str) -> None:
            if now == moment:
                broken.enter_context(broken_by[fault](tmp_path / "mlflow.db"))

        directory = train(tmp_path, at, slow=fault != "locked")
        [warning] = warnings_of(caplog)
        assert "rarelab sync" in warning and "\n" not in warning
    assert sync(tmp_path).startswith("1 runs synced")
    assert_level(tmp_path, directory)
    assert sync(tmp_path) == "0 runs synced (0 points), 1 up to date"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_store_that_comes_back_is_up_to_date_at_the_end_by_itself(tmp_path, caplog, fault):
    ensure_store(sqlite_uri(tmp_path / "mlflow.db"), tmp_path)
    broken = ExitStack()
    moments = {
        "start": lambda: broken.enter_context(broken_by[fault](tmp_path / "mlflow.db")),
        "middle": broken.close,
        "end": lambda: None,
    }
    directory = train(tmp_path, lambda now: moments[now](), slow=fault != "locked")
    assert len(warnings_of(caplog)) == 1
    assert_level(tmp_path, directory)


def test_a_store_that_cannot_be_created_gives_one_warning(tmp_path, caplog):
    (tmp_path / "file").touch()
    impossible = sqlite_uri(tmp_path / "file" / "mlflow.db")
    directory = train(tmp_path, lambda now: None, impossible)
    assert len(warnings_of(caplog)) == 1
    uri = sqlite_uri(tmp_path / "mlflow.db")
    sync(tmp_path, uri)
    assert_level(tmp_path, directory, uri)


@contextmanager
def silent_server() -> Iterator[tuple[str, list[socket.socket]]]:
    """A server that accepts connections but never answers: its address, the connections."""
    taken: list[socket.socket] = []

    def take() -> None:
        with suppress(OSError):
            while True:
                taken.append(listener.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=take)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", taken
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in taken:
        connection.close()


def test_a_server_that_hangs_costs_one_timeout_per_attempt(tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with silent_server() as (url, taken):
        directory = train(tmp_path, lambda now: None, url.replace("//", "//me:s3cr3t@"), slow=False)
    # No retries, and no writes while a timeout exceeds a twentieth of the run: only start and end.
    assert len(taken) == 2
    [warning] = warnings_of(caplog)
    assert "s3cr3t" not in warning + (directory / "record.json").read_text()
    uri = sqlite_uri(tmp_path / "mlflow.db")
    sync(tmp_path, uri)
    assert_level(tmp_path, directory, uri)


def test_an_unreachable_server_gives_one_warning(tmp_path, caplog):
    with silent_server() as (url, _):
        pass
    directory = train(tmp_path, lambda now: None, url)
    assert len(warnings_of(caplog)) == 1
    uri = sqlite_uri(tmp_path / "mlflow.db")
    sync(tmp_path, uri)
    assert_level(tmp_path, directory, uri)


def unusable(home: Path, fault: str) -> str:
    """The address of a store that cannot be read because of ``fault``."""
    home.mkdir(parents=True, exist_ok=True)
    file = home / "mlflow.db"
    if fault == "garbage":
        file.write_bytes(b"no database of anybody's" * 100)
    elif fault == "folder":
        file.mkdir()
    elif fault == "damaged":
        ensure_store(sqlite_uri(file), home)
        file.write_bytes(file.read_bytes()[:20_000])
    elif fault == "server":
        return "http://me:s3cr3t@127.0.0.1:9"
    elif fault == "database":
        return "postgresql://me:s3cr3t@127.0.0.1:9/db"
    return sqlite_uri(file)


UNUSABLE = ["garbage", "folder", "damaged", "server", "database"]
SWEEP = ["dataset.n_samples=600", "dataset.pos_rate=0.1", "model=linear", "trainer.max_epochs=1"]
SWEEP += ["schedule=constant", "tracking.figures=false", "seed=0,1"]


def said(capsys) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("MLflow (")]


@pytest.mark.parametrize("fault", [fault for fault in UNUSABLE if fault != "folder"])
def test_a_sweep_is_planned_without_its_store(home, capsys, fault):
    uri = unusable(home, fault)
    assert package.train([*SWEEP, f"tracking.uri={uri}", "sweep.dry_run=true"]) == []
    [warning] = said(capsys)
    assert "s3cr3t" not in warning


def test_a_sweep_runs_without_its_store_and_sync_catches_up(home, capsys):
    uri = unusable(home, "garbage")
    outcomes = package.train([*SWEEP, f"tracking.uri={uri}"])
    assert [outcome.status for outcome in outcomes] == ["done", "done"]
    assert len(said(capsys)) == 1
    again = package.train([*SWEEP, f"tracking.uri={uri}"])
    assert [run.directory for run in again] == [run.directory for run in outcomes]
    # Jobs the sweep lacked may have been run elsewhere; its record is then updated, too.
    [record] = (home / "runs" / "rarelab").glob("sweep-*")
    write_status(record, "error")
    package.train([*SWEEP, f"tracking.uri={uri}"])
    assert read_status(record)["status"] == "done"
    assert (record / "jobs.csv").read_text().count("skipped") == 2
    (home / "mlflow.db").unlink()
    assert sync(home).startswith("3 runs synced")


@pytest.mark.parametrize("fault", UNUSABLE)
@pytest.mark.parametrize("asked", ["predict", "reproduce", "ui"])
def test_a_command_that_needs_the_store_says_in_one_line_that_it_is_unavailable(
    home, capsys, fault, asked
):
    if (asked, fault) == ("ui", "server"):
        pytest.skip("the server's address is all that there is to say")
    uri = unusable(home, fault)
    run = "0123456789abcdef" * 2
    arguments = {"predict": [run, __file__], "reproduce": [run], "ui": ["--no-browser"]}[asked]
    assert main([asked, *arguments, "--uri", uri]) in (1, 2)
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "s3cr3t" not in line


def test_an_interrupt_is_not_mistaken_for_a_store_fault(tmp_path, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    sink = MlflowSink(home=str(tmp_path))
    sink.open(RunRecord("job", {}, {}, tmp_path / "runs" / "job"))
    monkeypatch.setattr(sink, "_end", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sink.close("done")

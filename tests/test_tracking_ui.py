"""The dashboard, on loopback only, and runs recorded through a real server."""

import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from rarelab.cli import main
from rarelab.tracking import MlflowSink, RunRecord, client, serve, sync
from rarelab.tracking.store import sqlite_uri
from rarelab.tracking.ui import free_port
from rarelab.training.history import History
from recorded import record


def test_a_port_in_use_is_replaced():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert free_port("127.0.0.1", port) != port
    assert free_port("127.0.0.1", port) == port


def test_runs_on_a_server_need_no_local_server(tmp_path, capsys):
    assert serve(tmp_path, uri="http://me:pw@host:5000") == 0
    assert "http://***@host:5000/#/experiments" in capsys.readouterr().out


def test_sigterm_ends_the_dashboard_through_its_cleanup(home: Path, monkeypatch) -> None:
    cleaned = []

    def ui(*_: object, **__: object) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            cleaned.append(True)
        return 0

    monkeypatch.setattr("rarelab.dashboard.command.ui", ui)
    assert main(["ui"]) == 143 and cleaned


@contextmanager
def dashboard(home: Path, port: int) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """Run ``serve`` in a separate process; once it is up: the process, its address, its output."""
    code = f"""
import sys
from pathlib import Path
from rarelab.tracking import serve
sys.exit(serve(Path({str(home)!r}), port={port}))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    said: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if line.startswith("experiments: "):
            break
    try:
        yield process, said[-1].split()[1].removesuffix("/#/experiments"), said
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        process.stdout.close()


def children(pid: int) -> list[int]:
    """All descendants of a process."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    ).stdout.split()
    pairs = list(zip(map(int, listed[::2]), map(int, listed[1::2]), strict=True))
    found = [child for child, parent in pairs if parent == pid]
    return found + [grandchild for child in found for grandchild in children(child)]


@pytest.mark.slow
def test_the_dashboard_serves_the_records_on_loopback_and_stops_with_its_workers(home):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with dashboard(home, port) as (process, address, said):
            assert f"port {port} is taken" in said[0]
            assert address.startswith("http://127.0.0.1:") and str(port) not in address
            tracker = client(address)
            assert [e.name for e in tracker.search_experiments()] == ["Default"]
            workers = children(process.pid)
            assert workers
        for worker in workers:
            with pytest.raises(ProcessLookupError):
                os.kill(worker, 0)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_dashboard_leaves_no_server_behind(
    home: Path, number: signal.Signals, code: int
) -> None:
    record(home, {"loss": "bce"}, 0, {"test/aucpr": 0.5})
    port = free_port("127.0.0.1", 0)
    command = [sys.executable, "-m", "rarelab", "ui", "--no-browser", "--port", str(port)]
    # A shell's background job, such as this test may be, ignores Ctrl-C, and so do its children.
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    options = {"stdout": subprocess.PIPE, "text": True, "preexec_fn": heeding}
    with subprocess.Popen([*command, "--home", str(home)], **options) as process:
        try:
            assert any(line.startswith("experiments: ") for line in process.stdout)
            workers = children(process.pid)
            assert workers
            socket.create_connection(("127.0.0.1", port)).close()
            process.send_signal(number)
            assert process.wait(60) == code
        finally:
            process.terminate()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


@pytest.mark.slow
def test_a_run_recorded_through_a_server_that_stops_answering_is_complete_after_sync(
    home, caplog, monkeypatch
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    with dashboard(home, 0) as (process, address, _):
        workers = children(process.pid)
        directory = home / "runs" / "rarelab" / "job"
        directory.mkdir(parents=True)
        sink = MlflowSink(address, home=str(home))
        run_id = sink.open(RunRecord("job", {"a": "1"}, {}, directory))
        history = History(directory / "history.jsonl", [sink])
        (directory / "config.yaml").write_text("seed: 0\n")
        for epoch in range(6):
            if epoch == 3:
                for worker in workers:
                    os.kill(worker, signal.SIGSTOP)
            sink._start -= 1000
            history.append(epoch, {"train/loss": math.nan if epoch == 2 else float(epoch)})
        sink.close("done")
        for worker in workers:
            os.kill(worker, signal.SIGCONT)
        assert len(caplog.records) == 1
        sync(home)
        sync(home)
        tracker = client(address)
        stored = tracker.get_metric_history(run_id, "train/loss")
        assert [metric.step for metric in stored] == list(range(6))
        assert math.isnan(stored[2].value)
        run = tracker.get_run(run_id)
        assert run.info.status == "FINISHED" and run.data.params == {"a": "1"}
        assert [file.path for file in tracker.list_artifacts(run_id)] == [
            "config.yaml",
            "history.jsonl",
        ]
    assert client(sqlite_uri(home / "mlflow.db")).get_run(run_id).info.status == "FINISHED"

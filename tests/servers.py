"""Servers for the slow tests, on the loopback address, each in a folder of its own."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError

HOST = "127.0.0.1"


def postgresql_programs() -> Path | None:
    """The folder of ``initdb`` and ``postgres``: on the PATH, or where Debian installs them."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
    return versions[-1].parent if versions else None


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """A new PostgreSQL cluster without socket file or password; yields its SQLAlchemy address.

    PostgreSQL refuses to run as root: as root, we run it as its package's user, else as nobody.
    """
    programs = postgresql_programs()
    assert programs is not None
    # Other users cannot enter pytest's own folders.
    folder = Path(tempfile.mkdtemp(prefix="rarelab-postgresql-"))
    data, port = folder / "data", free_port()
    user = _unprivileged()
    if user is not None:
        shutil.chown(folder, user)
    options = [
        "-c",
        f"listen_addresses={HOST}",
        "-c",
        "unix_socket_directories=",
        "-c",
        "fsync=off",
    ]
    try:
        subprocess.run(
            [programs / "initdb", "-D", data, "-A", "trust", "-U", "rarelab", "--no-sync"],
            user=user,
            cwd=folder,
            check=True,
            capture_output=True,
        )
        with _running(
            [programs / "postgres", "-D", data, "-p", str(port), *options],
            folder / "log",
            stop=signal.SIGINT,
            user=user,
            cwd=folder,
        ) as server:
            _wait_for(server, folder / "log", lambda: _accepts(programs, port))
            yield f"postgresql+psycopg://rarelab@{HOST}:{port}/postgres"
    finally:
        shutil.rmtree(folder)


def new_database(store: str, name: str) -> str:
    """Create a database next to ``store``; returns its address."""
    import psycopg

    with psycopg.connect(store.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
    return f"{store.rpartition('/')[0]}/{name}"


@contextlib.contextmanager
def mlflow_server(store: str, folder: Path, workers: int = 1) -> Iterator[str]:
    """``mlflow server`` on a database, proxying artifacts; yields its address."""
    port = free_port()
    with mlflow_process(store, folder, port, workers):
        yield f"http://{HOST}:{port}"


@contextlib.contextmanager
def mlflow_process(
    store: str, folder: Path, port: int, workers: int = 1
) -> Iterator[subprocess.Popen]:
    """``mlflow server`` at a given port; yields the process, which leads its process group."""
    options = ["--serve-artifacts", "--artifacts-destination", str(folder / "artifacts")]
    options += ["--host", HOST, "--port", str(port), "--workers", str(workers)]
    environment = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": store,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    command = [sys.executable, "-m", "mlflow", "server", *options]
    log = folder / "mlflow-server.log"
    with _running(command, log, stop=signal.SIGTERM, env=environment) as server:
        _wait_for(server, log, lambda: _healthy(port))
        yield server


def free_port() -> int:
    with socket.create_server((HOST, 0)) as taken:
        return taken.getsockname()[1]


@contextlib.contextmanager
def _running(
    command: list, log: Path, *, stop: signal.Signals, **options: object
) -> Iterator[subprocess.Popen]:
    """Run a process in a new process group; the whole group is killed at the end."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, start_new_session=True, **options
        )  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.send_signal(stop)
        try:
            process.wait(30)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for(server: subprocess.Popen, log: Path, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not ready():
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{server.args} did not start:\n{log.read_text()}")
        time.sleep(0.2)


def _accepts(programs: Path, port: int) -> bool:
    asked = subprocess.run(
        [programs / "pg_isready", "-q", "-h", HOST, "-p", str(port)], check=False
    )
    return asked.returncode == 0


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5):
            return True
    except (URLError, OSError):
        return False


def _unprivileged() -> str | None:
    if os.getuid() != 0:
        return None
    import pwd

    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres").pw_name
    return "nobody"


def _version(path: Path) -> float:
    return float(path.parent.parent.name)

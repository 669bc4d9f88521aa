"""``rarelab ui``: MLflow's own dashboard on this project's store, on localhost by default."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

from rarelab.errors import RarelabError
from rarelab.tracking import store
from rarelab.tracking.redact import redact_uri
from rarelab.tracking.settings import ENVIRONMENT

_READY_TIMEOUT = 180
_POLL = 0.3


def serve(
    home: Path,
    *,
    uri: str | None = None,
    host: str = "127.0.0.1",
    port: int = 5000,
    ready: Callable[[str], None] | None = None,
) -> int:
    """Run MLflow's server on the records until it is stopped; returns its exit code.

    If the port is taken, a free one is used and printed. ``ready`` is called with the server's
    address once it responds. For records on a server, only print its address.

    Raises:
        RarelabError: the server does not start.
    """
    address = store.resolve_uri(home, uri)
    if address.startswith("http"):
        print(f"the records are on a server: {redact_uri(address)}/#/experiments", flush=True)
        return 0
    store.ensure_store(address, home)
    chosen = free_port(host, port)
    if chosen != port:
        print(f"port {port} is taken; using {chosen}", flush=True)
    print(f"starting MLflow on {redact_uri(address)} ...", flush=True)
    server = _start(address, home, host, chosen)
    try:
        _wait_until_ready(server, f"http://{host}:{chosen}/health")
        if ready is not None:
            ready(f"http://{host}:{chosen}")
        print(f"experiments: http://{host}:{chosen}/#/experiments (Ctrl-C stops)", flush=True)
        return server.wait()
    finally:
        _stop(server)


def free_port(host: str, port: int) -> int:
    """``port`` if it is free, else one chosen by the system."""
    for candidate in (port, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise RarelabError(f"no free port on {host}")


def _start(address: str, home: Path, host: str, port: int) -> subprocess.Popen[bytes]:
    environment = {
        **ENVIRONMENT,
        **os.environ,
        # Not on the command line, where other users could read a password.
        "MLFLOW_BACKEND_STORE_URI": address,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    root = store.artifact_root(address, home)
    options = ["--default-artifact-root", root.as_uri()] if root else []
    options += ["--no-serve-artifacts", "--workers", "1", "--host", host, "--port", str(port)]
    return subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", *options],
        env=environment,
        # Ctrl-C then reaches only us, and we stop the server with all of its workers.
        start_new_session=True,
    )


def _wait_until_ready(server: subprocess.Popen[bytes], health: str) -> None:
    deadline = time.monotonic() + _READY_TIMEOUT
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RarelabError(f"MLflow's server failed to start: exit code {server.returncode}")
        try:
            # The address is our own, always http://.
            with urllib.request.urlopen(health, timeout=5):  # nosec B310
                return
        except (URLError, OSError):
            time.sleep(_POLL)
    raise RarelabError(f"MLflow's server did not answer at {health} in {_READY_TIMEOUT} s")


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is not None:
        return
    os.killpg(server.pid, signal.SIGTERM)
    try:
        server.wait(timeout=10)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()

"""What every test shares: a home of its own, and the command as a user runs it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from servers import mlflow_server, postgresql, postgresql_programs

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Records of a test never reach the user's; nor does a tracking server of theirs."""
    path = tmp_path / "home"
    monkeypatch.setenv("RARELAB_HOME", str(path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return path


@pytest.fixture
def rarelab(tmp_path: Path, home: Path) -> Command:
    """Run ``rarelab ARGUMENTS`` in a process of its own, from an empty folder."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()

    def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "rarelab", *arguments],
            cwd=options.pop("cwd", folder),
            env={**os.environ, **options.pop("env", {})},  # type: ignore[dict-item]
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return run


@pytest.fixture(scope="session")
def tracking_store() -> Iterator[str]:
    """The address of a new PostgreSQL database."""
    if postgresql_programs() is None:
        pytest.skip("PostgreSQL is not installed, and could not be")
    with postgresql() as address:
        yield address


@pytest.fixture(scope="session")
def tracking_server(tracking_store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server on PostgreSQL; it starts once, in half a minute."""
    with mlflow_server(tracking_store, tmp_path_factory.mktemp("server")) as address:
        yield address

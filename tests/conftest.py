"""What every test shares: surroundings that are nobody's, a home, and the command as users run it.

No test depends on what the user has set, cached or recorded: whatever steers this program or its
libraries is taken out of the environment before the first test, for subprocesses and the workers
of pytest-xdist too, and the home folder is an empty one.
"""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]

# Where the user's settings of pip lie, for the tests that download; taken before the home goes.
PIP_SETTINGS = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "pip/pip.conf"
STEERS = (
    *("RARELAB_", "MLFLOW_", "HYDRA_", "RAY_", "SLURM_", "SUBMITIT_", "PG", "XDG_", "MPL"),
    *("OMP_", "MKL_", "OPENBLAS_", "NUMEXPR_", "VECLIB_", "GOMP_", "KMP_", "ATEN_", "LOKY_"),
)
"""How the names of variables begin that change what this program or one of its libraries does."""

LAUNCHED = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "PYTHONWARNINGS"),
)


def _leave_home() -> Path:
    """The empty home of this session; a worker of pytest-xdist has that of the first process."""
    for name in list(os.environ):
        if name.startswith(STEERS) or name in LAUNCHED:
            del os.environ[name]
    if "PYTEST_XDIST_WORKER" in os.environ:
        return Path(os.environ["HOME"])
    if PIP_SETTINGS.is_file():
        os.environ.setdefault("PIP_CONFIG_FILE", str(PIP_SETTINGS))
    home = tempfile.mkdtemp(prefix="rarelab-tests-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ["HOME"] = home
    return Path(home)


EMPTY = _leave_home()

from servers import mlflow_server, postgresql, postgresql_programs  # noqa: E402


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let tests marked ``as_users_do`` run twice: warnings raised, as everywhere, and only shown.

    An error that a library merely warns of is caught where warnings are raised, and nowhere else.
    The marked tests are of what is read and written in-process; subprocesses raise no warnings
    anyway. A second session would cost half a minute for its start alone.
    """
    if metafunc.definition.get_closest_marker("as_users_do"):
        shown = pytest.param("shown", marks=pytest.mark.filterwarnings("default"))
        metafunc.fixturenames.append("warnings_are")
        metafunc.parametrize("warnings_are", ["raised", shown], indirect=True)


@pytest.fixture
def warnings_are(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Records of a test never reach another's; and none may fetch data unasked."""
    path = tmp_path / "home"
    monkeypatch.setenv("RARELAB_HOME", str(path))
    # Another test's mlflow.set_tracking_uri() sets this in the process.
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yield path
    cache = EMPTY / ".cache" / "rarelab"
    assert not cache.exists(), f"a test fetched {[p.name for p in cache.rglob('*')]}: use `data`"


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


@pytest.fixture
def data(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that slow tests fetch real data into, once for all of them and all workers."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "fetched"
    monkeypatch.setenv("RARELAB_DATA", str(folder))
    return folder


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

"""Shared by all tests: a clean environment, a temporary home, and the command as users run it.

No test depends on the user's settings, caches or records: before the first test, every variable
that affects this program or its libraries is removed from the environment (for subprocesses and
pytest-xdist workers too), and the home folder is replaced by an empty one.
"""

import atexit
import itertools
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]
NUMBERS = itertools.count()

# The user's pip settings, for the tests that download; read before HOME is replaced.
PIP_SETTINGS = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "pip/pip.conf"
STEERS = (
    *("RARELAB_", "MLFLOW_", "HYDRA_", "RAY_", "SLURM_", "SUBMITIT_", "PG", "XDG_", "MPL"),
    *("OMP_", "MKL_", "OPENBLAS_", "NUMEXPR_", "VECLIB_", "GOMP_", "KMP_", "ATEN_", "LOKY_"),
)
"""Prefixes of the variables that change the behaviour of this program or its libraries."""

LAUNCHED = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "PYTHONWARNINGS"),
)


def _leave_home() -> Path:
    """Create this session's empty home; pytest-xdist workers share that of the main process."""
    for name in list(os.environ):
        if name.startswith(STEERS) or name in LAUNCHED:
            del os.environ[name]
    # pytest-xdist has a worker per core: more threads of torch or BLAS would only spin, waiting for
    # each other.
    os.environ["OMP_NUM_THREADS"] = "1"
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


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Only show the warnings of a test marked ``as_users_do``, and fail it afterwards if any came.

    This suite turns warnings into errors, so code may catch here what users only get as a warning.
    The marked tests read and write files in-process; in subprocesses warnings are never errors.
    """
    if pyfuncitem.get_closest_marker("as_users_do") is None:
        return (yield)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        result = yield
    assert not shown, [str(each.message) for each in shown]
    return result


@pytest.fixture(autouse=True)
def home(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Give each test its own record home, and fail a test that downloads data without ``data``."""
    # Not in ``tmp_path``, which would then be made for thousands of tests that write nothing.
    path = tmp_path_factory.getbasetemp() / "homes" / str(next(NUMBERS))
    path.parent.mkdir(exist_ok=True)
    monkeypatch.setenv("RARELAB_HOME", str(path))
    # Another test's mlflow.set_tracking_uri() sets this in the process.
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yield path
    cache = EMPTY / ".cache" / "rarelab"
    assert not cache.exists(), f"a test fetched {[p.name for p in cache.rglob('*')]}: use `data`"


@pytest.fixture(autouse=True)
def logger() -> Iterator[logging.Logger]:
    """The package's logger, heard from WARNING on, whatever earlier tests or libraries set up."""
    log = logging.getLogger("rarelab")
    log.handlers, log.propagate = [], True
    log.setLevel(logging.WARNING)
    log.disabled = False
    logging.disable(logging.NOTSET)
    yield log
    for handler in log.handlers:
        handler.close()


@pytest.fixture
def rarelab(tmp_path: Path, home: Path) -> Command:
    """Run ``rarelab ARGUMENTS`` in a subprocess, from an empty folder."""
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
    """The download folder for real data, shared by all slow tests and workers."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "fetched"
    monkeypatch.setenv("RARELAB_DATA", str(folder))
    return folder


@pytest.fixture(scope="session")
def tracking_store() -> Iterator[str]:
    """The address of a new PostgreSQL database."""
    if postgresql_programs() is None:
        pytest.skip("PostgreSQL is not installed")
    with postgresql() as address:
        yield address


@pytest.fixture(scope="session")
def tracking_server(tracking_store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server on PostgreSQL, started once per session (takes 30 s)."""
    with mlflow_server(tracking_store, tmp_path_factory.mktemp("server")) as address:
        yield address

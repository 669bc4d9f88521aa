"""The tests and ``.ci/run`` do not depend on anything the user has set, cached or recorded."""

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from conftest import EMPTY, pytest_pyfunc_call
from rarelab.data.archives.fetch import data_home

ROOT = Path(__file__).parent.parent
FOREIGN = {
    "RARELAB_HOME": "/someone/records",
    "RARELAB_DATA": "/someone/data",
    "XDG_CACHE_HOME": "/someone/cache",
    "MLFLOW_TRACKING_URI": "http://192.0.2.1:5000",
    "HYDRA_FULL_ERROR": "1",
    "OMP_NUM_THREADS": "7",
    "WORLD_SIZE": "2",
}
NEEDED = {"PIP_INDEX_URL": "https://example.org/simple", "https_proxy": "http://proxy:8080"}


def test_a_test_and_its_subprocesses_have_an_empty_home() -> None:
    assert Path.home() == EMPTY and data_home().is_relative_to(EMPTY)
    code = "from rarelab.data.archives.fetch import data_home; print(data_home())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert Path(said.stdout.strip()).is_relative_to(EMPTY)


def test_user_settings_do_not_reach_the_tests(tmp_path: Path) -> None:
    """Run a separate pytest session in an environment that would break it."""
    code = f"def test():\n import os; assert not {{*os.environ.items()}} & {{*{FOREIGN}.items()}}"
    (tmp_path / "test_one.py").write_text(code)
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    folders = [str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, **FOREIGN, "PYTHONPATH": os.pathsep.join(filter(None, folders))}
    environment.pop("PYTEST_XDIST_WORKER", None)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("settings", [True, False], ids=["pip.conf", "none"])
def test_ci_runs_in_an_empty_home_with_what_pip_needs(settings: bool, tmp_path: Path) -> None:
    copy, programs, home = tmp_path / "a clone", tmp_path / "bin", tmp_path / "user"
    for folder in (copy / ".ci", programs, home):
        folder.mkdir(parents=True)
    (copy / ".ci" / "run").write_text((ROOT / ".ci" / "run").read_text())
    (copy / ".ci" / "run").chmod(0o755)
    (programs / "make").write_text('#!/bin/sh\necho "ran $1 $(ls -A "$HOME" | wc -l)"\nenv\n')
    (programs / "make").chmod(0o755)
    if settings:
        (home / ".config" / "pip").mkdir(parents=True)
        (home / ".config" / "pip" / "pip.conf").touch()
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    mine = {"HOME": str(home), "PATH": path, "PYTHON": sys.executable}
    command = [str(copy / ".ci" / "run")]
    done = subprocess.run(
        command, env={**FOREIGN, **NEEDED, **mine}, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("ran ")] == [
        f"ran {target} 0" for target in ("test", "lint", "test-slow")
    ]
    seen = dict(line.split("=", 1) for line in lines if "=" in line)
    assert not set(FOREIGN) & set(seen)
    assert NEEDED.items() <= seen.items() and seen["PATH"] == path
    assert seen["HOME"] != str(home) and not Path(seen["HOME"]).exists()
    assert seen["PIP_CACHE_DIR"] == "/someone/cache/pip"
    assert seen.get("PIP_CONFIG_FILE") == (
        str(home / ".config" / "pip" / "pip.conf") if settings else None
    )
    assert seen["PYTHON"] == sys.executable


def test_a_marked_test_goes_on_after_a_warning_and_fails_at_its_end(
    request: pytest.FixtureRequest,
) -> None:
    request.node.add_marker("as_users_do")
    around = pytest_pyfunc_call(request.node)
    next(around)
    warnings.warn("one that is meant", UserWarning, stacklevel=1)
    with pytest.raises(AssertionError, match="one that is meant"):
        around.send(None)

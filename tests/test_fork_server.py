"""The server that forks a sweep's jobs: started before the plan is made, ended if none is run."""

import subprocess
import sys
from pathlib import Path

import pytest

from rarelab.errors import RequestError
from rarelab.processes import fork
from rarelab.request import request

LIVES = """
import multiprocessing, os, pathlib
from multiprocessing import forkserver
from rarelab.processes import fork

def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

fork._PRELOAD = "json"  # loads faster
fork.end_unused_fork_server()  # none has been started
fork.start_fork_server()
unused = forkserver._forkserver._forkserver_pid
fork.end_unused_fork_server()
assert not alive(unused)
fork.start_fork_server()
used = forkserver._forkserver._forkserver_pid
job = multiprocessing.get_context("forkserver").Process(target=pathlib.Path("done").touch)
fork.start(job)
job.join()
fork.end_unused_fork_server()
assert alive(used) and pathlib.Path("done").exists()
"""


def test_an_unused_server_is_ended_and_a_used_one_goes_on(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", LIVES], cwd=tmp_path, check=True, timeout=60)


LOADED = """
import gc, os, threading
import rarelab.sweep.preload
import torch

assert threading.active_count() == 1
assert gc.isenabled() and gc.get_freeze_count() > 100_000
assert not torch.cuda.is_initialized()
assert not [link for link in map(os.readlink, links()) if link.endswith(".db")]
"""
LINKS = """
import os

def links():
    descriptors = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return [path for path in descriptors if os.path.islink(path)]
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_what_it_loads_leaves_no_thread_no_gpu_and_no_open_store(tmp_path: Path) -> None:
    script = LINKS + LOADED
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, timeout=300)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    for name in ("start_fork_server", "end_unused_fork_server"):
        monkeypatch.setattr(fork, name, lambda name=name: found.append(name))
    return found


def test_a_refused_sweep_ends_the_server_that_it_started(calls: list[str]) -> None:
    with pytest.raises(RequestError, match="nonsense"):
        request(["-m", "loss=bce,nonsense"])
    assert calls == ["start_fork_server", "end_unused_fork_server"]


def test_a_dry_run_starts_none(calls: list[str]) -> None:
    assert request(["-m", "loss=bce,smooth_ap", "sweep.dry_run=true"]) == []
    assert calls == ["end_unused_fork_server"]

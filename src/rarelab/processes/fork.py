"""Child processes: a server that forks them quickly, and how one of them ended."""

import contextlib
import multiprocessing
import os
import signal
import sys
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any

_PRELOAD = "rarelab.sweep.preload"

_of_use: set[int | None] = set()
"""The ids of servers that have forked a process."""


def start_fork_server() -> None:
    """Start importing what every job needs, in the server's process."""
    multiprocessing.get_context("forkserver").set_forkserver_preload([_PRELOAD])
    forkserver.ensure_running()


def end_unused_fork_server() -> None:
    """End the server if nothing was started from it: a command without jobs must not leave it to
    finish its imports, for which whoever reads the command's output would wait."""
    server: Any = forkserver._forkserver
    pid = server._forkserver_pid
    if pid is not None and pid not in _of_use:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        server._stop()  # reaps it, and closes what belonged to it


def start(process: BaseProcess) -> None:
    """Start a process without running the user's script again.

    multiprocessing makes every child import the main script, which would train again if the script
    has no ``if __name__ == "__main__":`` guard. Our children only run code from modules, so they
    get an empty ``__main__``; a class defined in the script (``__main__.Loss``) is missing there.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        process.start()
        server: Any = forkserver._forkserver
        _of_use.add(server._forkserver_pid)
    finally:
        sys.modules["__main__"] = script


def death(code: int) -> str:
    """How a process with this exit code ended."""
    if code >= 0:
        return f"its process exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return f"its process was killed by signal {-code}, {name}{hint}"

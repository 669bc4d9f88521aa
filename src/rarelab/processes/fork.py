"""Processes of our own: a server that forks them quickly, and how one ended."""

import multiprocessing
import signal
import sys
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from types import ModuleType

_PRELOAD = "rarelab.sweep.preload"


def start_fork_server() -> None:
    """Begin to import, in a process of its own, what every job needs."""
    multiprocessing.get_context("forkserver").set_forkserver_preload([_PRELOAD])
    forkserver.ensure_running()


def start(process: BaseProcess) -> None:
    """Start a process that does not run the user's script again.

    multiprocessing has every process import the script it was started from, which trains again
    where a script has no ``if __name__ == "__main__":``. What our processes run lies in modules,
    so for them the script is an empty one; a class of its own, ``__main__.Loss``, is not there.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        process.start()
    finally:
        sys.modules["__main__"] = script


def death(code: int) -> str:
    """How a process with this exit code ended."""
    if code >= 0:
        return f"its process left with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return f"its process was killed by signal {-code}, {name}{hint}"

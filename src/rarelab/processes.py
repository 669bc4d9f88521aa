"""Processes of our own: a server that forks them quickly, and how one ended."""

import multiprocessing
import signal
from multiprocessing import forkserver

_PRELOAD = "rarelab.sweep.preload"


def start_fork_server() -> None:
    """Begin to import, in a process of its own, what every job needs."""
    multiprocessing.get_context("forkserver").set_forkserver_preload([_PRELOAD])
    forkserver.ensure_running()


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

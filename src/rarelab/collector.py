"""Import large libraries without Python's garbage collector looking through them meanwhile.

torch and MLflow create half a million objects that live to the end. The collector walks them again
and again while they are created, a third of what the imports take, and later once more.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_MANY = 100
"""Modules; fewer are not worth it."""

_processes_of_ours: list[bool] = []


def own_process() -> None:
    """Say that this process runs a command of ours, and is not a user's notebook or program."""
    _processes_of_ours.append(True)


@contextmanager
def importing() -> Iterator[None]:
    """Collect nothing while the block imports, and never look at what it has created again.

    Does nothing in a process of the user's own, whose garbage would be kept for ever, too.
    """
    if not _processes_of_ours or not gc.isenabled():
        yield
        return
    gc.collect()
    gc.disable()
    before = len(sys.modules)
    try:
        yield
    finally:
        if len(sys.modules) - before > _MANY:
            gc.freeze()
        gc.enable()

"""Time of a step, all libraries taking turns in one process."""

import gc
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from contest import LIBRARIES, Work, step_of

MOST = 41  # repeats
SECONDS = 1.0  # of repeats, after which a slow contestant stops


def in_turn(steps: dict[str, Callable[[], Any]]) -> dict[str, tuple[float, int]]:
    """Median milliseconds of each step and its repeats, interleaved after one warm-up each.

    A step that takes seconds is repeated less often, down to once.
    """
    found: dict[str, list[float]] = {}
    for name, step in steps.items():
        took = timed(step)
        found[name] = [took] if took > SECONDS else []
    for _ in range(MOST):
        for name, step in steps.items():
            if sum(found[name]) < SECONDS:
                found[name].append(timed(step))
    return {name: (1e3 * median(times), len(times)) for name, times in found.items()}


def timed(step: Callable[[], Any]) -> float:
    """CPU seconds of this thread, which does all the work; other load is not counted."""
    start = time.thread_time()
    step()
    return time.thread_time() - start


def speed(work: Work) -> dict[str, tuple[float, int]]:
    """Times of every library whose matrices fit."""
    steps = {name: step_of(name, work) for name in LIBRARIES if work.fits(name)}
    gc.collect()
    return in_turn(steps)

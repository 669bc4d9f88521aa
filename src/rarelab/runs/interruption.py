"""SIGTERM and Ctrl-C: end a run between two steps, after a checkpoint, or immediately."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rarelab.errors import Terminated

GRACE = 1.0
"""Seconds a step (or validation) has to finish before it is interrupted."""


class Interruption:
    """Defers signals inside :meth:`deferred` until training polls for them; elsewhere they raise.

    Calling it returns the exception to leave training with (``Terminated``, ``KeyboardInterrupt``),
    or None. A second signal raises immediately, and so does the first one if training has not
    left the block within :data:`GRACE` seconds.
    """

    def __init__(self) -> None:
        self._deferring = False
        self._wanted: BaseException | None = None

    def __call__(self) -> BaseException | None:
        return self._wanted

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals that still have their default handler; only in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        taken = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
        free = [number for number, usual in taken.items() if signal.getsignal(number) == usual]
        for number in free:
            signal.signal(number, self._handle)
        try:
            yield
        finally:
            for number in free:
                signal.signal(number, taken[number])

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Defer a signal that arrives in the block, and raise it at the end of the block."""
        self._deferring = True
        try:
            yield
            if self._wanted is not None:
                raise self._wanted
        finally:
            self._deferring = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        error = Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
        if self._wanted is not None or not self._deferring:
            raise error
        self._wanted = error
        timer = threading.Timer(GRACE, self._insist, (number,))
        timer.daemon = True
        timer.start()

    def _insist(self, number: int) -> None:
        if self._deferring:
            os.kill(os.getpid(), number)


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Turn the first SIGTERM into :class:`~rarelab.errors.Terminated`; later ones are
    ignored, as they would interrupt the cleanup. Does nothing outside the main thread."""

    def terminate(*_: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

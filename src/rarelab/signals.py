"""SIGTERM as an exception, so that records are closed before the process leaves."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rarelab.errors import Terminated


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Turn the first SIGTERM into :class:`~rarelab.errors.Terminated`; later ones are ignored, so
    that they do not interrupt the closing. Only the main thread can; in others nothing changes."""

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

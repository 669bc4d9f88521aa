"""What a person sees: progress on standard output, nothing of the libraries' own chatter."""

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

from rarelab.tracking.redact import redact_text


def show(text: str) -> None:
    """Print at once, to whatever standard output is by now (a notebook replaces it).

    No work stops because it cannot be printed about: once the reader is gone (``| head``, a lost
    terminal) output is discarded, and a character that the encoding lacks is printed as ``?``.
    """
    stream = sys.stdout
    if encoding := getattr(stream, "encoding", None):
        text = text.encode(encoding, "replace").decode(encoding)
    try:
        print(text, file=stream, flush=True)
    except OSError:
        nobody_reads()


class _Console(logging.Handler):
    """Shows what is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            show(self.format(record))
        except Exception:
            self.handleError(record)


class _WithoutTraceback(logging.Formatter):
    """The traceback goes to the run's own log; the console gets the error once, from Python."""

    def format(self, record: logging.LogRecord) -> str:
        return redact_text(record.getMessage())


class WithoutSecrets(logging.Formatter):
    """The lines of a run's own log, tracebacks with them."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return redact_text(super().format(record))


class RunLog(logging.FileHandler):
    """The log in a run's folder. A disk that does not take it is not its business to tell of."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8")
        self.setFormatter(WithoutSecrets())

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        with suppress(OSError):
            super().close()


def nobody_reads() -> None:
    """The reader of standard output is gone: from here on, output is discarded without errors."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError):  # a stream in memory has no file
        os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def configure_console() -> None:
    """Send this package's messages to standard output, once, unless the user has set it up."""
    log = logging.getLogger("rarelab")
    if log.handlers:
        return
    handler = _Console()
    handler.setFormatter(_WithoutTraceback())
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False

"""Console output: progress on standard output, without messages from other libraries."""

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

from rarelab.tracking.redact import redact_text


def show(text: str) -> None:
    """Print and flush to the current standard output (a notebook replaces it).

    A failed print never stops a run: once the reader is gone (``| head``, a lost terminal) output
    is discarded, and a character missing from the encoding is printed as ``?``.
    """
    stream = sys.stdout
    if encoding := getattr(stream, "encoding", None):
        text = text.encode(encoding, "replace").decode(encoding)
    try:
        print(text, file=stream, flush=True)
    except OSError:
        nobody_reads()


class _Console(logging.Handler):
    """Prints log records with :func:`show`."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            show(self.format(record))
        except Exception:
            self.handleError(record)


class _WithoutTraceback(logging.Formatter):
    """Messages only: the traceback goes to the run's log, and Python prints the error once."""

    def format(self, record: logging.LogRecord) -> str:
        return redact_text(record.getMessage())


class WithoutSecrets(logging.Formatter):
    """Lines of a run's log, tracebacks included, with secrets redacted."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return redact_text(super().format(record))


class RunLog(logging.FileHandler):
    """The log in a run's folder. Write errors (a full disk) are ignored here."""

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
    """Discard all further output without errors, as the reader of standard output is gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError):  # a stream in memory has no file
        os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def configure_console() -> None:
    """Send this package's messages to standard output, unless logging is already set up."""
    log = logging.getLogger("rarelab")
    if any(not isinstance(handler, RunLog) for handler in log.handlers):
        return
    handler = _Console()
    handler.setFormatter(_WithoutTraceback())
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False

"""What a person sees: progress on standard output, nothing of the libraries' own chatter."""

import logging
import sys

from rarelab.tracking.redact import redact_text


class _Stdout(logging.StreamHandler):
    """Writes to whatever standard output is at the time of writing (a notebook replaces it)."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stdout
        super().emit(record)


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


def configure_console() -> None:
    """Send this package's messages to standard output, once, unless the user has set it up."""
    log = logging.getLogger("rarelab")
    if log.handlers:
        return
    handler = _Stdout()
    handler.setFormatter(_WithoutTraceback())
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False

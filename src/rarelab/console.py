"""What a person sees: progress on standard output, nothing of the libraries' own chatter."""

import logging
import sys


class _Stdout(logging.StreamHandler):
    """Writes to whatever standard output is at the time of writing (a notebook replaces it)."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stdout
        super().emit(record)


class _WithoutTraceback(logging.Formatter):
    """The traceback goes to the run's own log; the console gets the error once, from Python."""

    def format(self, record: logging.LogRecord) -> str:
        return record.getMessage()


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

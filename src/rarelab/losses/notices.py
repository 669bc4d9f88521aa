"""Warnings that an object logs only once, on the package's logger."""

import logging

log = logging.getLogger("rarelab")


class Notices:
    """The warnings of one loss, each logged only the first time.

    They go to the logger ``rarelab``: without any set-up Python prints them to standard error; a
    run shows them on its console and in its log.
    """

    def __init__(self) -> None:
        self._said: set[str] = set()

    def said(self, text: str) -> bool:
        """Whether this warning has been logged."""
        return text in self._said

    def warn(self, text: str, *values: object) -> None:
        """Log ``text % values`` as a warning, unless ``text`` already was."""
        if not self.said(text):
            self._said.add(text)
            log.warning(text, *values)

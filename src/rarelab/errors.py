"""Errors reported to the user: a one-line message and an exit code."""

import difflib
from collections.abc import Iterable, Sequence


class RarelabError(Exception):
    """A run or command failed after it had started (exit code 1)."""

    exit_code = 1


class RequestError(RarelabError, ValueError):
    """The request was invalid and nothing ran (exit code 2).

    The message is one line: the key or column, what was found, what was expected, and the nearest
    valid name, if any.
    """

    exit_code = 2


class Pruned(RarelabError):
    """A search stopped this run early: other trials were better at the same epoch."""


class Terminated(BaseException):
    """SIGTERM was received: exit as after Ctrl-C, but with exit code 143."""


def one_line(error: BaseException) -> str:
    """An exception's message on one line, or its type if it has none."""
    text = " ".join(str(error).split())
    return text or type(error).__name__


def nearest(name: str, valid: Iterable[str]) -> str:
    """A clause with the valid name closest to ``name``, or else a short list of valid names."""
    valid = sorted(map(str, valid))
    close = closest(name, valid)
    if close is not None:
        return f"did you mean {close!r}?"
    return f"choose from: {few(valid)}" if valid else "there are none"


def closest(name: str, valid: Sequence[str]) -> str | None:
    """The valid name that ``name`` was probably meant to be."""
    return next(iter(difflib.get_close_matches(name, valid, n=1, cutoff=0.5)), None)


def few(names: Sequence[str]) -> str:
    """The names in a line; only the first twelve."""
    return f"{', '.join(names[:12])}{', …' if len(names) > 12 else ''}"

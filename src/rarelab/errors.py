"""What the program says when something is wrong: one line, and the exit code that goes with it."""

import difflib
from collections.abc import Iterable


class RarelabError(Exception):
    """Something that ran has failed (exit code 1)."""

    exit_code = 1


class RequestError(RarelabError, ValueError):
    """The request was wrong and nothing ran (exit code 2).

    The message is one line: the key or column, what was found, what was expected, and the nearest
    valid name where there is one.
    """

    exit_code = 2


class Pruned(RarelabError):
    """A search stopped this run early: other trials were better at the same epoch."""


class Terminated(BaseException):
    """SIGTERM arrived: leave as after Ctrl-C, with the exit code (143) that tells them apart."""


def one_line(error: BaseException) -> str:
    """What an exception says, in one line; its type where it says nothing."""
    text = " ".join(str(error).split())
    return text or type(error).__name__


def nearest(name: str, valid: Iterable[str]) -> str:
    """A clause naming the valid name closest to ``name``, or the short list of valid ones."""
    valid = sorted(map(str, valid))
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    if not valid:
        return "there are none"
    shown = ", ".join(valid[:12])
    return f"choose from: {shown}{', …' if len(valid) > 12 else ''}"

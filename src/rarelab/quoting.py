"""Overrides as they are typed: a value quoted for Hydra's grammar and for the shell."""

import re
import shlex
from collections.abc import Sequence

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_OTHER_THAN_TEXT = {"null", "true", "false", "nan", "inf"}


def override(key: str, value: str | Sequence[str]) -> str:
    """``KEY=VALUE`` that a shell passes on so that Hydra reads exactly this text, or list of texts.

    >>> override("dataset.drop", ["id", "a,b"])
    'dataset.drop=\\'[id,"a,b"]\\''
    """
    text = quoted(value) if isinstance(value, str) else f"[{','.join(map(quoted, value))}]"
    return f"{key}={shlex.quote(text)}"


def quoted(text: str) -> str:
    """A text as Hydra's grammar needs it to give the same text back: as it is, if it can be."""
    if _PLAIN.fullmatch(text) and text.lower() not in _OTHER_THAN_TEXT:
        return text
    # Backslashes count only before an interpolation, before a quote, and at the end.
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    text = re.sub(r'(\\*)"', r'\1\1\\"', text)
    text = re.sub(r"(\\+)$", r"\1\1", text)
    return f'"{text}"'

"""Overrides as they are typed: a value quoted for Hydra's grammar and for the shell, and lists read
back."""

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


def elements(text: str) -> list[str]:
    """The elements of ``a, [b, c], "d, e"`` as typed, split at the commas outside all brackets and
    quotes."""
    parts, depth, quote, escaped = [""], 0, "", False
    for character in text:
        if quote:
            quote = "" if character == quote and not escaped else quote
        elif character in "'\"" and parts[-1].rstrip()[-1:] in ("", *"([{=:,"):
            quote = character
        depth += (character in "[{(") - (character in "]})") if not quote else 0
        escaped = character == "\\" and not escaped
        if character == "," and depth <= 0 and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def names(text: str) -> tuple[str, ...]:
    """The names in ``[a, "b, c"]``, without their quotes; brackets are optional around one level.

    Quotes around the whole list, which a shell would have removed, are ignored.
    """
    for _ in range(2):
        inside = unquoted(text)
        if inside != text and inside.startswith("[") and inside.endswith("]"):
            text = inside
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    return tuple(unquoted(part) for part in elements(text))


def unquoted(text: str) -> str:
    """A text without the quotes around it, if there are any; the reverse of :func:`quoted`."""
    if len(text) < 2 or text[0] != text[-1] or text[0] not in "'\"":
        return text
    inside = re.sub(rf"(\\*)\\{text[0]}", lambda m: m[1][::2] + text[0], text[1:-1])
    inside = re.sub(r"(\\+)$", lambda m: m[1][::2], inside)
    return re.sub(r"(\\*)\\\$\{", lambda m: m[1][::2] + "${", inside)

"""Secrets stay out of records: what a URI, a setting or a text may not carry there."""

import os
import re

_USERINFO = re.compile(r"(?<=://)[^/\s@'\"]*@")
_SECRET_NAME = re.compile(r"(?i)passw|pwd|secret|token|credential|(api|access|private)_?key")
_SETTING = re.compile(r"([\w.\-]+)=(\"[^\"\n]*\"|'[^'\n]*'|[^\s,&;\"']+)")
# A size called d_token is no secret, and neither is what says nothing.
_HARMLESS = re.compile(r"(?i)[\d.e+\-_]*|null|none|true|false")
_MIN_SECRET = 8


def redact_uri(text: str) -> str:
    """``text`` with the ``user:password@`` of every URI in it replaced by ``***@``."""
    return _USERINFO.sub("***@", text)


def redact_setting(name: str, value: str) -> str:
    """The value of a setting, or ``***`` if its name says that it is a secret."""
    if _SECRET_NAME.search(name) and not _HARMLESS.fullmatch(value.strip("'\"")):
        return "***"
    return redact_text(value)


def redact_command(text: str) -> str:
    """A command line or message: :func:`redact_setting` on every ``name=value`` in it."""

    def hide(match: re.Match[str]) -> str:
        return f"{match[1]}={redact_setting(match[1], match[2])}"

    return redact_text(_SETTING.sub(hide, text))


def redact_text(text: str) -> str:
    """:func:`redact_uri`, and ``***`` for every value of a secret environment variable."""
    text = redact_uri(text)
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name) and len(value) >= _MIN_SECRET and not os.path.isabs(value):
            text = text.replace(value, "***")
    return text

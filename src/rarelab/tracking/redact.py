"""Redact secrets in URIs, settings and text before they are recorded."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import quote, quote_plus, unquote, unquote_plus

HIDDEN = "***"

_URI = re.compile(r"(?<=://)[^\s\"'<>]+")
# Up to the last @ of the authority; a password may contain the authority's delimiters (/?#).
_USERINFO = re.compile(r"^(?:[^/?#]*|[^/:@]+:(?!\d*(?:[/?#]|$))[^@]*(?:@[^/@?#]*)*)@")
_PARAMETER = re.compile(r"(?P<name>(?<=[?&;])[\w.\-]+|\bodbc_connect)=(?P<value>[^\s&;\"'#]*)")
_ENCODED = re.compile(
    r"(?i)(?:(?<=%3B)|(?<=%26)|(?<![a-z]))(?P<name>pwd|password)"
    r"%3D(?P<value>(?:(?!%3B|%26)[^\s&;\"'])*)"
)

_SECRET_NAME = re.compile(
    r"(?i)passw|pwd|passphrase|secret|token|credential|(api|access|private)_?key"
)
# Short names count in an address or the environment only; as a setting, `key` is a column.
_SECRET_WORD = re.compile(
    r"(?i)(?:^|[_.\-])(key|pass|pw|pat|auth|sig|signature|odbc_connect)(?:$|[_.\-])"
)
_NAME = r"(?P<name>[\w.\-]+)"
_QUOTED = re.compile(
    rf"(?<![\w.\-]){_NAME}[\"']?\]?\s*[:=]\s*\w?(?P<quote>[\"'])(?P<value>(?:(?!(?P=quote))[^\n])+)"
)
_UNQUOTED = re.compile(rf"(?m)^[ +\-]\s*(?:export\s+)?{_NAME}\s*[:=]\s*(?P<value>[^\s\"'*][^\n]*)$")
_PRIVATE_KEY = re.compile(r"(?s)(?<=PRIVATE KEY-----).*?(?=-----END|\Z)")
_SECRET_IN_CODE = re.compile(r"[A-Z0-9]_KEY$|(?i:(?:^|[_.\-])(?:pass|pw)$)")
_SETTING = re.compile(r"([\w.\-]+)=(\"[^\"\n]*\"|'[^'\n]*'|[^\s,&;\"']+)")
# A number (d_token=64) is not a secret, nor is a value such as `null` or `true`.
_HARMLESS = re.compile(r"(?i)[\d.e+\-_]*|null|none|true|false|yes|no|on|off")
_WORD = r"(?<![\w/.\-]){}(?![\w/.\-])"
_LONG, _SHORT = 8, 4

_known: set[str] = set()
"""Secrets of the stores this process writes to: a driver's error may quote them by themselves."""


def remember(uri: str) -> None:
    """From now on, :func:`redact_text` hides the secrets of this address anywhere in a text."""
    _known.update(_secrets_of(uri))


def redact_uri(text: str) -> str:
    """``text`` without the secrets of the URIs in it: ``user:password@`` becomes ``***@``, and
    secret query parameters lose their values (``?password=***``, ``odbc_connect=***``)."""
    text = _URI.sub(lambda found: _USERINFO.sub(f"{HIDDEN}@", found[0]), text)
    return _ENCODED.sub(_hide_value, _PARAMETER.sub(_hide_value, text))


def redact_setting(name: str, value: str) -> str:
    """The value of a setting, or ``***`` if its name marks it as a secret."""
    if _SECRET_NAME.search(name) and not _HARMLESS.fullmatch(value.strip("'\"")):
        return HIDDEN
    return redact_text(value)


def redact_command(text: str) -> str:
    """Apply :func:`redact_setting` to every ``name=value`` in a command line or message."""

    def hide(match: re.Match[str]) -> str:
        return f"{match[1]}={redact_setting(match[1], match[2])}"

    return redact_text(_SETTING.sub(hide, redact_text(text)))


def redact_text(text: str) -> str:
    """Apply :func:`redact_uri`, and hide every secret in the environment or a store's address.

    Secrets of an address, and those of the environment below 8 characters, are hidden only as
    whole words, as they may occur inside ordinary ones.
    """
    text = redact_uri(text)
    environment = set(_of_the_environment())
    for secret in sorted(_known | environment, key=len, reverse=True):
        anywhere = secret in environment and len(secret) >= _LONG
        for form in {secret, quote(secret, safe=""), quote_plus(secret)}:
            if form in text:
                pattern = re.escape(form) if anywhere else _WORD.format(re.escape(form))
                text = re.sub(pattern, HIDDEN, text)
    return text


def redact_diff(text: str) -> str:
    """Apply :func:`redact_text` to a diff, and hide secrets in the source: private keys, and quoted
    text after ``password=``, ``"api_key":`` and the like (outside Python files also unquoted)."""
    sections = re.split(r"(?m)^(?=diff --git )", text)
    return redact_text("".join(_redact_section(section) for section in sections))


def _redact_section(section: str) -> str:
    section = _QUOTED.sub(_hide_in_code, _PRIVATE_KEY.sub(HIDDEN, section))
    if re.match(r"diff --git .*\.pyi?\n", section):
        return section  # in Python, an unquoted word is a name
    return _UNQUOTED.sub(_hide_in_code, section)


def _hide_in_code(match: re.Match[str]) -> str:
    name = match["name"]
    secret = _SECRET_NAME.search(name) or _SECRET_IN_CODE.search(name)
    if not secret or _HARMLESS.fullmatch(match["value"]):
        return match[0]
    return _hidden(match)


def _hide_value(match: re.Match[str]) -> str:
    secret = match["value"] and _names_a_secret(match["name"])
    return _hidden(match) if secret else match[0]


def _hidden(match: re.Match[str]) -> str:
    start, end = (at - match.start() for at in match.span("value"))
    return match[0][:start] + HIDDEN + match[0][end:]


def _names_a_secret(name: str) -> bool:
    return bool(_SECRET_NAME.search(name) or _SECRET_WORD.search(name))


def _of_the_environment() -> Iterator[str]:
    for name, value in os.environ.items():
        if _names_a_secret(name) and not os.path.isabs(value) and _says_something(value):
            yield value


def _says_something(value: str) -> bool:
    return len(value) >= _SHORT and (len(value) >= _LONG or not _HARMLESS.fullmatch(value))


def _secrets_of(uri: str) -> set[str]:
    """The secrets in an address, both as spelled and decoded. A driver may split a password at
    another @ and take part of it for the host, so each part counts."""
    found: set[str] = set()
    for match in _URI.finditer(uri):
        if userinfo := _USERINFO.match(match[0]):
            user, colon, password = userinfo[0][:-1].partition(":")
            found |= {password, *password.split("@")} if colon else {user}
    named = [*_PARAMETER.finditer(uri), *_ENCODED.finditer(uri)]
    found |= {match["value"] for match in named if _names_a_secret(match["name"])}
    decoded = set()
    for secret in found:
        with suppress(ValueError):
            decoded |= {unquote(secret), unquote_plus(secret)}
    return {secret for secret in found | decoded if _says_something(secret)}

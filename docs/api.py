"""Writes docs/api.md, the public interface, from signatures and docstrings of each ``__all__``.

Run it as ``python docs/api.py``; a test checks that the page is up to date.
"""

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

PACKAGES = (
    *("rarelab", "rarelab.losses", "rarelab.boosting"),
    *("rarelab.functional", "rarelab.metrics"),
)
PAGE = Path(__file__).with_name("api.md")

_HEAD = """# Python interface

These names are public; everything else may change without notice. `python docs/api.py` makes this
page from signatures and docstrings, so `help()` says the same.
"""


def page() -> str:
    """The page as Markdown."""
    return "\n".join([_HEAD, *(_package(name) for name in PACKAGES)])


def _package(name: str) -> str:
    module = importlib.import_module(name)
    names = sorted(module.__all__, key=str.casefold)
    head = [f"## {name}\n", f"{inspect.getdoc(module)}\n"]
    table = ["| name | what it is |", "|---|---|"]
    table += [f"| [`{each}`](#{_anchor(name, each)}) | {_first(module, each)} |" for each in names]
    return "\n".join([*head, *table, "", *(_entry(name, module, each) for each in names)])


def _entry(package: str, module: Any, name: str) -> str:
    value = getattr(module, name)
    if not callable(value):
        return f"### {package}.{name}\n\n`{value!r}`\n"
    lines = [f"### {package}.{name}\n", f"```python\n{name}{_signature(value)}\n```\n"]
    lines.append(f"```text\n{inspect.getdoc(value)}\n```\n")
    forward = vars(value).get("forward") if inspect.isclass(value) else None
    if forward is not None and forward.__doc__:
        lines.append(f"```python\nforward{_signature(forward)}\n```\n")
        lines.append(f"```text\n{inspect.getdoc(forward)}\n```\n")
    return "\n".join(lines)


def _signature(value: Any) -> str:
    """One parameter per line if the signature is long; annotations as written in the source."""
    signature = inspect.signature(value)
    kept = [p for p in signature.parameters.values() if p.name != "self"]
    one_line = str(signature.replace(parameters=kept))
    if len(one_line) <= 90:
        return _short(one_line)
    rows, marks = [], {p.kind for p in kept}
    for parameter in kept:
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.KEYWORD_ONLY in marks:
            rows.append("*")
            marks.clear()
        rows.append(str(parameter))
    returned = one_line.rpartition(" -> ")[2] if " -> " in one_line else ""
    body = "".join(f"    {row},\n" for row in rows)
    return _short(f"(\n{body})" + (f" -> {returned}" if returned else ""))


def _short(text: str) -> str:
    return re.sub(r"\b(?:torch|typing|collections\.abc|pathlib)\.(?=[A-Z])", "", text)


def _first(module: Any, name: str) -> str:
    """The first sentence of the docstring, on one line."""
    value = getattr(module, name)
    if not callable(value):
        return "a constant"
    text = " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())
    return text.replace("|", "\\|")


def _anchor(package: str, name: str) -> str:
    return f"{package}.{name}".replace(".", "").lower()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

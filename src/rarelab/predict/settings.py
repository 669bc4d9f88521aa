"""The ``KEY=VALUE`` settings of ``rarelab predict``."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rarelab.data.arguments import between
from rarelab.errors import RequestError, nearest
from rarelab.quoting import names, unquoted

ON_BAD = ("row", "refuse")


@dataclass(frozen=True)
class Request:
    """What to score, with which run, and where to write the scores.

    run: MLflow id, a prefix of it, or folder name. file: a table, named as by ``dataset.path``, or
    a query (``SELECT ...``) of the database at ``uri``; .npy or .npz for a run trained on arrays.
    budget: share of rows that may alert, by the threshold that spends it on validation. alerts: how
    many rows of the file may alert, those with the highest scores. output: a file, ``-`` for
    standard output, None for a file next to the input. overwrite: whether an existing one may be
    replaced. id: the column that
    identifies a row; keep: other columns to write beside the scores. drop: columns to ignore
    without a note. on_bad: whether an unreadable value costs its row the score ("row") or is
    refused ("refuse"). allow_targets: the user's own modules that the model may come from.
    """

    run: str
    file: str
    budget: float | None = None
    alerts: int | None = None
    output: str | None = None
    overwrite: bool = False
    id: str | None = None
    keep: Sequence[str] = ()
    drop: Sequence[str] = ()
    on_bad: str = "row"
    allow_targets: Sequence[str] = ()
    uri: str | None = None

    @property
    def kept(self) -> list[str]:
        """The columns to write beside the scores, each once."""
        return [*dict.fromkeys([*([self.id] if self.id else []), *self.keep])]


def request(run: str, file: str, settings: Sequence[str]) -> Request:
    """Build the request from ``KEY=VALUE`` settings; lists as in Hydra, ``drop=[a,"b, c"]``.

    Raises:
        RequestError: an unknown key or an invalid value.
    """
    known = {
        "budget": _share,
        "alerts": _count,
        "output": str,
        "uri": str,
        "overwrite": _truth,
        "id": unquoted,
        "keep": names,
        "drop": names,
        "on_bad": _on_bad,
        "allow_targets": names,
    }
    given = parsed(settings, known)
    if "budget" in given and "alerts" in given:
        raise RequestError("budget and alerts are both given: each decides which rows alert")
    return Request(run, file, **given)


def parsed(settings: Sequence[str], known: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    """The values of ``KEY=VALUE`` settings, each read by what ``known`` has for its key.

    Raises:
        RequestError: an unknown key or an invalid value.
    """
    given: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if key not in known:
            raise RequestError(f"{key}: there is no such setting; {nearest(key, known)}")
        if not equals or not value:
            raise RequestError(f"{setting}: expected {key}=VALUE")
        given[key] = known[key](value)
    return given


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        raise RequestError(f"budget={text}: expected a number, for example 0.005") from None
    between("budget", share, 0, 1)
    return share


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]+", text) or int(text) < 1:
        raise RequestError(f"alerts={text}: expected how many rows may alert, for example 100")
    return int(text)


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise RequestError(f"overwrite={text}: expected true or false")
    return text.lower() == "true"


def _on_bad(text: str) -> str:
    if text not in ON_BAD:
        raise RequestError(f"on_bad={text} is unknown: {nearest(text, ON_BAD)}")
    return text

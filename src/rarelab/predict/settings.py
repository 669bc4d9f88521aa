"""The ``KEY=VALUE`` settings of ``rarelab predict``."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from rarelab.data.arguments import between
from rarelab.errors import RequestError, nearest
from rarelab.metrics.budget import budgets
from rarelab.metrics.thresholds import AlertRule, only_one, rule_of
from rarelab.quoting import names, unquoted

ON_BAD = ("row", "refuse")


@dataclass(frozen=True)
class Request:
    """What to score, with which run, and where to write the scores.

    run: MLflow id, a prefix of it, or folder name. file: a table, named as by ``dataset.path``, or
    a query (``SELECT ...``) of the database at ``uri``; .npy or .npz for a run trained on arrays.
    budget: share of rows that may alert, or a capacity, by the threshold that spends it on
    validation; without any rule, the budget that the run recorded, unless no_budget. alerts: how
    many rows of the file may alert, those with the highest scores. output: a file, ``-`` for
    standard output, None for a file next to the input. overwrite: whether an existing one may be
    replaced. id: the column that identifies a row; keep: other columns to write beside the
    scores. drop: columns to ignore without a note. on_bad: whether an unreadable value costs its
    row the score ("row") or is refused ("refuse"). allow_targets: the user's own modules that the
    model may come from. precision, recall, cost, costs: the other rules for the
    threshold (:class:`AlertRule`). reasons: how many reasons for its score each row gets.
    """

    run: str
    file: str
    budget: float | Mapping[str, Any] | None = None
    alerts: int | None = None
    output: str | None = None
    overwrite: bool = False
    id: str | None = None
    keep: Sequence[str] = ()
    drop: Sequence[str] = ()
    on_bad: str = "row"
    allow_targets: Sequence[str] = ()
    uri: str | None = None
    precision: float | None = None
    recall: float | None = None
    cost: bool = False
    costs: Sequence[Sequence[float]] | None = None
    no_budget: bool = False
    reasons: int = 0

    @property
    def rule(self) -> AlertRule | None:
        """The rule that chooses the threshold on validation, if one is asked for."""
        return rule_of(self.budget, self.precision, self.recall, self.cost, self.costs)

    @property
    def undecided(self) -> bool:
        """Whether nothing says which rows alert, so that the run's own budget does."""
        return self.rule is None and self.alerts is None and not self.no_budget

    @property
    def kept(self) -> list[str]:
        """The columns to write beside the scores, each once."""
        return [*dict.fromkeys([*([self.id] if self.id else []), *self.keep])]


def request(run: str, file: str, settings: Sequence[str]) -> Request:
    """Build the request from ``KEY=VALUE`` settings and the word ``cost``; lists as in Hydra,
    ``drop=[a,"b, c"]``.

    Raises:
        RequestError: an unknown key or an invalid value.
    """
    known = {
        "budget": _budget,
        "budget.alerts": _amount,
        "budget.per": unquoted,
        "precision": _share("precision", 0.9, include_high=True),
        "recall": _share("recall", 0.8, include_high=True),
        "cost": _no_value,
        "costs": _costs,
        "alerts": _count("alerts", "how many rows may alert, for example 100"),
        "reasons": _count("reasons", "how many reasons each row gets, for example 3"),
        "output": str,
        "uri": str,
        "overwrite": _truth,
        "id": _one_column,
        "keep": names,
        "drop": names,
        "on_bad": _on_bad,
        "allow_targets": names,
    }
    given = parsed([setting for setting in settings if setting != "cost"], known)
    given |= {"cost": True} if "cost" in settings else {}
    capacity = {key: given.pop(f"budget.{key}", None) for key in ("alerts", "per")}
    if any(value is not None for value in capacity.values()):
        if "budget" in given:
            raise RequestError("budget= and budget.alerts= are both given: give one of them")
        budgets(capacity)
        given["budget"] = capacity
    if given.get("budget") == "none":
        given |= {"budget": None, "no_budget": True}
    only_one(given)
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


def _share(key: str, example: float, *, include_high: bool = False) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            share = float(text)
        except ValueError:
            raise RequestError(f"{key}={text}: expected a number, for example {example}") from None
        between(key, share, 0, 1, include_high=include_high)
        return share

    return read


def _one_column(text: str) -> str:
    if text.startswith("[") and len(names(text)) > 1:
        first, *others = names(text)
        raise RequestError(
            f"id={text}: expected one column; beside it: id={first} keep=[{','.join(others)}]"
        )
    return unquoted(text)


def _budget(text: str) -> float | str:
    return text if text == "none" else _share("budget", 0.005)(text)


def _amount(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise RequestError(f"budget.alerts={text}: expected a number, for example 37") from None


def _no_value(text: str) -> NoReturn:
    raise RequestError(
        f"cost={text}: expected the word cost alone, for the run's own costs,"
        " or costs=[[0,1],[50,1]]"
    )


def _costs(text: str) -> list[list[float]]:
    try:
        costs = json.loads(text)
    except (ValueError, RecursionError):
        costs = None
    if not isinstance(costs, list) or not all(isinstance(row, list) for row in costs):
        raise RequestError(
            f"costs={text}: expected a list for each true class, for example [[0,1],[50,1]]"
        )
    return costs


def _count(key: str, expected: str) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]+", text) or int(text) < 1:
            raise RequestError(f"{key}={text}: expected {expected}")
        return int(text)

    return read


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise RequestError(f"overwrite={text}: expected true or false")
    return text.lower() == "true"


def _on_bad(text: str) -> str:
    if text not in ON_BAD:
        raise RequestError(f"on_bad={text} is unknown: {nearest(text, ON_BAD)}")
    return text

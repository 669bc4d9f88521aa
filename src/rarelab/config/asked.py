"""What a request asks of a run's scores: alert budgets, costs, a rule for the threshold."""

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rarelab.config.check import check_value
from rarelab.data.given import AMOUNT
from rarelab.data.splits import Splits, Table
from rarelab.errors import RequestError
from rarelab.metrics.budget import Budget, budgets
from rarelab.metrics.costs import BY_AMOUNT, Matrix, by_amount, check_prices, cost_matrix
from rarelab.metrics.table import AUCPR, is_at_budget
from rarelab.metrics.thresholds import AlertRule, read_rule

_NO_AMOUNTS = (
    "costs.missed_positive=amount: there are no amounts; expected dataset.amount to name the "
    "column of what a row is worth"
)


def check(plain: Mapping[str, Any]) -> None:
    """Refuse what cannot be read or met in a resolved configuration, before there is any data.

    Raises:
        RequestError: naming the key.
    """
    _check_budget(plain)
    _check_costs(plain)
    _check_threshold(plain)
    _check_codes(plain)


def alerts(allowed: Sequence[Budget], table: Table) -> int | None:
    """How many rows of a split may alert by the first budget; None without one.

    Raises:
        RequestError: the budget is per day, and the rows have no dates.
    """
    return allowed[0].alerts(len(table.labels()), table.days) if allowed else None


def costs(cfg: DictConfig, splits: Splits) -> Matrix | None:
    """The costs [true class, decision], NaN for what the row is worth; None if there are none.

    Raises:
        RequestError: they do not fit the classes, or are by amounts that the rows do not have.
    """
    if cfg.costs is None:
        return None
    given: Any = OmegaConf.to_container(cfg.costs)
    found = cost_matrix(given, splits.classes)
    if by_amount(found) and any(AMOUNT not in (t.origin or {}) for t in (splits.val, splits.test)):
        raise RequestError(_NO_AMOUNTS)
    return found


def rule(cfg: DictConfig, splits: Splits) -> AlertRule | None:
    """The rule that chooses a threshold on validation; None if there is none.

    Raises:
        RequestError: the task has more than two classes.
    """
    if cfg.threshold is None:
        return None
    if splits.task != "binary":
        raise RequestError(
            f"threshold: alerts need two classes, data set {splits.name!r} has "
            f"{len(splits.classes)}"
        )
    return read_rule(cfg.threshold)


def _check_budget(plain: Mapping[str, Any]) -> None:
    """Refuse a budget that cannot be read or met, and a choice by one that is not given."""
    allowed = budgets(plain["budget"])
    by = plain["trainer"].get("select_by", AUCPR)
    if is_at_budget(by) and not allowed:
        raise RequestError(
            f"trainer.select_by={by}: there is no budget; give one, such as budget=0.02"
        )
    if any(budget.daily for budget in allowed) and plain["dataset"].get("time") is None:
        raise RequestError(
            "budget.per=day: expected dataset.time to name a column of dates, for the days that "
            "the validation and the test rows span"
        )


def _check_costs(plain: Mapping[str, Any]) -> None:
    """Refuse costs that cannot be read, or are by amounts that the data set was not asked for."""
    given = plain["costs"]
    if not isinstance(given, Mapping):
        check_value("costs", given, list[list[float]] | None)
        return
    check_prices(given)
    if BY_AMOUNT in given.values() and plain["dataset"].get("amount", "") is None:
        raise RequestError(_NO_AMOUNTS)


def _check_threshold(plain: Mapping[str, Any]) -> None:
    """Refuse a rule for the threshold that cannot be read, or by costs that are not given."""
    given = plain["threshold"]
    if given is not None and read_rule(given).cost and plain["costs"] is None:
        raise RequestError(
            "threshold=cost: there are no costs; give some, as in costs=[[0,1],[50,0]]"
        )


def _check_codes(plain: Mapping[str, Any]) -> None:
    """Refuse codes of levels for a model that would take them for numbers."""
    leaf = plain["model"]
    takes = leaf.get("categories") == "native" or "members" in leaf
    if plain["dataset"].get("high_cardinality") == "codes" and not takes:
        raise RequestError(
            "dataset.high_cardinality=codes: this model would take codes for numbers; expected "
            "lightgbm, xgboost or catboost with model.categories=native, or onehot, target or hash"
        )

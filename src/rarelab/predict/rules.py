"""What a run fitted on validation: calibrated probabilities and the cheapest decision."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rarelab.metrics import probabilities_of
from rarelab.metrics.budget import Budget, budgets
from rarelab.metrics.calibration import Calibrator, restored
from rarelab.metrics.costs import Matrix, cheapest_decisions

_FILES = {
    "calibration": "calibration.json",
    "decision": "decision.json",
    "budget": "budget.json",
}


@dataclass(frozen=True)
class Rules:
    """A run trained with ``calibration=`` has a calibrator; one with ``costs=`` has costs and, for
    two classes, the ``threshold`` that is cheapest on validation (infinite: never alert); one with
    ``budget=`` has its budget, and ``days``, how many the validation rows span if it counts them.
    """

    calibrator: Calibrator | None = None
    costs: Matrix | None = None
    threshold: float | None = None
    budget: Budget | None = None
    days: int | None = None

    def columns(self, scores: Tensor, classes: Sequence[str]) -> dict[str, NDArray]:
        """For scores [N, C], what the run has of: ``probability`` (``probability/<class>`` for more
        than two classes), and ``decision``, the name of a class."""
        found: dict[str, NDArray] = {}
        if self.calibrator is not None:
            values = self.calibrator(scores).numpy()
            found |= {name: values[:, i] for i, name in enumerate(probability_columns(classes))}
        if self.costs is not None:
            found["decision"] = np.array(classes, dtype=object)[self._decisions(scores)]
        return found

    def kinds(self, classes: Sequence[str]) -> dict[str, str]:
        """The MLflow type of each column."""
        probabilities = probability_columns(classes) if self.calibrator is not None else []
        decision = {} if self.costs is None else {"decision": "string"}
        return dict.fromkeys(probabilities, "double") | decision

    def _decisions(self, scores: Tensor) -> NDArray[np.int64]:
        assert self.costs is not None
        if self.threshold is not None:
            return (scores[:, 0].numpy() >= self.threshold).astype(np.int64)
        read = self.calibrator or probabilities_of
        return cheapest_decisions(read(scores), self.costs)


def probability_columns(classes: Sequence[str]) -> list[str]:
    """The names of the columns of calibrated probabilities."""
    return ["probability"] if len(classes) == 2 else [f"probability/{name}" for name in classes]


def recorded_rules(directory: Path) -> dict[str, Any]:
    """The rules in a run's folder, as JSON by name; None for those the run does not have (without a
    budget, nothing)."""
    found = {
        name: json.loads((directory / file).read_text(encoding="utf-8"))
        if (directory / file).is_file()
        else None
        for name, file in _FILES.items()
    }
    return {name: rule for name, rule in found.items() if rule is not None or name != "budget"}


def restored_rules(facts: Mapping[str, Any]) -> Rules:
    """The rules from :func:`recorded_rules`; empty for runs recorded before rules existed."""
    calibration, decision = facts.get("calibration"), facts.get("decision")
    budget = facts.get("budget")
    return Rules(
        calibrator=None if calibration is None else restored(calibration),
        costs=None if decision is None else np.array(decision["costs"], dtype=np.float64),
        threshold=None if decision is None else decision["threshold"],
        budget=None if budget is None else budgets(budget["budget"])[0],
        days=None if budget is None else budget["days"],
    )

"""The line from a run that is being trained to its search: may it go on?"""

import contextlib
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rarelab.errors import Pruned
from rarelab.search.method import StudyAddress
from rarelab.training.history import read_rows

if TYPE_CHECKING:
    import optuna

METRIC = "val/aucpr"

log = logging.getLogger("rarelab")


@dataclass
class PruneReport:
    """Listens to a run's history, reports each epoch's ``val/aucpr`` to its trial, and stops the
    run when the study's pruner says so.

    A study that cannot be reached stops nothing: one warning, and the run goes on to its end.

    Raises (when called):
        Pruned: the trial is not promising enough to be trained on.
    """

    address: StudyAddress
    number: int
    _trial: "optuna.Trial | None" = field(default=None, init=False, repr=False)
    _reported: set[int] = field(default_factory=set, init=False, repr=False)
    _lost: bool = field(default=False, init=False, repr=False)

    def __call__(self, row: dict[str, Any]) -> None:
        value = row["metrics"].get(METRIC)
        if value is None or self._lost:
            return
        try:
            hopeless = self._report(row["step"], value)
        except Exception as error:
            self._lost = True
            log.warning("the search cannot be told (%s); this run is trained to its end", error)
            return
        if hopeless:
            raise Pruned(
                f"stopped after epoch {row['step'] + 1}: val AUCPR {value:.4f} is not promising "
                "enough beside the search's other trials"
            )

    def replay(self, directory: Path) -> None:
        """Report a run that was trained before, for the comparisons of later trials."""
        path = directory / "history.jsonl"
        for row in read_rows(path) if path.is_file() else []:
            with contextlib.suppress(Pruned):
                self(row)

    def _report(self, epoch: int, value: float) -> bool:
        if self._trial is None:
            self._trial = self.address.trial(self.number)
            known = self._trial.study.get_trials(deepcopy=False)[self.number]
            self._reported = set(known.intermediate_values)
        # A run that is continued from a checkpoint may pass an epoch again.
        if epoch not in self._reported:
            self._reported.add(epoch)
            self._trial.report(value, epoch)
        return self._trial.should_prune()

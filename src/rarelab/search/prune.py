"""Reports a run's progress to its search, which may prune it."""

import contextlib
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rarelab.errors import Pruned
from rarelab.metrics.table import AUCPR
from rarelab.search.display import in_words
from rarelab.search.method import StudyAddress
from rarelab.training.history import read_rows

if TYPE_CHECKING:
    import optuna

log = logging.getLogger("rarelab")


@dataclass
class PruneReport:
    """A history listener that reports each epoch's ``metric`` to the run's trial, and stops the run
    when the study's pruner decides to.

    If the study cannot be reached, it warns once and the run trains to the end.

    Raises (when called):
        Pruned: the trial is not promising enough to continue.
    """

    address: StudyAddress
    number: int
    metric: str = AUCPR
    _trial: "optuna.Trial | None" = field(default=None, init=False, repr=False)
    _reported: set[int] = field(default_factory=set, init=False, repr=False)
    _lost: bool = field(default=False, init=False, repr=False)

    def __call__(self, row: dict[str, Any]) -> None:
        value = row["metrics"].get(self.metric)
        if value is None or self._lost:
            return
        try:
            hopeless = self._report(row["step"], value)
        except Exception as error:
            self._lost = True
            log.warning("cannot report to the search (%s); this run is not pruned", error)
            return
        if hopeless:
            raise Pruned(
                f"stopped after epoch {row['step'] + 1}: {in_words(self.metric)} {value:.4f} is "
                "not promising enough compared with the search's other trials"
            )

    def replay(self, directory: Path) -> None:
        """Report an earlier run, so that later trials are compared with it."""
        path = directory / "history.jsonl"
        for row in read_rows(path) if path.is_file() else []:
            with contextlib.suppress(Pruned):
                self(row)

    def _report(self, epoch: int, value: float) -> bool:
        if self._trial is None:
            self._trial = self.address.trial(self.number)
            known = self._trial.study.get_trials(deepcopy=False)[self.number]
            self._reported = set(known.intermediate_values)
        # A run resumed from a checkpoint may repeat an epoch.
        if epoch not in self._reported:
            self._reported.add(epoch)
            self._trial.report(value, epoch)
        return self._trial.should_prune()

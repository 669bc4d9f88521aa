"""Model selection on validation: which epoch's weights to keep, and when to stop early."""

import copy
import math
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from rarelab.metrics.table import AUCPR, best_key


class Stateful(Protocol):
    """What is selected: a network, or how far a booster had grown."""

    def state_dict(self) -> dict[str, Any]: ...


class Selection:
    """Keeps the weights of the best epoch by the validation metric ``by``.

    Equal values are decided by ``val/aucpr``, and equal ones of that by the earlier epoch: among
    few positives a recall takes few values.

    ``select="main"`` considers only epochs trained at the loss's final main weight, so that an arm
    named after a ranking loss never selects a warmup epoch; ``"any"`` considers all epochs.
    Patience counts only the considered epochs, hence never across the warmup switch.
    """

    def __init__(
        self, select: Literal["main", "any"], patience: int | None, by: str = AUCPR
    ) -> None:
        self._select = select
        self._by = by
        self._patience = patience
        self.best_epoch: int | None = None
        self.best_value = float("-inf")
        self.best_aucpr = float("-inf")
        self.best_state: dict[str, Any] | None = None
        self.best_warmup_value = float("nan")
        self._since_best = 0

    def see(self, epoch: int, metrics: Mapping[str, float], model: Stateful, *, main: bool) -> bool:
        """Consider an epoch by its validation metrics; True if it is the best so far."""
        value, aucpr = metrics[self._by], metrics[AUCPR]
        if not main and not aucpr <= self.best_warmup_value:
            self.best_warmup_value = aucpr
        if not (main or self._select == "any"):
            return False
        if (value, aucpr) > (self.best_value, self.best_aucpr) or self.best_epoch is None:
            self.best_epoch, self._since_best = epoch, 0
            self.best_value, self.best_aucpr = value, aucpr
            self.best_state = copy.deepcopy(model.state_dict())
            return True
        self._since_best += 1
        return False

    @property
    def exhausted(self) -> bool:
        return self._patience is not None and self._since_best >= self._patience

    def state_dict(self) -> dict[str, Any]:
        """The state so far, including the best epoch's weights."""
        return {
            "best_epoch": self.best_epoch,
            "best_value": self.best_value,
            "best_aucpr": self.best_aucpr,
            "best_state": self.best_state,
            "best_warmup_value": self.best_warmup_value,
            "since_best": self._since_best,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state``. Where it has no AUCPR of its own, that was the value."""
        self.best_epoch, self.best_value = state["best_epoch"], state["best_value"]
        self.best_aucpr = state.get("best_aucpr", self.best_value)
        self.best_state, self._since_best = state["best_state"], state["since_best"]
        self.best_warmup_value = state["best_warmup_value"]

    def metrics(self) -> dict[str, float]:
        """The ``best/...`` metrics: the AUCPR of the chosen epoch, and the value it was chosen by;
        the warmup's AUCPR only if there was a warmup."""
        assert self.best_epoch is not None
        found = {best_key(AUCPR): self.best_aucpr, best_key(self._by): self.best_value}
        found["best/epoch"] = float(self.best_epoch)
        if not math.isnan(self.best_warmup_value):
            found["best/warmup_val_aucpr"] = self.best_warmup_value
        return found

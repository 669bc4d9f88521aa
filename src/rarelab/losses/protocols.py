"""Optional protocols through which a training loop or a wrapper talks to any loss.

Every protocol can be checked at run time: `isinstance(loss, Queued)`. A custom loss takes part by
having the methods; it need not import anything from here.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class EpochAware(Protocol):
    """Is notified when a training epoch (counted from 0) begins."""

    def on_train_epoch_start(self, epoch: int) -> None: ...


@runtime_checkable
class StepAware(Protocol):
    """Is notified of the number of optimiser steps taken before each training batch."""

    def on_train_batch_start(self, global_step: int) -> None: ...


@runtime_checkable
class Indexed(Protocol):
    """Is notified of the training rows that it is about to be called on.

    ``rows`` are int64 positions in the training targets (flattened for sequences), one for each row
    of the logits that follow.
    """

    def on_train_batch_rows(self, rows: Tensor) -> None: ...


@runtime_checkable
class Queued(Protocol):
    """Remembers rows of earlier batches, and can forget them."""

    def reset_queue(self) -> None: ...


@runtime_checkable
class Tempered(Protocol):
    """Has a temperature that a schedule may set between steps."""

    temperature: float


@runtime_checkable
class Scheduled(Protocol):
    """Moves from one loss to another during training."""

    @property
    def in_warmup(self) -> bool: ...

    @property
    def in_blend(self) -> bool: ...

    @property
    def ap_weight(self) -> float: ...

    @property
    def at_final_weight(self) -> bool: ...

    @property
    def current_temperature(self) -> float | None: ...


@runtime_checkable
class Pooled(Protocol):
    """Ranks a pool and reports which classes had a positive in the last one, bool [C] or None."""

    @property
    def pool_has_positive(self) -> Tensor | None: ...


@runtime_checkable
class Likelihood(Protocol):
    """Says whether it is minimised by the log-odds (or log-rates) of the classes."""

    is_likelihood: bool


@runtime_checkable
class Sampling(Protocol):
    """Draws random numbers from its own stream."""

    def seed(self, seed: int) -> None: ...


@runtime_checkable
class Together(Protocol):
    """Takes the losses of K runs at once, each run with a loss of this kind of its own."""

    def together(
        self,
        losses: Sequence[Any],
        logits: Tensor,
        targets: Tensor,
        sample_weight: Tensor | None,
    ) -> Tensor | None:
        """The losses [K] at logits [K, N, C], targets [K, N] and weights [K, N], as if each of
        ``losses``, of which this is the first, had been called on its own; None if they have to
        be."""
        ...

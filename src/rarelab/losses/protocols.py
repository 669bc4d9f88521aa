"""What a training loop or a wrapper may ask of a loss that is not its own.

Every protocol can be checked at run time: `isinstance(loss, Queued)`. A loss of the user's own
takes part by having the methods; it need not import anything from here.
"""

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class EpochAware(Protocol):
    """Wants to know when a training epoch (counted from 0) begins."""

    def on_train_epoch_start(self, epoch: int) -> None: ...


@runtime_checkable
class StepAware(Protocol):
    """Wants to know the number of optimiser steps taken before each training batch."""

    def on_train_batch_start(self, global_step: int) -> None: ...


@runtime_checkable
class Indexed(Protocol):
    """Wants to know which training rows it is about to be called on.

    ``rows`` are positions in the training targets (of sequences: in the flattened ones), int64, one
    for each row of the logits that follow.
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
    """Moves from one loss to another while training goes on."""

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
    """Ranks a pool: which classes had a positive in the last one, bool [C], or None before it."""

    @property
    def pool_has_positive(self) -> Tensor | None: ...


@runtime_checkable
class Likelihood(Protocol):
    """Whether the loss is least where the scores are the log-odds (or log-rates) of the classes."""

    is_likelihood: bool


@runtime_checkable
class Sampling(Protocol):
    """Draws random numbers from a stream of its own."""

    def seed(self, seed: int) -> None: ...

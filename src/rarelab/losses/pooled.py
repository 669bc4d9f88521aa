"""Shared by all losses over a pool: parameters, queue, reduction, degenerate classes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import inf, isnan, nan
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rarelab.functional.order import iqr
from rarelab.functional.threads import one_thread
from rarelab.losses.gather import should_gather
from rarelab.losses.notices import Notices
from rarelab.losses.pool import RankingPool, Rows
from rarelab.losses.pools import Pools
from rarelab.losses.rows import check_choice, check_reduction

NO_SPREAD = (
    "half or more of a class's pooled scores are equal, so their inter-quartile range is 0: "
    "for that class the temperature %g is in logits"
)

PerClass = tuple[Tensor, Tensor, Tensor]


class Evaluated(NamedTuple):
    """A reduced loss, the class losses [C] behind it, and the pool they were computed on."""

    loss: Tensor
    per_class: Tensor
    rows: Rows
    positives: Tensor

    def result(self, return_per_class: bool) -> Tensor | PerClass:
        """The loss; with ``return_per_class`` also the class losses and which are valid."""
        if not return_per_class:
            return self.loss
        return self.loss, self.per_class, ~self.per_class.isnan()


class PooledLoss(nn.Module, ABC):
    """One loss per class, one-vs-rest, computed on batch and queue together.

    Subclasses compute the class losses; NaN marks a class that cannot be evaluated. A NaN or
    infinite logit makes its class NaN under every reduction, and its row does not enter the queue.
    """

    def __init__(
        self,
        num_classes: int,
        queue_size: int,
        reduction: str,
        ignore_index: int,
        update_queue_in_eval: bool,
        gather_distributed: bool | None,
        max_pool_size: int | None,
    ) -> None:
        super().__init__()
        if max_pool_size is not None and max_pool_size < 1:
            raise ValueError(f"max_pool_size is {max_pool_size}, expected at least 1 or None")
        self.num_classes = num_classes
        self.queue_size = queue_size
        self.reduction = check_reduction(reduction)
        self.ignore_index = ignore_index
        self.update_queue_in_eval = update_queue_in_eval
        self.gather_distributed = gather_distributed
        self.max_pool_size = max_pool_size
        self.pool = RankingPool(num_classes, queue_size)
        self.notices = Notices()
        self._pools: tuple[tuple[int, ...], Pools | None] | None = None

    @abstractmethod
    def class_losses(self, rows: Rows, positives: Tensor) -> Tensor:
        """Losses [C] of a non-empty pool, differentiable in the live rows.

        NaN where a class is degenerate.
        """

    @property
    def pool_has_positive(self) -> Tensor | None:
        """Which classes had a positive in the last pool, bool [C]; None before the first one."""
        return self.pool.has_positive

    def reset_queue(self) -> None:
        """Forget all earlier rows, for example between training and another split."""
        self.pool.reset()

    def seed(self, seed: int) -> None:
        """Seed this loss's own random stream, which `max_pool_size` draws from."""
        self.pool.seed(seed)

    def evaluate(
        self,
        logits: Tensor,
        targets: Tensor,
        iid_mask: Tensor | None,
        sample_weight: Tensor | None,
    ) -> Evaluated:
        """Pool the rows and evaluate every class on the pool."""
        size = (len(logits) + self.queue_size) * self.num_classes
        with one_thread(size, logits.device):
            rows, positives = self.pool(
                logits,
                targets,
                iid_mask,
                sample_weight,
                ignore_index=self.ignore_index,
                max_pool_size=self.max_pool_size,
                gather_distributed=self.gather_distributed,
                update_queue=self.training or self.update_queue_in_eval,
            )
            if rows.labels.numel() == 0:
                losses = rows.live.sum(dim=1) * nan
            else:
                losses = broken_as_nan(self.class_losses(rows, positives), rows)
            reduced = class_loss(losses, rows.broken, self.reduction)
        return Evaluated(reduced, losses, rows, positives)

    def together(
        self,
        losses: Sequence["PooledLoss"],
        logits: Tensor,
        targets: Tensor,
        sample_weight: Tensor | None,
    ) -> Tensor | None:
        """See :class:`rarelab.losses.protocols.Together`: of one output, K losses are K lists."""
        if (
            self.num_classes > 1
            or self.max_pool_size is not None
            or self.reduction == "none"
            or should_gather(self.gather_distributed)
            or (pools := self._pools_of(losses)) is None
            or len({getattr(loss, "temperature", None) for loss in losses}) > 1
        ):
            return None
        found = pools(
            logits,
            targets,
            sample_weight,
            ignore_index=self.ignore_index,
            update_queue=self.training or self.update_queue_in_eval,
        )
        if found is None:
            return None
        rows, positives = found
        losses_of_lists = broken_as_nan(self.class_losses(rows, positives), rows)
        degenerate = losses_of_lists.isnan()
        if rows.broken is not None:
            degenerate = degenerate & ~rows.broken
        return torch.where(degenerate, 0, losses_of_lists)

    def _pools_of(self, losses: Sequence["PooledLoss"]) -> Pools | None:
        """The pools of these losses as one, kept from one step to the next; None if their settings
        differ, other than in the temperature that a schedule sets."""
        whose = tuple(map(id, losses))
        if self._pools is None or self._pools[0] != whose:
            alike = all(_settings(loss) == _settings(self) for loss in losses)
            self._pools = whose, Pools([loss.pool for loss in losses]) if alike else None
        return self._pools[1]

    def extra_repr(self) -> str:
        return (
            f"num_classes={self.num_classes}, queue_size={self.queue_size}, "
            f"reduction={self.reduction!r}"
        )


class TemperedLoss(PooledLoss, ABC):
    """A pooled loss with soft steps σ(difference/τ); a schedule may set τ, ``temperature``."""

    def __init__(
        self,
        num_classes: int,
        queue_size: int,
        temperature: float,
        reduction: str,
        ignore_index: int,
        update_queue_in_eval: bool,
        gather_distributed: bool | None,
        max_pool_size: int | None,
    ) -> None:
        if not 0 < temperature < inf:
            raise ValueError(f"temperature is {temperature}, expected a positive number")
        super().__init__(
            num_classes,
            queue_size,
            reduction,
            ignore_index,
            update_queue_in_eval,
            gather_distributed,
            max_pool_size,
        )
        self.temperature = float(temperature)

    def get_extra_state(self) -> dict:
        return {"temperature": self.temperature}

    def set_extra_state(self, state: dict) -> None:
        self.temperature = state["temperature"]

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, temperature={self.temperature}"


def _settings(loss: nn.Module) -> dict[str, Any]:
    plain = (bool, int, float, str, type(None))
    return {
        name: value
        for name, value in vars(loss).items()
        if not name.startswith("_") and name != "temperature" and isinstance(value, plain)
    }


def class_loss(values: Tensor, broken: Tensor | None, reduction: str) -> Tensor:
    """Reduce class losses [C], where NaN marks a class that cannot be evaluated.

    'none' keeps the NaN; 'mean' and 'sum' skip such classes, and with none left give a zero that is
    still attached to the graph. The NaN of a class with non-finite scores (``broken`` bool [C];
    None: no class) is always kept.
    """
    if reduction == "none":
        return values
    # On the CPU this check costs less than the arithmetic it avoids.
    if broken is None and values.device.type == "cpu":
        if len(values) == 1 and not isnan(values.item()):
            return values.squeeze(0)
        if not values.isnan().any():
            return getattr(values, reduction)()
    counted = ~values.isnan()
    if broken is not None:
        counted = counted | broken
    total = torch.where(counted, values, 0).sum()
    if reduction == "sum":
        return total
    return total / counted.sum().clamp(min=1)


def broken_as_nan(losses: Tensor, rows: Rows) -> Tensor:
    """Class losses [C] with NaN, in value and gradient, where the batch's scores are not finite."""
    if rows.broken is None:
        return losses
    return losses.masked_scatter(rows.broken, rows.live[rows.broken].sum(dim=1) * nan)


def check_unit(temperature_unit: str) -> str:
    """Return the unit.

    Raises:
        ValueError: it is neither 'logit' nor 'iqr'.
    """
    return check_choice("temperature_unit", temperature_unit, ("logit", "iqr"))


def tau_in(
    unit: str, temperature: float, scores: Tensor, notices: Notices | None = None
) -> float | Tensor:
    """The temperature in logits: unchanged, or scaled by each class's pooled spread, τ [C].

    Under 'iqr' the unit is the inter-quartile range of the class's pooled scores [C, M], without
    gradient. Where that is 0 (half of the scores are equal), the unit falls back to the logit, and
    ``notices`` warns of it.
    """
    if unit == "logit":
        return temperature
    spread = iqr(scores.detach())
    usable = (spread > 0) & spread.isfinite()
    if notices is not None and not notices.said(NO_SPREAD) and not bool(usable.all()):
        notices.warn(NO_SPREAD, temperature)
    return temperature * torch.where(usable, spread, 1)

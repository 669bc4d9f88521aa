"""The loop's optional exchange with a loss: epoch, step and rows in, schedule state out."""

import torch
from torch import Tensor, nn

from rarelab.losses.members import each
from rarelab.losses.protocols import EpochAware, Indexed, Pooled, Scheduled, StepAware
from rarelab.training.course import Work


class Clock:
    """Passes epoch, step and rows to losses that take them, and reads their schedule back; of a
    loss per member, to each, and from the first."""

    def __init__(self, loss: nn.Module) -> None:
        losses = each(loss)
        self._loss = losses[0]
        self._scheduled = losses[0] if isinstance(losses[0], Scheduled) else None
        self._on_epoch = [part for part in losses if isinstance(part, EpochAware)]
        self._on_step = [part for part in losses if isinstance(part, StepAware)]
        self._on_rows = [part for part in losses if isinstance(part, Indexed)]

    def epoch(self, epoch: int) -> None:
        for loss in self._on_epoch:
            loss.on_train_epoch_start(epoch)

    def step(self, global_step: int) -> None:
        for loss in self._on_step:
            loss.on_train_batch_start(global_step)

    def rows(self, rows: Tensor, y: Tensor) -> None:
        for loss in self._on_rows:
            loss.on_train_batch_rows(rows if y.ndim == 1 else _step_ids(rows, y.shape[1]))

    @property
    def at_final_weight(self) -> bool:
        return self._scheduled is None or self._scheduled.at_final_weight

    def metrics(self) -> dict[str, float]:
        """``train/ap_weight`` (1 without a schedule) and the temperature, if there is one."""
        if self._scheduled is not None:
            weight, temperature = self._scheduled.ap_weight, self._scheduled.current_temperature
        else:
            weight, temperature = 1.0, getattr(self._loss, "temperature", None)
        state = {"train/ap_weight": float(weight)}
        return state if temperature is None else state | {"train/temperature": float(temperature)}


class PoolWatch:
    """Whether the rows ranked by the loss include one of the rarest class."""

    def __init__(self, work: Work) -> None:
        loss = each(work.loss)[0]
        self._loss = loss if isinstance(loss, Pooled) else None
        self._rare_class = work.rare_class

    def has_positive(self, batch_positive: Tensor) -> Tensor:
        per_class = None if self._loss is None else self._loss.pool_has_positive
        if per_class is None:
            return batch_positive
        return per_class[0 if len(per_class) == 1 else self._rare_class]


def _step_ids(rows: Tensor, steps: int) -> Tensor:
    """The positions of the steps of sequences [B] in the flattened targets, [B · T]."""
    return (rows.unsqueeze(1) * steps + torch.arange(steps, device=rows.device)).flatten()

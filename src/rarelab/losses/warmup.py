"""Train on a plain loss first, then blend in a ranking loss and decay its temperature."""

import inspect
from collections.abc import Sequence

from torch import Tensor, nn

from rarelab.losses import schedule
from rarelab.losses.notices import Notices
from rarelab.losses.protocols import Indexed, Pooled, Queued, Sampling, Tempered
from rarelab.losses.together import together

NO_TEMPERATURE = "%s has no temperature: temp_start, temp_end, temp_decay_steps have no effect"
NO_QUEUE = "%s has no reset_queue(): reset_queue_each_epoch=True has no effect"
NO_EPOCHS = (
    "the schedule of %s does not advance: call on_train_epoch_start(epoch) before every training "
    "epoch"
)
NO_STEPS = (
    "the schedule of %s does not advance: call on_train_batch_start(global_step) before every "
    "training batch"
)


class LossWarmupWrapper(nn.Module):
    """A warmup loss, a linear blend into the main loss, and a geometric temperature decay.

        loss = (1 − w) · warmup + w · main,   w = 0 in the warmup, f·k/(B + 1) in the blend, then f
        τ(t) = temp_start · (temp_end / temp_start)^(t / temp_decay_steps)

    t counts optimiser steps from the first step of the blend (of the main phase when there is no
    blend); at that step the main loss's queue is emptied. A loss of weight 0 is not evaluated. As
    published with imbalanced-losses 0.6.0.

    Phases are counted in epochs, or in steps when ``warmup_steps`` is given; either way the
    training loop must call `on_train_epoch_start` and `on_train_batch_start`, and is warned once if
    it does not. The position, t and the temperature are part of ``state_dict``.

    Args:
        warmup_loss: called as ``(logits, targets)``. For both losses ``sample_weight`` is passed on
            if the loss declares it and refused otherwise.
        main_loss: called as ``(logits, targets, **kwargs)``. Its ``temperature`` and
            ``reset_queue()`` are used if it has them.
        warmup_epochs: epochs with only the warmup loss.
        temp_start: τ at the start of the blend.
        temp_end: τ after ``temp_decay_steps`` steps, and from then on.
        temp_decay_steps: steps between the two.
        blend_epochs: B, epochs of the blend; 0 switches at once.
        warmup_steps: the warmup in steps; excludes ``warmup_epochs``.
        blend_steps: B in steps; needs ``warmup_steps``, excludes ``blend_epochs``.
        final_main_weight: f in (0, 1], the weight after the blend; at 1 only the main loss is left.
        reset_queue_each_epoch: empty the queue at the start of every epoch after the warmup.
        gather_distributed: set on the main loss, unless None.

    Raises:
        ValueError: an argument is out of range, or epochs and steps are mixed; in a call,
            ``sample_weight`` is given but a loss in use does not accept it.
    """

    def __init__(
        self,
        warmup_loss: nn.Module,
        main_loss: nn.Module,
        warmup_epochs: int = 0,
        temp_start: float = 0.05,
        temp_end: float = 0.005,
        temp_decay_steps: int = 10_000,
        *,
        blend_epochs: int = 0,
        warmup_steps: int | None = None,
        blend_steps: int | None = None,
        final_main_weight: float = 1.0,
        reset_queue_each_epoch: bool = False,
        gather_distributed: bool | None = None,
    ) -> None:
        super().__init__()
        schedule.check_phases(warmup_epochs, blend_epochs, warmup_steps, blend_steps)
        schedule.check_values(temp_start, temp_end, temp_decay_steps, final_main_weight)
        self.warmup_loss = warmup_loss
        self.main_loss = main_loss
        self.warmup_epochs = warmup_epochs
        self.temp_start = float(temp_start)
        self.temp_end = float(temp_end)
        self.temp_decay_steps = temp_decay_steps
        self.blend_epochs = blend_epochs
        self.warmup_steps = warmup_steps
        self.blend_steps = blend_steps
        self.final_main_weight = float(final_main_weight)
        self.reset_queue_each_epoch = reset_queue_each_epoch
        if gather_distributed is not None and hasattr(main_loss, "gather_distributed"):
            main_loss.gather_distributed = gather_distributed  # pyright: ignore
        self._main_takes_weights = _declares(main_loss, "sample_weight")
        self._warmup_takes_weights = _declares(warmup_loss, "sample_weight")
        self._epoch = 0
        self._step = 0
        self._switch_step: int | None = None
        self._told_epoch = self._told_step = False
        self._notices = Notices()
        if not isinstance(main_loss, Tempered):
            self._notices.warn(NO_TEMPERATURE, self._main_name)
        if reset_queue_each_epoch and not isinstance(main_loss, Queued):
            self._notices.warn(NO_QUEUE, self._main_name)
        if not self.in_warmup:
            # Without a warmup, the switch happens at the start of training.
            self._switch_step = 0
            self._set_temperature(self.temp_start)

    @property
    def in_warmup(self) -> bool:
        """Whether only the warmup loss is used."""
        position, warmup, _ = self._phases
        return position < warmup

    @property
    def in_blend(self) -> bool:
        """Whether the main loss's weight is still rising."""
        return not self.in_warmup and not self.at_final_weight

    @property
    def ap_weight(self) -> float:
        """The main loss's current weight, from 0 to ``final_main_weight``."""
        return schedule.main_weight(*self._phases, final=self.final_main_weight)

    @property
    def main_weight(self) -> float:
        """Alias of `ap_weight`, for main losses other than average precision."""
        return self.ap_weight

    @property
    def at_final_weight(self) -> bool:
        """Whether the main loss has reached ``final_main_weight``."""
        return schedule.ramp_ended(*self._phases)

    @property
    def _phases(self) -> tuple[int, int, int]:
        """Position, length of the warmup and of the blend, in epochs or in steps."""
        if self.warmup_steps is None:
            return self._epoch, self.warmup_epochs, self.blend_epochs
        return self._step, self.warmup_steps, self.blend_steps or 0

    @property
    def current_temperature(self) -> float | None:
        """The main loss's temperature, or None when it has none."""
        return float(self.main_loss.temperature) if isinstance(self.main_loss, Tempered) else None

    @property
    def pool_has_positive(self) -> Tensor | None:
        """The main loss's ``pool_has_positive``; None in the warmup, or when it has no pool."""
        if self.in_warmup or not isinstance(self.main_loss, Pooled):
            return None
        return self.main_loss.pool_has_positive

    def on_train_epoch_start(self, epoch: int) -> None:
        """Record the epoch, counted from 0; call before its first batch."""
        self._epoch, self._told_epoch = epoch, True
        if self.reset_queue_each_epoch and not self.in_warmup:
            self.reset_queue()

    def on_train_batch_start(self, global_step: int) -> None:
        """Record the optimiser steps done so far and set the temperature accordingly.

        At the first step after the warmup, t starts at 0 and the queue is emptied.
        """
        self._step, self._told_step = global_step, True
        if self.in_warmup:
            # Restarted training goes through the switch again.
            self._switch_step = None
            return
        if self._switch_step is None:
            self._switch_step = global_step
            self.reset_queue()
        elapsed = global_step - self._switch_step
        decay = self.temp_start, self.temp_end, self.temp_decay_steps
        self._set_temperature(schedule.temperature(elapsed, *decay))

    def on_train_batch_rows(self, rows: Tensor) -> None:
        """Pass the training rows of the next call to the losses that use them."""
        for loss in (self.warmup_loss, self.main_loss):
            if isinstance(loss, Indexed):
                loss.on_train_batch_rows(rows)

    def reset_queue(self) -> None:
        """Empty the main loss's queue, if it has one."""
        if isinstance(self.main_loss, Queued):
            self.main_loss.reset_queue()

    def seed(self, seed: int) -> None:
        """Seed the main loss's random stream, if it has one."""
        if isinstance(self.main_loss, Sampling):
            self.main_loss.seed(seed)

    def forward(self, logits: Tensor, targets: Tensor, **kwargs):
        """The loss of the current phase.

        Keyword arguments that are tensors (``sample_weight``, ``iid_mask``) describe the rows and
        are passed whenever the main loss is evaluated; others may change what it returns
        (``return_per_class=True``) and are passed once ``ap_weight`` is final. Anything the main
        loss then returns besides the loss is passed through.

        Raises:
            ValueError: ``sample_weight`` is given but a loss in use does not accept it.
        """
        self._check_hooks()
        weight = self.ap_weight
        if kwargs.get("sample_weight") is None:
            kwargs.pop("sample_weight", None)
        else:
            self._check_weights(uses_warmup=weight < 1.0)
        if self.in_warmup:
            return self._warmup(logits, targets, kwargs)
        if not self.at_final_weight:
            kwargs = {name: v for name, v in kwargs.items() if isinstance(v, Tensor)}
        main = self.main_loss(logits, targets, **kwargs)
        if weight == 1.0:
            return main
        value, *rest = main if isinstance(main, tuple) else (main,)
        value = (1 - weight) * self._warmup(logits, targets, kwargs) + weight * value
        return (value, *rest) if rest else value

    def together(
        self,
        losses: Sequence["LossWarmupWrapper"],
        logits: Tensor,
        targets: Tensor,
        sample_weight: Tensor | None,
    ) -> Tensor | None:
        """See :class:`rarelab.losses.protocols.Together`; None if they are in different phases."""
        weights = [loss.ap_weight for loss in losses]
        lowest, highest = min(weights), max(weights)
        if lowest != highest and (lowest == 0.0 or highest == 1.0):
            return None
        self._check_hooks()
        if sample_weight is not None:
            self._check_weights(uses_warmup=lowest < 1.0)
        warmups, mains = [each.warmup_loss for each in losses], [each.main_loss for each in losses]
        rows = (logits, targets, sample_weight)
        if highest == 0.0:
            return together(warmups, *rows)
        main = together(mains, *rows)
        if lowest == 1.0:
            return main
        weight = lowest if lowest == highest else main.new_tensor(weights)
        return (1 - weight) * together(warmups, *rows) + weight * main

    def _warmup(self, logits: Tensor, targets: Tensor, kwargs: dict) -> Tensor:
        if "sample_weight" in kwargs:
            return self.warmup_loss(logits, targets, sample_weight=kwargs["sample_weight"])
        return self.warmup_loss(logits, targets)

    def _check_weights(self, uses_warmup: bool) -> None:
        for loss, takes, used in (
            (self.warmup_loss, self._warmup_takes_weights, uses_warmup),
            (self.main_loss, self._main_takes_weights, True),
        ):
            if used and not takes:
                raise ValueError(
                    f"sample_weight would be ignored: {type(loss).__name__} does not accept it"
                )

    def _check_hooks(self) -> None:
        """Warn if the training loop never reports the epoch or the step, where they matter."""
        if not self.training:
            return
        by_epochs = self.warmup_steps is None and self.warmup_epochs + self.blend_epochs > 0
        if not self._told_epoch and (by_epochs or self.reset_queue_each_epoch):
            self._notices.warn(NO_EPOCHS, self._main_name)
        by_steps = self.warmup_steps is not None or isinstance(self.main_loss, Tempered)
        if not self._told_step and by_steps:
            self._notices.warn(NO_STEPS, self._main_name)

    @property
    def _main_name(self) -> str:
        return type(self.main_loss).__name__

    def _set_temperature(self, value: float) -> None:
        if isinstance(self.main_loss, Tempered):
            self.main_loss.temperature = value

    def get_extra_state(self) -> dict:
        return {
            "epoch": self._epoch,
            "step": self._step,
            "switch_step": self._switch_step,
            "temperature": self.current_temperature,
        }

    def set_extra_state(self, state: dict) -> None:
        self._epoch, self._step = state["epoch"], state["step"]
        self._told_epoch = True  # training resumed within an epoch gets no further call
        self._switch_step = state["switch_step"]
        if state["temperature"] is not None:
            self._set_temperature(state["temperature"])


def constant(warmup_loss: nn.Module, main_loss: nn.Module) -> nn.Module:
    """No schedule: the main loss from the first step on, at its own temperature throughout."""
    return main_loss


def _declares(loss: nn.Module, name: str) -> bool:
    """Whether a loss accepts a keyword argument, by name or through ``**kwargs``."""
    called = loss.forward if isinstance(loss, nn.Module) else loss
    parameters = inspect.signature(called).parameters.values()
    return any(p.name == name or p.kind is p.VAR_KEYWORD for p in parameters)

"""The transition from plain to ranking loss: phases, weights, clock, queue and arguments."""

import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rarelab.losses import BinaryCrossEntropy, LossWarmupWrapper, SmoothAPLoss, constant
from rarelab.losses.protocols import EpochAware, Pooled, Queued, Sampling, Scheduled, StepAware


class Fixed(nn.Module):
    """A constant loss that records what it was called with."""

    def __init__(self, value: float, temperature: float | None = None) -> None:
        super().__init__()
        self.value, self.calls, self.resets = value, [], 0
        if temperature is not None:
            self.temperature = temperature

    def forward(
        self,
        logits: Tensor,
        targets: Tensor,
        iid_mask: Tensor | None = None,
        return_per_class: bool = False,
        *,
        sample_weight: Tensor | None = None,
    ) -> Any:
        self.calls.append((iid_mask, return_per_class, sample_weight))
        loss = self.value + 0 * logits.sum()
        return (loss, "per class", "valid") if return_per_class else loss

    def reset_queue(self) -> None:
        self.resets += 1


LOGITS, TARGETS, WEIGHT = torch.zeros(3, 1), torch.tensor([0, 1, 0]), torch.tensor([1.0, 2.0, 3.0])


def wrapped(**options: Any) -> LossWarmupWrapper:
    settings = {"temp_start": 0.5, "temp_end": 0.05, "temp_decay_steps": 10}
    return LossWarmupWrapper(Fixed(2.0), Fixed(10.0, temperature=0.7), **{**settings, **options})


def at(wrapper: LossWarmupWrapper, epoch: int, step: int) -> LossWarmupWrapper:
    wrapper.on_train_epoch_start(epoch)
    wrapper.on_train_batch_start(step)
    return wrapper


@pytest.mark.parametrize(
    ("final", "weights"), [(1.0, [0, 0, 1 / 3, 2 / 3, 1, 1]), (0.6, [0, 0, 0.2, 0.4, 0.6, 0.6])]
)
def test_the_weight_rises_by_epoch(final: float, weights: list[float]) -> None:
    wrapper = wrapped(warmup_epochs=2, blend_epochs=2, final_main_weight=final)
    for epoch, weight in enumerate(weights):
        at(wrapper, epoch, 100 * epoch)
        assert wrapper.ap_weight == wrapper.main_weight == pytest.approx(weight)
        assert wrapper(LOGITS, TARGETS).item() == pytest.approx(2 + weight * 8)
        assert wrapper.in_warmup == (epoch < 2)
        assert wrapper.in_blend == (epoch in (2, 3))
        assert wrapper.at_final_weight == (epoch > 3)


@pytest.mark.parametrize("blend", range(11))
def test_every_final_weight_is_reached_exactly_when_the_blend_ends(blend: int) -> None:
    for hundredths in range(1, 101):
        final = hundredths / 100
        wrapper = wrapped(warmup_epochs=2, blend_epochs=blend, final_main_weight=final)
        weights = []
        for epoch in range(blend + 5):
            wrapper.on_train_epoch_start(epoch)
            weights.append(wrapper.ap_weight)
            assert wrapper.in_warmup == (epoch < 2)
            assert wrapper.at_final_weight == (epoch >= 2 + blend)
        assert weights == sorted(weights)
        assert weights[:2] == [0, 0]
        assert weights[2 + blend :] == [final] * 3
        assert max(weights[: 2 + blend]) < final


def test_a_tiny_final_weight_does_not_make_the_warmup_endless() -> None:
    wrapper = wrapped(blend_epochs=2, final_main_weight=5e-324)
    at(wrapper, 0, 0)(LOGITS, TARGETS)
    assert (wrapper.in_warmup, wrapper.in_blend) == (False, True)
    assert len(wrapper.main_loss.calls) == 1


def test_the_weight_rises_by_step() -> None:
    wrapper = wrapped(warmup_steps=2, blend_steps=3)
    seen = []
    for step in range(7):
        wrapper.on_train_batch_start(step)
        seen.append((wrapper.ap_weight, wrapper.in_warmup, wrapper.in_blend))
    weights = [0, 0, 0.25, 0.5, 0.75, 1, 1]
    assert seen == [(w, w == 0, 0 < w < 1) for w in weights]


@pytest.mark.parametrize("by", ["epochs", "steps"])
def test_without_a_blend_the_switch_is_hard(by: str) -> None:
    wrapper = wrapped(**{f"warmup_{by}": 3})
    weights = [at(wrapper, moment, moment).ap_weight for moment in range(5)]
    assert weights == [0, 0, 0, 1, 1]
    assert not wrapper.in_blend


def test_the_temperature_falls_geometrically_from_the_first_blend_step() -> None:
    wrapper = wrapped(warmup_epochs=2, blend_epochs=1)
    assert at(wrapper, 1, 39).current_temperature == 0.7, "untouched in the warmup"
    for elapsed in (0, 1, 5, 10, 1000):
        temperature = at(wrapper, 2 + elapsed // 20, 40 + elapsed).current_temperature
        assert temperature == pytest.approx(0.5 * 0.1 ** min(1, elapsed / 10))
        assert wrapper.main_loss.temperature == temperature


def test_the_queue_is_emptied_once_at_the_first_blend_step() -> None:
    wrapper = wrapped(warmup_epochs=1, blend_epochs=2)
    resets = [at(wrapper, step // 2, step).main_loss.resets for step in range(8)]
    assert resets == [0, 0, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("by", ["epochs", "steps"])
def test_the_queue_can_be_emptied_every_epoch_after_the_warmup(by: str) -> None:
    length = 2 if by == "epochs" else 4
    wrapper = wrapped(**{f"warmup_{by}": length}, reset_queue_each_epoch=True)
    resets = [at(wrapper, epoch, 2 * epoch).main_loss.resets for epoch in range(5)]
    # By steps, an epoch that begins at the switch still starts before it.
    assert resets == ([0, 0, 2, 3, 4] if by == "epochs" else [0, 0, 1, 2, 3])


def test_no_warmup_starts_at_the_start_temperature() -> None:
    wrapper = wrapped()
    assert (wrapper.ap_weight, wrapper.current_temperature) == (1.0, 0.5)
    assert at(wrapper, 0, 0).current_temperature == 0.5
    assert at(wrapper, 0, 10).current_temperature == pytest.approx(0.05)


def test_a_training_run_that_starts_over_switches_again() -> None:
    wrapper = wrapped(warmup_epochs=1)
    at(at(wrapper, 0, 0), 1, 50)
    at(at(wrapper, 0, 0), 1, 30)
    assert wrapper.main_loss.resets == 2
    assert wrapper.current_temperature == 0.5


def test_the_main_loss_is_not_called_during_the_warmup() -> None:
    wrapper = wrapped(warmup_epochs=1)
    at(wrapper, 0, 0)(LOGITS, TARGETS)
    assert wrapper.main_loss.calls == []
    at(wrapper, 1, 1)(LOGITS, TARGETS)
    assert len(wrapper.main_loss.calls) == len(wrapper.warmup_loss.calls) == 1


def test_arguments_that_change_the_return_shape_wait_for_the_end_of_the_ramp() -> None:
    wrapper = wrapped(warmup_epochs=1, blend_epochs=1)
    shapes = [
        isinstance(at(wrapper, epoch, epoch)(LOGITS, TARGETS, return_per_class=True), tuple)
        for epoch in range(3)
    ]
    assert shapes == [False, False, True]


def test_a_permanent_mix_returns_the_main_losss_extra_outputs() -> None:
    wrapper = wrapped(final_main_weight=0.25)
    loss, *rest = at(wrapper, 0, 0)(LOGITS, TARGETS, return_per_class=True)
    assert loss.item() == pytest.approx(0.75 * 2 + 0.25 * 10)
    assert rest == ["per class", "valid"]


def test_row_tensors_reach_every_loss_that_is_evaluated() -> None:
    wrapper, mask = wrapped(warmup_epochs=1, blend_epochs=1), torch.tensor([True, False, True])
    for epoch in range(3):
        at(wrapper, epoch, epoch)(LOGITS, TARGETS, iid_mask=mask, sample_weight=WEIGHT)
    assert [call[2] is WEIGHT for call in wrapper.warmup_loss.calls] == [True, True]
    assert [call[2] is WEIGHT for call in wrapper.main_loss.calls] == [True, True]
    assert [call[0] is mask for call in wrapper.main_loss.calls] == [True, True]


def test_weights_that_would_be_dropped_are_refused_by_name() -> None:
    logits, targets = torch.zeros(3, 2), TARGETS
    losses = nn.CrossEntropyLoss(), SmoothAPLoss(2)
    wrapper = LossWarmupWrapper(*losses, warmup_epochs=1, blend_epochs=1)
    for epoch in range(2):
        with pytest.raises(ValueError, match="sample_weight would be ignored: CrossEntropyLoss"):
            at(wrapper, epoch, epoch)(logits, targets, sample_weight=WEIGHT)
    assert at(wrapper, 2, 2)(logits, targets, sample_weight=WEIGHT).isfinite()
    late = LossWarmupWrapper(BinaryCrossEntropy(), nn.CrossEntropyLoss(), warmup_epochs=5)
    with pytest.raises(ValueError, match="CrossEntropyLoss"):
        late(LOGITS, TARGETS, sample_weight=WEIGHT)


def test_no_weights_are_no_argument() -> None:
    wrapper = LossWarmupWrapper(nn.CrossEntropyLoss(), nn.CrossEntropyLoss(), warmup_epochs=1)
    for epoch in range(2):
        loss = at(wrapper, epoch, epoch)(torch.zeros(3, 2), TARGETS, sample_weight=None)
        assert loss.item() == pytest.approx(0.6931472)


def test_a_loss_that_forwards_keyword_arguments_takes_weights() -> None:
    class Passing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Fixed(1.0)

        def forward(self, *arguments: Any, **named: Any) -> Tensor:
            return self.inner(*arguments, **named)

    wrapper = LossWarmupWrapper(Passing(), Passing(), warmup_epochs=1)
    wrapper(LOGITS, TARGETS, sample_weight=WEIGHT)
    assert wrapper.warmup_loss.inner.calls[0][2] is WEIGHT


def test_a_main_loss_without_temperature_or_queue() -> None:
    wrapper = LossWarmupWrapper(
        nn.BCEWithLogitsLoss(), nn.SoftMarginLoss(), warmup_epochs=1, reset_queue_each_epoch=True
    )
    for epoch in range(3):
        at(wrapper, epoch, epoch)(torch.zeros(3), torch.tensor([0.0, 1.0, 0.0]))
    wrapper.seed(3)
    assert wrapper.current_temperature is None
    assert wrapper.pool_has_positive is None


def test_attributes_of_the_main_loss_are_passed_through() -> None:
    wrapper = LossWarmupWrapper(BinaryCrossEntropy(), SmoothAPLoss(1), warmup_epochs=1)
    for protocol in (EpochAware, StepAware, Queued, Scheduled, Pooled, Sampling):
        assert isinstance(wrapper, protocol)
    at(wrapper, 0, 0)(LOGITS, TARGETS)
    assert wrapper.pool_has_positive is None
    at(wrapper, 1, 1)(LOGITS, TARGETS)
    assert wrapper.pool_has_positive is not None
    assert wrapper.pool_has_positive.tolist() == [True]


@pytest.mark.parametrize(("given", "expected"), [(False, False), (True, True), (None, None)])
def test_gathering_is_decided_for_the_main_loss(given: bool | None, expected: bool | None) -> None:
    main = SmoothAPLoss(1)
    LossWarmupWrapper(BinaryCrossEntropy(), main, gather_distributed=given)
    assert main.gather_distributed is expected


def test_a_reload_mid_decay_neither_restarts_the_clock_nor_empties_the_queue() -> None:
    settings = {"warmup_epochs": 1, "blend_epochs": 2, "temp_decay_steps": 10}
    make = lambda: LossWarmupWrapper(BinaryCrossEntropy(), SmoothAPLoss(1), **settings)  # noqa: E731
    wrapper, logits = make(), torch.randn(3, 1)
    for step in range(8):
        at(wrapper, step // 4, step)(logits, TARGETS)
    resumed = make()
    resumed.load_state_dict(wrapper.state_dict())
    assert resumed.current_temperature == wrapper.current_temperature
    assert resumed.ap_weight == wrapper.ap_weight
    assert torch.equal(at(resumed, 2, 8)(logits, TARGETS), at(wrapper, 2, 8)(logits, TARGETS))
    assert len(resumed.main_loss.pool.ring) == 15
    assert resumed.current_temperature == pytest.approx(0.05 * 0.1**0.4)


def test_a_forgotten_hook_is_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    wrapper = wrapped(warmup_epochs=1)
    wrapper.on_train_epoch_start(1)
    with caplog.at_level(logging.WARNING, logger="rarelab"):
        wrapper(LOGITS, TARGETS)
        wrapper(LOGITS, TARGETS)
    assert len(caplog.records) == 1
    assert "call on_train_batch_start" in caplog.records[0].message


@pytest.mark.parametrize(
    ("options", "hooks"),
    [
        ({}, ["on_train_batch_start"]),
        ({"warmup_steps": 2}, ["on_train_batch_start"]),
        ({"warmup_epochs": 1}, ["on_train_epoch_start", "on_train_batch_start"]),
        ({"blend_epochs": 1}, ["on_train_epoch_start", "on_train_batch_start"]),
        ({"reset_queue_each_epoch": True}, ["on_train_epoch_start", "on_train_batch_start"]),
    ],
)
def test_a_loop_that_calls_no_hooks_gets_one_warning_per_hook(
    options: dict[str, Any], hooks: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    wrapper = wrapped(**options)
    wrapper.eval()(LOGITS, TARGETS)
    assert caplog.records == []
    for _ in range(3):
        wrapper.train()(LOGITS, TARGETS)
    assert len(caplog.records) == len(hooks)
    for record, hook in zip(caplog.records, hooks, strict=True):
        assert f"the schedule of Fixed does not advance: call {hook}(" in record.message


def test_a_loop_that_calls_both_hooks_gets_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    wrapper = wrapped(warmup_epochs=1, blend_epochs=1, reset_queue_each_epoch=True)
    for epoch in range(3):
        at(wrapper, epoch, epoch)(LOGITS, TARGETS)
    resumed = wrapped(warmup_epochs=1, blend_epochs=1)
    resumed.load_state_dict(wrapper.state_dict())
    resumed.on_train_batch_start(3)  # mid-epoch, so the epoch hook is not called again
    resumed(LOGITS, TARGETS)
    assert caplog.records == []


def test_settings_without_effect_on_the_main_loss_are_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    parts = nn.BCEWithLogitsLoss(), nn.SoftMarginLoss()
    LossWarmupWrapper(*parts, reset_queue_each_epoch=True)
    assert [record.message for record in caplog.records] == [
        "SoftMarginLoss has no temperature: temp_start, temp_end, temp_decay_steps have no effect",
        "SoftMarginLoss has no reset_queue(): reset_queue_each_epoch=True has no effect",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup_epochs": 1, "warmup_steps": 5}, "warmup_epochs and warmup_steps"),
        ({"warmup_steps": 5, "blend_epochs": 1}, "blend_epochs is given with warmup_steps"),
        ({"blend_steps": 5}, "blend_steps is given without warmup_steps"),
        ({"blend_steps": 5, "warmup_epochs": 1}, "blend_steps is given without warmup_steps"),
        ({"warmup_epochs": -1}, "warmup_epochs is -1"),
        ({"temp_start": 0.0}, "temp_start is 0.0"),
        ({"temp_end": -1.0}, "temp_end is -1.0"),
        ({"temp_decay_steps": 0}, "temp_decay_steps is 0"),
        ({"temp_decay_steps": None}, "temp_decay_steps is None"),
        ({"final_main_weight": 0.0}, "final_main_weight is 0.0"),
        ({"final_main_weight": 1.1}, "final_main_weight is 1.1"),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrapped(**options)


def test_a_constant_schedule_is_the_main_loss_itself() -> None:
    main = SmoothAPLoss(1, temperature=0.3)
    assert constant(BinaryCrossEntropy(), main) is main

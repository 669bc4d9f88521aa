"""The ranking losses against the published formulas, with queue, temperature unit and weights."""

import logging

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import reference
from rarelab.losses import RecallAtQuantileLoss, SmoothAPLoss
from rarelab.losses.pooled import PooledLoss

TAU, QUANTILE = 0.3, 0.2
LOSSES = {
    "ap": lambda width, **options: SmoothAPLoss(width, **{"temperature": TAU, **options}),
    "recall": lambda width, **options: RecallAtQuantileLoss(
        width, QUANTILE, **{"temperature": TAU, **options}
    ),
}
each_loss = pytest.mark.parametrize("kind", LOSSES)


def expected(kind: str, scores, positives, weights=None, tau: float = TAU) -> float:
    if kind == "ap":
        return 1 - reference.smooth_ap(scores, positives, tau, weights)
    return 1 - reference.recall_at_quantile(scores, positives, QUANTILE, tau, weights=weights)


def batch(width: int, rows: int, stream: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, labels with some ignored rows, and weights."""
    logits = torch.randn(rows, width, generator=stream, dtype=torch.float64)
    labels = torch.randint(0, max(2, width), (rows,), generator=stream)
    labels[torch.rand(rows, generator=stream) < 0.15] = -100
    return logits, labels, torch.rand(rows, generator=stream, dtype=torch.float64)


@each_loss
@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("queue_size", [0, 10, 64])
def test_values_follow_the_formula_over_several_batches(
    kind: str, width: int, weighted: bool, queue_size: int
) -> None:
    loss, stream = LOSSES[kind](width, queue_size=queue_size), torch.Generator().manual_seed(3)
    queue: list[tuple[np.ndarray, int, float]] = []
    for rows in (9, 6, 14, 8, 5):
        logits, labels, weights = batch(width, rows, stream)
        given = weights if weighted else None
        mean, per_class, valid = loss(logits, labels, return_per_class=True, sample_weight=given)
        joining = list(zip(logits.numpy(), labels.tolist(), weights.tolist(), strict=True))
        pool = [row for row in joining + queue if row[1] != -100]
        for c in range(width):
            scores = [row[0][c] for row in pool]
            positives = np.array([row[1] == (1 if width == 1 else c) for row in pool])
            w = [row[2] for row in pool] if weighted else None
            wanted = expected(kind, scores, positives, w)
            assert per_class[c].item() == pytest.approx(wanted, abs=1e-7, nan_ok=True)
            assert valid[c].item() == (not np.isnan(wanted))
        assert mean.item() == pytest.approx(per_class[valid].mean().item(), abs=1e-9)
        queue = (queue + joining)[-queue_size:] if queue_size else []


def test_the_gradient_of_smooth_ap_is_the_derivative_of_its_value() -> None:
    loss, stream = SmoothAPLoss(3, queue_size=20, temperature=TAU), torch.Generator().manual_seed(5)
    loss(*batch(3, 20, stream)[:2])
    loss.eval()
    logits, labels, weights = batch(3, 11, stream)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, labels, sample_weight=weights), (logits,))


def test_the_gradient_of_recall_treats_the_threshold_as_constant() -> None:
    stream = torch.Generator().manual_seed(5)
    (queued, old, _), (logits, labels, weights) = batch(1, 20, stream), batch(1, 11, stream)
    loss = RecallAtQuantileLoss(1, QUANTILE, temperature=TAU)
    loss(queued, old)
    logits.requires_grad_()
    (ours,) = torch.autograd.grad(loss(logits, labels, sample_weight=weights), logits)
    pool = torch.cat([logits[labels >= 0], queued[old >= 0]]).detach()
    threshold = torch.quantile(pool, 1 - QUANTILE, interpolation="higher")
    mass = weights[labels == 1].sum() + (old == 1).sum()
    soft = torch.sigmoid((logits[:, 0] - threshold) / TAU) * weights * (labels == 1)
    (wanted,) = torch.autograd.grad(-soft.sum() / mass, logits)
    torch.testing.assert_close(ours, wanted)


def test_a_second_derivative_is_refused() -> None:
    logits = torch.randn(6, requires_grad=True)
    loss = SmoothAPLoss(1)(logits, torch.tensor([0, 1, 0, 1, 0, 0]))
    (gradient,) = torch.autograd.grad(loss, logits, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivative"):
        gradient.square().sum().backward()


def test_a_sharp_temperature_gives_average_precision() -> None:
    stream = torch.Generator().manual_seed(0)
    scores = torch.randn(60, generator=stream, dtype=torch.float64)
    labels = (torch.rand(60, generator=stream) < 0.3).long()
    loss = SmoothAPLoss(1, temperature=1e-9)(scores, labels)
    exact = reference.average_precision(scores.numpy(), labels.bool().numpy())
    assert 1 - loss.item() == pytest.approx(exact, abs=1e-9)


def test_recall_and_its_threshold_by_hand() -> None:
    # The upper half of 0..3 begins at 2 ('higher' of the median 1.5); a positive on it counts half.
    loss = RecallAtQuantileLoss(1, quantile=0.5, temperature=1e-3)
    value = loss(torch.arange(4.0), torch.tensor([1, 0, 1, 1]))
    assert value.item() == pytest.approx(1 - (0 + 0.5 + 1) / 3)


@pytest.mark.parametrize(
    ("rule", "threshold"),
    [("linear", 1.4), ("lower", 1.0), ("higher", 2.0), ("nearest", 1.0), ("midpoint", 1.5)],
)
def test_every_interpolation_rule(rule: str, threshold: float) -> None:
    loss = RecallAtQuantileLoss(1, 0.3, temperature=1.0, quantile_interpolation=rule)
    value = loss(torch.arange(3.0), torch.tensor([0, 0, 1]))
    assert value.item() == pytest.approx(1 - reference.sigmoid(2 - threshold))


@each_loss
def test_degenerate_classes(kind: str) -> None:
    logits, labels = torch.randn(6, 3), torch.tensor([0, 0, 1, 1, 1, 0])
    loss, per_class, valid = LOSSES[kind](3, reduction="none")(logits, labels, None, True)
    assert valid.tolist() == [True, True, False]
    assert torch.equal(loss.isnan(), ~valid)
    assert torch.equal(per_class.isnan(), ~valid)
    mean = LOSSES[kind](3)(logits, labels)
    total = LOSSES[kind](3, reduction="sum")(logits, labels)
    torch.testing.assert_close(mean, loss[:2].mean())
    torch.testing.assert_close(total, loss[:2].sum())


@each_loss
def test_only_the_weights_of_positives_matter(kind: str) -> None:
    logits, labels = torch.randn(12), torch.tensor([0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0])
    weights = torch.rand(12)
    value = LOSSES[kind](1)(logits, labels, sample_weight=weights)
    others = torch.where(labels == 1, weights, torch.rand(12) * 9)
    assert torch.equal(LOSSES[kind](1)(logits, labels, sample_weight=others), value)
    scaled = LOSSES[kind](1)(logits, labels, sample_weight=weights * 7)
    torch.testing.assert_close(scaled, value)


@each_loss
def test_an_unweighted_batch_is_ranked_with_a_weighted_queue(kind: str) -> None:
    stream = torch.Generator().manual_seed(2)
    old, new = torch.randn(8, generator=stream), torch.randn(5, generator=stream)
    labels, weights = torch.tensor([0, 1, 0, 1, 0, 0, 1, 0]), torch.rand(8, generator=stream)
    loss = LOSSES[kind](1)
    loss(old, labels, sample_weight=weights)
    value = loss(new, labels[:5])
    pooled = torch.cat([new, old]), torch.cat([labels[:5], labels])
    whole = LOSSES[kind](1)(*pooled, sample_weight=torch.cat([torch.ones(5), weights]))
    torch.testing.assert_close(value, whole)


@each_loss
@pytest.mark.parametrize("updates", [False, True])
def test_evaluation_freezes_the_queue_by_default(kind: str, updates: bool) -> None:
    loss = LOSSES[kind](1, update_queue_in_eval=updates)
    logits, labels = torch.randn(4), torch.tensor([0, 1, 0, 1])
    loss(logits, labels)
    loss.eval()
    with torch.inference_mode():
        loss(logits, labels)
    assert len(loss.pool.ring) == (8 if updates else 4)
    loss.train()
    loss.reset_queue()
    assert len(loss.pool.ring) == 0


@each_loss
def test_only_the_batch_gets_a_gradient(kind: str) -> None:
    first, second = (torch.randn(6, requires_grad=True) for _ in range(2))
    labels = torch.tensor([0, 1, 0, 1, 0, 0])
    loss = LOSSES[kind](1, temperature=5.0)
    loss(first, labels)
    loss(second, labels).backward()
    assert first.grad is None
    assert second.grad is not None
    assert second.grad.abs().sum() > 0


@each_loss
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_in_iqr_units_the_scale_of_the_scores_has_no_effect(kind: str, scale: float) -> None:
    stream = torch.Generator().manual_seed(1)
    scores = torch.randn(40, 1, generator=stream, dtype=torch.float64)
    labels = torch.arange(40) % 3 % 2
    values = []
    for factor in (1.0, scale):
        loss = LOSSES[kind](1, temperature_unit="iqr")
        loss(scores[:20] * factor, labels[:20])
        values.append(loss(scores[20:] * factor, labels[20:]).item())
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    spread = np.subtract(*np.quantile(scores.numpy(), [0.75, 0.25]))
    # The pool puts the batch first; the formula does not depend on the order.
    wanted = expected(kind, scores.flatten().numpy(), labels.bool().numpy(), tau=TAU * spread)
    assert values[0] == pytest.approx(wanted, abs=1e-6)


@each_loss
def test_zero_spread_falls_back_to_logits_and_warns_once(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    scores, labels = torch.tensor([0.0] * 9 + [1.0]), torch.tensor([0] * 8 + [1] * 2)
    by_spread = LOSSES[kind](1, temperature_unit="iqr", queue_size=0)
    by_spread(torch.arange(10.0), labels)
    by_spread.eval()(scores, labels)
    assert caplog.records == []
    for _ in range(3):
        assert torch.equal(by_spread.train()(scores, labels), LOSSES[kind](1)(scores, labels))
    assert len(caplog.records) == 1
    assert "inter-quartile range is 0" in caplog.records[0].message


def test_iqr_units_keep_recall_from_dead_gradients() -> None:
    def dead_share(**options) -> float:
        stream, dead = torch.Generator().manual_seed(0), 0
        for _ in range(100):
            labels = (torch.rand(256, generator=stream) < 0.02).long()
            logits = torch.randn(256, generator=stream) + labels
            logits.requires_grad_()
            RecallAtQuantileLoss(1, queue_size=0, **options)(logits, labels).backward()
            assert logits.grad is not None
            dead += int(logits.grad.abs().max() < 1e-6)
        return dead / 100

    assert dead_share() > 0.6
    assert dead_share(temperature=0.1, temperature_unit="iqr") < 0.2


def test_a_capped_pool_keeps_the_rare_class(caplog: pytest.LogCaptureFixture) -> None:
    loss = SmoothAPLoss(1, queue_size=0, max_pool_size=64)
    labels = (torch.arange(1000) < 5).long()
    with caplog.at_level(logging.WARNING, logger="rarelab"):
        values = {loss(torch.randn(1000), labels).item() for _ in range(5)}
    assert len(values) == 5
    assert len(caplog.records) == 1
    assert loss.pool_has_positive is not None
    assert loss.pool_has_positive.all()


def test_a_class_missing_from_the_pool_is_reported() -> None:
    loss = SmoothAPLoss(3)
    assert loss.pool_has_positive is None
    loss(torch.randn(4, 3), torch.tensor([0, 0, 2, 2]))
    assert loss.pool_has_positive is not None
    assert loss.pool_has_positive.tolist() == [True, False, True]


@each_loss
def test_independence_marks_are_accepted_but_have_no_effect(kind: str) -> None:
    logits, labels = torch.randn(6), torch.tensor([0, 1, 0, 1, 0, 0])
    marks = torch.tensor([True, False, True, True, False, True])
    assert torch.equal(LOSSES[kind](1)(logits, labels, marks), LOSSES[kind](1)(logits, labels))
    with pytest.raises(ValueError, match=r"iid_mask has shape \[5\]"):
        LOSSES[kind](1)(logits, labels, marks[:5])


@each_loss
def test_flattened_sequences(kind: str) -> None:
    logits, labels = torch.randn(4, 5, 3), torch.randint(0, 3, (4, 5))
    labels[2, 3:] = -100
    flat = LOSSES[kind](3)(logits.view(-1, 3), labels.view(-1))
    kept = labels != -100
    torch.testing.assert_close(flat, LOSSES[kind](3)(logits[kept], labels[kept]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "num_classes is 0"),
        ({"queue_size": -1}, "queue_size is -1"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"max_pool_size": 0}, "max_pool_size is 0"),
        ({"reduction": "max"}, "reduction is 'max'"),
        ({"temperature_unit": "std"}, "temperature_unit is 'std'"),
        ({"quantile": 0.0}, "quantile is 0.0"),
        ({"quantile": 1.0}, "quantile is 1.0"),
        ({"quantile_interpolation": "cubic"}, "quantile_interpolation is 'cubic'"),
    ],
)
def test_hyperparameters_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RecallAtQuantileLoss(**{"num_classes": 1, **options})


def test_a_loss_supports_to_and_repr() -> None:
    loss: nn.Module = SmoothAPLoss(2, queue_size=8).to(torch.float64)
    assert isinstance(loss, PooledLoss)
    assert "num_classes=2, queue_size=8, reduction='mean'" in repr(loss)

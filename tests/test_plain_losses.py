"""The plain losses are torch's own, plus ignored rows and per-row weights."""

import pytest
import torch
from torch.nn import functional

from rarelab.losses import BinaryCrossEntropy, CrossEntropy, WeightedBinaryCrossEntropy, plain_loss

LOGITS = torch.tensor([[0.2, -1.0, 3.0], [1.5, 0.0, -2.0], [-0.3, 0.9, 0.1], [2.0, 2.0, 2.0]])
LABELS = torch.tensor([2, 0, 1, 1])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_binary_cross_entropy_matches_torch(reduction: str) -> None:
    scores, targets = LOGITS[:, 0], (LABELS == 1).float()
    wanted = functional.binary_cross_entropy_with_logits(scores, targets, reduction=reduction)
    torch.testing.assert_close(BinaryCrossEntropy(reduction)(scores, targets), wanted)
    heavy = functional.binary_cross_entropy_with_logits(
        scores, targets, reduction=reduction, pos_weight=torch.tensor(5.0)
    )
    torch.testing.assert_close(WeightedBinaryCrossEntropy(5.0, reduction)(scores, targets), heavy)


def test_binary_targets_may_be_fractions() -> None:
    scores, shares = LOGITS[:, 0], torch.tensor([0.1, 0.5, 1.0, 0.0])
    wanted = functional.binary_cross_entropy_with_logits(scores, shares)
    torch.testing.assert_close(BinaryCrossEntropy()(scores, shares), wanted)
    with pytest.raises(ValueError, match=r"targets hold \[2.0\], expected 0 to 1"):
        BinaryCrossEntropy()(scores, shares * 2)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_matches_torch(reduction: str, smoothing: float) -> None:
    options = {"reduction": reduction, "label_smoothing": smoothing}
    loss = CrossEntropy(3, **options)
    wanted = functional.cross_entropy(LOGITS, LABELS, **options)
    torch.testing.assert_close(loss(LOGITS, LABELS), wanted)
    labels = LABELS.where(LABELS != 2, -100)
    wanted = functional.cross_entropy(LOGITS, labels, **options)
    torch.testing.assert_close(loss(LOGITS, labels), wanted)


@pytest.mark.parametrize("make", [BinaryCrossEntropy, lambda **o: CrossEntropy(3, **o)])
def test_a_weight_of_two_equals_repeating_the_row(make) -> None:
    logits = LOGITS[:, 0] if make is BinaryCrossEntropy else LOGITS
    labels = LABELS.clamp(max=1)
    twice = [0, 1, 1, 2, 3, 3]
    weights = torch.tensor([1.0, 2.0, 1.0, 2.0])
    for reduction in ("mean", "sum"):
        loss = make(reduction=reduction)
        weighted = loss(logits, labels, sample_weight=weights)
        torch.testing.assert_close(weighted, loss(logits[twice], labels[twice]))
    rows = make(reduction="none")
    weighted = rows(logits, labels, sample_weight=weights)
    torch.testing.assert_close(weighted, rows(logits, labels) * weights)


def test_ignored_rows_carry_no_weight() -> None:
    labels = torch.tensor([1, 0, -100, 1])
    weights = torch.tensor([1.0, 2.0, 50.0, 1.0])
    kept = labels >= 0
    loss = BinaryCrossEntropy()
    torch.testing.assert_close(
        loss(LOGITS[:, 0], labels, sample_weight=weights),
        loss(LOGITS[kept, 0], labels[kept], sample_weight=weights[kept]),
    )
    assert BinaryCrossEntropy("none")(LOGITS[:, 0], labels)[2] == 0


def test_on_an_accelerator_rows_are_masked_without_synchronising() -> None:
    # The meta device has shapes but no values, so reading a value would raise.
    logits = torch.empty(4, 3, device="meta", requires_grad=True)
    labels = torch.empty(4, device="meta", dtype=torch.int64)
    for loss, scores in ((CrossEntropy(3), logits), (BinaryCrossEntropy(), logits[:, 0])):
        assert loss(scores, labels).shape == ()


def test_the_plain_loss_of_a_task() -> None:
    assert isinstance(plain_loss(1), BinaryCrossEntropy)
    assert isinstance(chosen := plain_loss(4), CrossEntropy)
    assert chosen.num_classes == 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CrossEntropy(1), "num_classes is 1"),
        (lambda: CrossEntropy(3, label_smoothing=1.0), "label_smoothing is 1.0"),
        (lambda: WeightedBinaryCrossEntropy(0.0), "pos_weight is 0.0"),
        (lambda: WeightedBinaryCrossEntropy(float("nan")), "pos_weight is nan"),
    ],
)
def test_hyperparameters_out_of_range_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()

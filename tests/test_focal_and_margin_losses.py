"""Focal, mined, adjusted and pairwise losses against the published formulas, and each other."""

import math

import imbalanced_losses
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
import score_cases
from rarelab.functional.focal import sigmoid_focal, softmax_focal
from rarelab.functional.hard_negatives import hard_negatives
from rarelab.functional.pairwise_hinge import all_pairs_squared_hinge
from rarelab.losses import (
    AllPairsSquaredHingeLoss,
    BinaryCrossEntropy,
    CrossEntropy,
    HardNegativeBinaryCrossEntropy,
    LDAMLoss,
    LogitAdjustedCrossEntropy,
    SigmoidFocalLoss,
    SoftmaxFocalLoss,
)

GAMMAS = (0.0, 0.5, 2.0)
RATES = [0.7, 0.25, 0.05]


def rows(classes: int = 3, n: int = 40, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, max(2, classes), (n,), generator=generator)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("alpha", [-1.0, 0.25])
def test_sigmoid_focal_matches_the_formula(alpha: float, gamma: float) -> None:
    logits, labels = rows(1)
    targets = (labels + torch.linspace(0, 1, 40, dtype=torch.float64)) / 2  # soft and hard targets
    for goals in (labels.double(), targets):
        found = sigmoid_focal(logits[:, 0], goals, alpha=alpha, gamma=gamma)
        pairs = zip(logits[:, 0].tolist(), goals.tolist(), strict=True)
        expected = [reference.sigmoid_focal(s, t, alpha, gamma) for s, t in pairs]
        assert found.tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("alpha", [None, [0.5, 1.0, 2.0]])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_softmax_focal_matches_the_formula(alpha, gamma: float, smoothing: float) -> None:
    logits, labels = rows()
    weights = None if alpha is None else torch.tensor(alpha)
    found = softmax_focal(logits, labels, gamma=gamma, alpha=weights, label_smoothing=smoothing)
    pairs = zip(logits.tolist(), labels.tolist(), strict=True)
    expected = [reference.softmax_focal(s, y, gamma, alpha, smoothing) for s, y in pairs]
    assert found.tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kernel", ["sigmoid", "softmax"])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_the_gradient_of_a_focal_loss_matches_finite_differences(kernel: str, gamma: float) -> None:
    logits, labels = rows(1 if kernel == "sigmoid" else 3, n=8)

    def loss(s):
        if kernel == "sigmoid":
            return sigmoid_focal(s[:, 0], labels.double(), alpha=0.3, gamma=gamma).sum()
        return softmax_focal(s, labels, gamma=gamma).sum()

    assert torch.autograd.gradcheck(loss, logits.requires_grad_())


def test_confident_correct_predictions_have_zero_loss_and_gradient_not_nan() -> None:
    for gamma in GAMMAS:
        for sign in (1, -1):
            logits = torch.tensor([[60.0], [200.0], [1e4]], requires_grad=True)
            targets = torch.tensor([[1.0], [1.0], [1.0]]) if sign > 0 else torch.zeros(3, 1)
            loss = SigmoidFocalLoss(-1, gamma)(sign * logits, targets)
            loss.backward()
            assert logits.grad is not None
            assert loss < 1e-9
            assert logits.grad.abs().max() < 1e-9


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
def test_sigmoid_focal_matches_the_published_package_on_any_shape(reduction, weighted) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(4, 3, 2, 5, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, 2, logits.shape, generator=generator).double()
    weight = torch.rand(4, 1, 2, 1, generator=generator, dtype=torch.float64) if weighted else None
    for alpha, gamma in ((0.25, 2.0), (-1, 0.0), (0.9, 1.5)):
        theirs = imbalanced_losses.SigmoidFocalLoss(alpha, gamma, reduction)
        ours = SigmoidFocalLoss(alpha, gamma, reduction)
        torch.testing.assert_close(
            ours(logits, targets, sample_weight=weight),
            theirs(logits, targets, sample_weight=weight),
        )


@pytest.mark.parametrize("reduction", ["mean", "mean_positive", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
def test_softmax_focal_matches_the_published_package_on_any_shape(
    reduction, weighted, shape
) -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(6, 4, *shape, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, 4, (6, *shape), generator=generator)
    targets[1] = -100
    weight = torch.rand(targets.shape, generator=generator, dtype=torch.float64)
    weight = weight if weighted else None
    for options in ({}, {"gamma": 0.0}, {"alpha": [0.1, 1.0, 2.0, 3.0], "background_class": 2}):
        theirs = imbalanced_losses.SoftmaxFocalLoss(reduction=reduction, **options)
        ours = SoftmaxFocalLoss(reduction=reduction, **options)
        torch.testing.assert_close(
            ours(logits, targets, sample_weight=weight),
            theirs(logits, targets, sample_weight=weight),
        )


def test_mean_positive_without_positives_divides_by_one() -> None:
    logits, _ = rows()
    background = torch.zeros(40, dtype=torch.int64)
    total = SoftmaxFocalLoss(reduction="sum")(logits, background)
    assert SoftmaxFocalLoss(reduction="mean_positive")(logits, background) == total


def test_gamma_zero_is_cross_entropy() -> None:
    logits, labels = rows()
    torch.testing.assert_close(
        SoftmaxFocalLoss(gamma=0.0)(logits, labels), CrossEntropy(3)(logits, labels)
    )
    binary = (labels == 1).long()
    torch.testing.assert_close(
        SigmoidFocalLoss(-1, 0.0)(logits[:, :1], binary),
        BinaryCrossEntropy()(logits[:, :1], binary),
    )


def test_mutually_exclusive_classes_are_referred_to_softmax_focal() -> None:
    logits, labels = rows()
    with pytest.raises(ValueError, match=r"\[40, 3\].*SoftmaxFocalLoss"):
        SigmoidFocalLoss()(logits, labels)
    with pytest.raises(ValueError, match=r"C >= 2.*SigmoidFocalLoss"):
        SoftmaxFocalLoss()(logits[:, :1], labels)
    with pytest.raises(ValueError, match="alpha has 2 weights"):
        SoftmaxFocalLoss([1.0, 2.0])(logits, labels)


@pytest.mark.parametrize("fraction", [0.1, 0.25, 1.0])
def test_hard_negative_bce_matches_the_formula(fraction: float) -> None:
    logits, labels = rows(1)
    found = HardNegativeBinaryCrossEntropy(fraction, 4.0, 3.0)(logits, labels)
    expected = reference.hard_negative_bce(
        logits[:, 0].tolist(), labels.tolist(), fraction, 4.0, 3.0
    )
    assert found.item() == pytest.approx(expected)


def test_mining_takes_the_configured_fraction_and_all_ties() -> None:
    scores = torch.arange(100.0)
    negatives = torch.ones(100, dtype=torch.bool)
    for fraction, count in ((0.07, 7), (0.01, 1), (0.001, 1), (0.29, 29), (1.0, 100)):
        assert hard_negatives(scores, negatives, fraction=fraction).sum() == count
    assert hard_negatives(scores * 0, negatives, fraction=0.01).all()
    assert not hard_negatives(scores, ~negatives, fraction=0.5).any()
    with pytest.raises(ValueError, match="fraction is 0"):
        hard_negatives(scores, negatives, fraction=0.0)


def test_a_hard_weight_of_one_is_plain_bce() -> None:
    logits, labels = rows(1)
    torch.testing.assert_close(
        HardNegativeBinaryCrossEntropy(0.1, 1.0)(logits, labels),
        BinaryCrossEntropy()(logits, labels),
    )


@pytest.mark.parametrize("tau", [0.0, 1.0, 1.7])
def test_logit_adjustment_matches_the_formula(tau: float) -> None:
    logits, labels = rows()
    found = LogitAdjustedCrossEntropy(3, [7, 2.5, 0.5], tau, "none")(logits, labels)
    pairs = list(zip(logits.tolist(), labels.tolist(), strict=True))
    expected = [reference.logit_adjusted(s, y, RATES, tau) for s, y in pairs]
    assert found.tolist() == pytest.approx(expected)
    binary = labels.clamp(max=1)
    found = LogitAdjustedCrossEntropy(1, [0.9, 0.1], tau, "none")(logits[:, :1], binary)
    scores = zip(logits[:, 0].tolist(), binary.tolist(), strict=True)
    expected = [reference.logit_adjusted([0.0, s], y, [0.9, 0.1], tau) for s, y in scores]
    assert found.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_ldam_matches_the_formula(scale: float) -> None:
    logits, labels = rows()
    counts = [700.0, 250.0, 5.0]
    found = LDAMLoss(3, counts, 0.8, scale, "none")(logits, labels)
    pairs = list(zip(logits.tolist(), labels.tolist(), strict=True))
    expected = [reference.ldam(s, y, counts, 0.8, scale) for s, y in pairs]
    assert found.tolist() == pytest.approx(expected)
    binary = labels.clamp(max=1)
    found = LDAMLoss(1, [900, 10], 0.8, scale, "none")(logits[:, :1], binary)
    scores = zip(logits[:, 0].tolist(), binary.tolist(), strict=True)
    expected = [reference.ldam([0.0, s], y, [900, 10], 0.8, scale) for s, y in scores]
    assert found.tolist() == pytest.approx(expected, abs=1e-12)


def hinge(scores, positives, margin=1.0, weights=None, live=None):
    scores = torch.as_tensor(scores).clone().requires_grad_()
    value = all_pairs_squared_hinge(scores, positives, margin=margin, weights=weights, live=live)
    (gradient,) = torch.autograd.grad(value.sum(), scores)
    return value.detach(), gradient


@settings(max_examples=60, deadline=None)
@given(score_cases.drawn(), st.sampled_from([0.1, 1.0, 5.0]), st.booleans())
def test_the_pairwise_hinge_matches_a_double_loop(case, margin: float, weighted: bool) -> None:
    scores, positives = case
    weights = np.linspace(0.5, 2.0, len(scores)) if weighted else None
    value, gradient = hinge(
        scores.astype(np.float64),
        torch.as_tensor(positives),
        margin,
        None if weights is None else torch.as_tensor(weights),
    )
    expected = reference.all_pairs_squared_hinge(scores.tolist(), positives, margin, weights)
    if math.isnan(expected):
        assert value.isnan()
        assert gradient.abs().sum() == 0
        return
    slope = reference.all_pairs_squared_hinge_gradient(scores.tolist(), positives, margin, weights)
    spread = float(np.ptp(scores)) + margin
    assert value.item() == pytest.approx(expected, rel=1e-9, abs=1e-12 * spread**2)
    assert gradient.numpy() == pytest.approx(slope, rel=1e-9, abs=1e-12 * spread)


def test_the_pairwise_hinge_takes_many_lists_and_live_rows() -> None:
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(3, 50, generator=generator)
    positives = torch.rand(3, 50, generator=generator) < 0.3
    together, gradient = hinge(scores, positives, live=20)
    for c in range(3):
        alone, single = hinge(scores[c], positives[c])
        assert together[c] == alone
        assert torch.equal(gradient[c, :20], single[:20])
    assert gradient[:, 20:].abs().sum() == 0
    out = scores.clone()
    out[:, 7] = -torch.inf
    kept = [i for i in range(50) if i != 7]
    torch.testing.assert_close(
        hinge(out, positives)[0], hinge(scores[:, kept], positives[:, kept])[0]
    )


def test_the_pairwise_hinge_of_a_large_pool_is_exact_in_single_precision() -> None:
    generator = torch.Generator().manual_seed(4)
    scores = 1000 + torch.randn(200_000, generator=generator)
    positives = torch.rand(200_000, generator=generator) < 0.001
    value, _ = hinge(scores, positives)
    gaps = 1 - (scores[positives].double()[:, None] - scores[~positives].double()[None, :])
    assert value.item() == pytest.approx(gaps.clamp_min(0).square().mean().item(), rel=1e-6)


def test_the_pairwise_hinge_bounds_the_auc() -> None:
    logits, labels = rows(1)
    won = logits[labels == 1, 0][:, None] > logits[labels == 0, 0][None, :]
    assert AllPairsSquaredHingeLoss(1)(logits, labels) > 1 - won.double().mean()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SigmoidFocalLoss(alpha=1.5), "alpha is 1.5"),
        (lambda: SigmoidFocalLoss(gamma=-1), "gamma is -1"),
        (lambda: SoftmaxFocalLoss([[1.0]]), "alpha is"),
        (lambda: SoftmaxFocalLoss([1.0, -1.0]), "alpha is"),
        (lambda: SoftmaxFocalLoss(label_smoothing=1.0), "label_smoothing is 1.0"),
        (lambda: SoftmaxFocalLoss(reduction="foo"), "mean, sum, none, mean_positive"),
        (lambda: HardNegativeBinaryCrossEntropy(0.0), "hard_fraction is 0.0"),
        (lambda: HardNegativeBinaryCrossEntropy(0.1, 0.5), "hard_weight is 0.5"),
        (lambda: LogitAdjustedCrossEntropy(3, [0.5, 0.5]), "class_priors is .* expected 3 numbers"),
        (lambda: LogitAdjustedCrossEntropy(1, [0.5, 0.5], tau=-1), "tau is -1"),
        (lambda: LDAMLoss(1, [10, 10], max_margin=0), "max_margin is 0"),
        (lambda: LDAMLoss(2, [0, 0]), "class_counts is"),
        (lambda: AllPairsSquaredHingeLoss(1, margin=0), "margin is 0"),
        (lambda: AllPairsSquaredHingeLoss(1, max_pool_size=0), "max_pool_size is 0"),
    ],
)
def test_hyperparameters_out_of_range_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()

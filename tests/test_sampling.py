"""Samplers: which rows the batches of an epoch hold, and the correction the loss gets."""

import math

import pytest
import torch
from torch import Tensor, nn

import rarelab
from rarelab.config import build
from rarelab.config.compose import compose_train
from rarelab.data.splits import Table, make_splits
from rarelab.errors import RequestError
from rarelab.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    SmoothAPLoss,
    WeightedBinaryCrossEntropy,
)
from rarelab.losses.prior import PriorCorrected, corrected
from rarelab.training import Trainer
from rarelab.training.sampling import ClassBalanced, Natural, Sampler, Stratified, row_kinds

BINARY = (torch.arange(1003) % 101 == 0).long()  # 10 positives
LONGTAIL = torch.cat([torch.full((n,), c) for c, n in enumerate((700, 200, 80, 15, 5))])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(sampler: Sampler, kinds: Tensor, size: int, seed: int = 0) -> list[Tensor]:
    order = sampler.order(kinds, size, seeded(seed))
    assert isinstance(sampler, Sampler)
    return list(order.split(size))


def test_natural_order_is_a_permutation_drawn_in_one_call() -> None:
    order = Natural().order(BINARY, 64, seeded())
    assert torch.equal(order, torch.randperm(len(BINARY), generator=seeded()))


@pytest.mark.parametrize("sampler", [Natural(), Stratified(2), ClassBalanced()])
@pytest.mark.parametrize("kinds", [BINARY, LONGTAIL], ids=["binary", "longtail"])
def test_an_epoch_keeps_its_batch_count_and_depends_only_on_the_generator(sampler, kinds) -> None:
    for size in (64, 1000, 5000):
        batches = drawn(sampler, kinds, size)
        assert len(batches) == math.ceil(len(kinds) / size)
        again, other = drawn(sampler, kinds, size), drawn(sampler, kinds, size, seed=1)
        assert all(map(torch.equal, batches, again))
        assert not all(map(torch.equal, batches, other))


@pytest.mark.parametrize("kinds", [BINARY, LONGTAIL], ids=["binary", "longtail"])
def test_every_stratified_batch_has_the_minimum_of_positives(kinds: Tensor) -> None:
    for k in (1, 3):
        for batch in drawn(Stratified(k), kinds, 50):
            counts = torch.bincount(kinds[batch], minlength=int(kinds.max()) + 1)
            assert counts[1:].min() >= k
            assert len(batch) == 50


def test_stratifying_enough_positives_uses_every_row_once() -> None:
    kinds = (torch.arange(1000) % 10 == 0).long()  # 100 positives in 20 batches
    for sampler in (Stratified(1), Stratified(5)):
        order = sampler.order(kinds, 50, seeded())
        assert torch.equal(order.sort().values, torch.arange(1000))
        assert torch.equal(sampler.expected_uses(kinds, 50), torch.ones(1000))


def test_scarce_positives_are_used_evenly() -> None:
    order = Stratified(3).order(BINARY, 50, seeded())  # 63 draws from 10 positives
    uses = torch.bincount(order, minlength=len(BINARY))[BINARY == 1]
    assert uses.sum() == 63
    assert uses.max() - uses.min() <= 1


def test_position_in_a_stratified_batch_does_not_reveal_the_class() -> None:
    places = torch.zeros(50)
    for seed in range(40):
        for batch in drawn(Stratified(5), BINARY, 50, seed):
            places += BINARY[batch]
    assert places.min() > 0.5 * places.mean()


@pytest.mark.parametrize("kinds", [BINARY, LONGTAIL], ids=["binary", "longtail"])
def test_balanced_batches_hold_every_class_equally(kinds: Tensor) -> None:
    classes = int(kinds.max()) + 1
    for batch in drawn(ClassBalanced(), kinds, 52):
        counts = torch.bincount(kinds[batch], minlength=classes)
        assert (counts - 52 / classes).abs().max() < 2


@pytest.mark.parametrize("sampler", [Natural(), Stratified(2), Stratified(3), ClassBalanced()])
@pytest.mark.parametrize("kinds", [BINARY, LONGTAIL], ids=["binary", "longtail"])
def test_expected_uses_match_the_average_over_draws(sampler, kinds) -> None:
    epochs, classes = 200, int(kinds.max()) + 1
    total = torch.zeros(classes)
    for seed in range(epochs):
        total += torch.bincount(kinds[sampler.order(kinds, 64, seeded(seed))], minlength=classes)
    expected = torch.bincount(kinds, weights=sampler.expected_uses(kinds, 64)).float()
    torch.testing.assert_close(total / epochs, expected, rtol=0.02, atol=0.2)


def test_too_many_positives_for_a_batch_are_refused() -> None:
    with pytest.raises(RequestError, match=r"sampler\.min_positives=13: 4 classes .* 50 rows"):
        Stratified(13).order(LONGTAIL, 50, seeded())
    with pytest.raises(ValueError, match="min_positives is 0"):
        Stratified(0)


def test_a_sequence_counts_as_the_class_of_its_rarest_step() -> None:
    y = torch.tensor([[0, 0, 1, -100], [0, 0, 0, 0], [2, 0, 1, 1], [-100, -100, -100, -100]])
    assert row_kinds(y).tolist() == [1, 0, 2, 0]
    assert torch.equal(row_kinds(BINARY), BINARY)


def test_the_correction_recovers_the_natural_rate_from_balanced_batches() -> None:
    # Fit a constant score to batches with 50 % positives, where the natural rate is 2 %.
    shift = torch.tensor([0.5 / 0.5]).log() - torch.tensor([0.02 / 0.98]).log()
    for loss, width in ((BinaryCrossEntropy(), 1), (CrossEntropy(2), 2)):
        by_class = shift if width == 1 else torch.tensor([0.5 / 0.98, 0.5 / 0.02]).log()
        fitted = corrected(loss, by_class)
        assert isinstance(fitted, PriorCorrected)
        score = torch.zeros(width, requires_grad=True)
        optimizer = torch.optim.LBFGS([score], max_iter=100, line_search_fn="strong_wolfe")

        def closure(score=score, fitted=fitted, optimizer=optimizer, width=width):
            optimizer.zero_grad()
            value = fitted(score.expand(2, width), torch.tensor([0, 1]))
            value.backward()
            return value

        optimizer.step(closure)
        log_odds = score[0] if width == 1 else score[1] - score[0]
        assert torch.sigmoid(log_odds).item() == pytest.approx(0.02, rel=1e-3)


def test_only_likelihood_losses_are_corrected() -> None:
    shift = torch.tensor([1.0])
    for loss in (WeightedBinaryCrossEntropy(3.0), SmoothAPLoss(1), nn.BCEWithLogitsLoss()):
        assert corrected(loss, shift) is loss
    assert corrected(plain := BinaryCrossEntropy(), None) is plain
    assert corrected(plain, shift).needs_warmup is False


def sizes(sampler: Sampler, y: Tensor, batch_size: int = 50) -> build.Sizes:
    table = Table(torch.zeros(*y.shape, 2), y)
    names = [str(c) for c in range(int(y.max()) + 1)]
    splits = make_splits(table, table, table, classes=names, features=["a", "b"], name="t")
    return build.Sizes(splits, Trainer(batch_size=batch_size), sampler)


def test_the_builder_knows_the_class_rates_in_batches() -> None:
    assert sizes(Natural(), BINARY).prior_shift() is None
    assert sizes(Stratified(1), LONGTAIL[:950]).prior_shift() is None
    shift = sizes(ClassBalanced(), BINARY).prior_shift()
    assert shift is not None
    assert shift.item() == pytest.approx(math.log(993 / 10))
    assert sizes(ClassBalanced(), BINARY).facts()["pos_weight"] == pytest.approx(1.0)
    assert sizes(Natural(), BINARY).facts()["pos_weight"] == pytest.approx(99.3)
    steps = torch.zeros(200, 4, dtype=torch.int64)
    steps[:10, 1], steps[:, 3] = 1, -100  # 10 of 200 sequences have one positive step of 3
    shift = sizes(ClassBalanced(), steps).prior_shift()
    assert shift is not None
    assert shift.item() == pytest.approx(math.log((1 / 5) / (10 / 590)))


SMALL = ["dataset.n_samples=2000", "dataset.pos_rate=0.01", "trainer.max_epochs=4"]
SMALL += ["trainer.batch_size=64", "trainer.select=any", "tracking=none"]
SMALL += ["tracking.figures=false"]


def test_a_balanced_run_is_calibrated_where_the_loss_is_a_likelihood(capsys) -> None:
    balanced = rarelab.train([*SMALL, "loss=bce", "sampler=class_balanced"])
    assert "at 50 % instead of 1 %; the loss is corrected" in capsys.readouterr().out
    weighted = rarelab.train([*SMALL, "loss=weighted_bce"])
    assert "use sampler=stratified" in capsys.readouterr().out
    assert balanced.metrics["test/ece"] < 0.05 < weighted.metrics["test/ece"]


def test_a_stratified_run_has_a_positive_in_every_batch(capsys) -> None:
    done = rarelab.train([*SMALL, "schedule.warmup_epochs=1", "sampler=stratified"])
    assert done.metrics["train/no_positive_batch_frac"] == 0.0
    assert "SmoothAPLoss is not a likelihood and is not corrected" in capsys.readouterr().out


def test_an_estimator_has_no_batches_to_sample() -> None:
    with pytest.raises(RequestError, match="fits all rows at once"):
        rarelab.train(["model=hist_gradient_boosting", "sampler=stratified"])
    with pytest.raises(RequestError, match=r"sampler\.min_positives=600"):
        rarelab.train(["sampler=stratified", "sampler.min_positives=600"])
    cfg, _ = compose_train(["sampler=stratified", "sampler.min_positives=2"])
    assert build.sampler(cfg) == Stratified(2)

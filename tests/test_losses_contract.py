"""The contract that every loss keeps."""

import copy
import io
import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cases import CASES, Case, covered, public_losses

IGNORED = -100
pytestmark = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def run(loss: nn.Module, logits: Tensor, targets: Tensor, **arguments) -> tuple[Tensor, Tensor]:
    """The loss on a copy of the logits, and its gradient."""
    leaf = logits.detach().clone().requires_grad_()
    value = loss(leaf, targets, **arguments)
    value.sum().backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


def reduced(case: Case) -> list[nn.Module]:
    """The case's loss under every reduction to a scalar."""
    if not case.reduces:
        return [case.make()]
    return [case.make(reduction=reduction) for reduction in ("mean", "sum")]


def assert_attached_zero(value: Tensor, gradient: Tensor) -> None:
    assert value.item() == 0.0
    assert gradient.abs().sum() == 0.0


def test_permuting_rows_permutes_the_gradient(case: Case) -> None:
    logits, targets = case.batch()
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(1))
    value, gradient = run(case.make(), logits, targets)
    permuted, permuted_gradient = run(case.make(), logits[order], targets[order])
    torch.testing.assert_close(permuted, value)
    torch.testing.assert_close(permuted_gradient, gradient[order])


def test_shifting_all_scores_changes_nothing(case: Case) -> None:
    logits, targets = case.batch()
    value, gradient = run(case.make(), logits.double(), targets)
    shifted, shifted_gradient = run(case.make(), logits.double() + 3.5, targets)
    same = torch.allclose(shifted, value) and torch.allclose(shifted_gradient, gradient)
    assert same == case.shift_invariant


@pytest.mark.parametrize("garbage", [7.0, float("nan"), float("inf")])
def test_ignored_rows_have_no_effect(case: Case, garbage: float) -> None:
    logits, targets = case.batch()
    value, gradient = run(case.make(), logits, targets)
    junk = torch.full((5, case.width), garbage)
    padded = torch.cat([junk, logits.detach(), junk])
    ignored = torch.full((5,), IGNORED)
    with_junk, padded_gradient = run(case.make(), padded, torch.cat([ignored, targets, ignored]))
    torch.testing.assert_close(with_junk, value)
    torch.testing.assert_close(padded_gradient[5:-5], gradient)
    assert padded_gradient[:5].abs().sum() == padded_gradient[-5:].abs().sum() == 0


def test_ignore_index_may_be_a_class(case: Case) -> None:
    logits, targets = case.batch()
    if case.fixed_ignore_index:
        with pytest.raises(TypeError, match="ignore_index"):
            type(case.make())(ignore_index=1)
        return
    kept = targets != 1
    value, _ = run(case.make(), logits[kept], targets[kept])
    ignoring, gradient = run(case.make(ignore_index=1), logits, targets)
    torch.testing.assert_close(ignoring, value)
    assert gradient[~kept].abs().sum() == 0


def test_all_positive(case: Case) -> None:
    logits, targets = case.batch()
    value, gradient = run(case.make(), logits, torch.ones_like(targets))
    assert gradient.isfinite().all()
    if case.needs_negative:
        assert_attached_zero(value, gradient)
    else:
        assert value > 0


def test_no_positive(case: Case) -> None:
    logits, targets = case.batch()
    if case.width > 1:
        targets = torch.full_like(targets, IGNORED)
    value, gradient = run(
        case.make(), logits, torch.zeros_like(targets).where(targets >= 0, targets)
    )
    assert gradient.isfinite().all()
    if case.needs_positive or case.width > 1:
        assert_attached_zero(value, gradient)
    else:
        assert value > 0


@pytest.mark.parametrize("target", [0, 1])
def test_one_row(case: Case, target: int) -> None:
    value, gradient = run(case.make(), torch.full((1, case.width), 0.3), torch.tensor([target]))
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    assert gradient.shape == (1, case.width)


@pytest.mark.parametrize("rows", [0, 4])
def test_an_empty_batch_gives_zero_attached_to_the_graph(case: Case, rows: int) -> None:
    targets = torch.full((rows,), IGNORED)
    for loss in reduced(case):
        assert_attached_zero(*run(loss, torch.randn(rows, case.width), targets))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("labels", ["mixed", "positive", "negative"])
def test_a_non_finite_row_shows_in_the_loss(case: Case, labels: str, bad: float) -> None:
    logits, targets = case.batch()
    targets = {"mixed": targets, "positive": targets * 0 + 1, "negative": targets * 0}[labels]
    spoiled = logits.detach().clone()
    spoiled[3:5] = bad
    for loss in reduced(case):
        value, gradient = run(loss, spoiled, targets)
        assert not value.isfinite()
        if case.pooled:
            assert value.isnan()
            assert gradient.isnan().all(), "a gradient scaler must see it"
    # The two losses of a schedule reduce over different dimensions.
    if case.reduces and covered(case) != "LossWarmupWrapper":
        assert not case.make(reduction="none")(spoiled, targets).isfinite().all()


def test_a_non_finite_row_does_not_enter_the_queue(case: Case) -> None:
    before, after = case.batch(seed=1), case.batch(seed=2)
    clean, spoiled = case.make(), case.make()
    for loss in (clean, spoiled):
        run(loss, *before)
    for bad in (float("nan"), float("inf"), float("-inf")):
        logits, targets = case.batch()
        assert not run(spoiled, torch.full_like(logits, bad), targets)[0].isfinite()
    for expected, found in zip(run(clean, *after), run(spoiled, *after), strict=True):
        assert torch.equal(expected, found)


def test_a_non_finite_logit_affects_only_its_class(case: Case) -> None:
    if not case.pooled or case.width == 1:
        return  # other losses are not one-vs-rest
    logits, targets = case.batch()
    spoiled = logits.detach().clone()
    spoiled[3, 1] = float("inf")
    loss, clean = case.make(), case.make()(logits, targets, return_per_class=True)[1]
    value, classes, valid = loss(spoiled, targets, return_per_class=True)
    assert value.isnan()
    assert valid.tolist() == [True, False, True]
    assert torch.equal(classes[valid], clean[valid])
    assert loss.pool.ring.scores.isfinite().all()
    assert len(loss.pool.ring) == len(targets) - 1


@pytest.mark.parametrize("scale", [1e4, 1e-8])
@pytest.mark.parametrize("right", [True, False])
def test_extreme_scores(case: Case, scale: float, right: bool) -> None:
    _, targets = case.batch()
    classes = torch.arange(case.width) if case.width > 1 else torch.ones(1, dtype=torch.int64)
    logits = torch.where((targets.unsqueeze(1) == classes) == right, scale, -scale)
    value, gradient = run(case.make(), logits, targets)
    assert value.isfinite()
    assert value >= 0 or case.signed
    assert gradient.isfinite().all()


def test_float64_is_preserved(case: Case) -> None:
    logits, targets = case.batch()
    single, _ = run(case.make(), logits, targets)
    double, gradient = run(case.make(), logits.double(), targets)
    assert double.dtype == gradient.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(case: Case, dtype: torch.dtype) -> None:
    logits, targets = case.batch()
    rounded = logits.detach().to(dtype)
    value, gradient = run(case.make(), rounded, targets)
    expected, expected_gradient = run(case.make(), rounded.float(), targets)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    torch.testing.assert_close(gradient, expected_gradient.to(dtype))


def test_autocast_changes_nothing(case: Case) -> None:
    logits, targets = case.batch()
    expected, expected_gradient = run(case.make(), logits, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, gradient = run(case.make(), logits, targets)
    assert torch.equal(value, expected)
    assert torch.equal(gradient, expected_gradient)


def test_no_global_state_is_touched(case: Case) -> None:
    def state() -> tuple:
        return (
            torch.get_rng_state().tolist(),
            random.getstate(),
            np.random.get_state()[1].tolist(),  # type: ignore[index]
            torch.is_grad_enabled(),
            torch.get_default_dtype(),
            torch.get_num_threads(),
        )

    before, loss = state(), case.make()
    for seed in range(4):
        logits, targets = case.batch(seed=seed)
        copies = logits.detach().clone(), targets.clone()
        run(loss, logits, targets)
        assert torch.equal(logits, copies[0])
        assert torch.equal(targets, copies[1])
    assert state() == before


def test_reductions_agree(case: Case) -> None:
    logits, targets = case.batch()
    if not case.reduces:
        with pytest.raises(TypeError, match="reduction"):
            case.make(reduction="mean")
        return
    if covered(case) == "LossWarmupWrapper":
        case = CASES[0]  # its two losses reduce over different dimensions: rows and classes
    none, mean, total = (
        case.make(reduction=reduction)(logits, targets) for reduction in ("none", "mean", "sum")
    )
    expected = ((case.width,),) if case.pooled else (targets.shape, logits.shape)
    assert none.shape in expected
    torch.testing.assert_close(none.sum(), total)
    torch.testing.assert_close(none.mean(), mean)
    with pytest.raises(ValueError, match=r"'foo'.*mean, sum, none"):
        case.make(reduction="foo")


@pytest.mark.parametrize(
    "dtype", [torch.int32, torch.uint8, torch.float32, torch.float64, torch.bool]
)
def test_targets_of_any_dtype_and_both_shapes(case: Case, dtype: torch.dtype) -> None:
    logits, targets = case.batch()
    if dtype == torch.bool:
        targets = targets.clamp(max=1)
    value, gradient = run(case.make(), logits, targets)
    for given in (targets.to(dtype), targets.to(dtype).unsqueeze(1)):
        other, other_gradient = run(case.make(), logits, given)
        assert torch.equal(other, value)
        assert torch.equal(other_gradient, gradient)


def test_flat_logits_for_a_single_column(case: Case) -> None:
    logits, targets = case.batch()
    flat = logits.detach().flatten()
    if case.width > 1:
        with pytest.raises(ValueError, match=r"logits have shape \[72\], expected \[N, [3C]\]"):
            case.make()(flat, targets)
        return
    value, gradient = run(case.make(), logits, targets)
    other, other_gradient = run(case.make(), flat, targets)
    assert torch.equal(other, value)
    assert torch.equal(other_gradient, gradient.flatten())


@pytest.mark.parametrize("bad", [-1, 3, 0.5, float("nan")])
def test_a_target_that_is_not_a_class_is_refused(case: Case, bad: float) -> None:
    logits, targets = case.batch()
    given = targets.to(torch.tensor(bad).dtype)
    given[2] = bad
    if bad == 0.5 and case.soft_targets:
        assert case.make()(logits, given).isfinite()
    else:
        with pytest.raises(ValueError, match=r"targets hold \[.*expected.*ignore_index -100"):
            case.make()(logits, given)


def test_mismatched_shapes_are_refused(case: Case) -> None:
    logits, targets = case.batch()
    with pytest.raises(ValueError, match=r"targets has shape \[23\], expected \[24\]"):
        case.make()(logits, targets[:-1])
    if not case.any_width:
        with pytest.raises(ValueError, match="logits have shape"):
            case.make()(torch.randn(24, 5), targets)
    with pytest.raises(ValueError, match=r"int64.*floating"):
        case.make()(logits.detach().long(), targets)


def test_equal_weights_change_nothing(case: Case) -> None:
    logits, targets = case.batch()
    if not case.takes_weights:
        with pytest.raises(TypeError, match="sample_weight"):
            case.make()(logits, targets, sample_weight=torch.ones(len(targets)))
        return
    value, gradient = run(case.make(), logits, targets)
    for weight in (torch.ones(len(targets)), torch.full((len(targets), 1), 2.5)):
        other, other_gradient = run(case.make(), logits, targets, sample_weight=weight)
        torch.testing.assert_close(other, value)
        torch.testing.assert_close(other_gradient, gradient)


def test_all_zero_weights_give_zero(case: Case) -> None:
    if not case.takes_weights:
        return
    logits, targets = case.batch()
    outcome = run(case.make(), logits, targets, sample_weight=torch.zeros(len(targets)))
    assert_attached_zero(*outcome)


@pytest.mark.parametrize("bad", [-0.5, float("nan"), float("inf")])
def test_bad_weights_are_refused(case: Case, bad: float) -> None:
    if not case.takes_weights:
        return
    logits, targets = case.batch()
    weight = torch.ones(len(targets))
    weight[4] = bad
    with pytest.raises(ValueError, match="sample_weight spans"):
        case.make()(logits, targets, sample_weight=weight)
    with pytest.raises(ValueError, match=r"sample_weight has shape \[3\], expected \[24\]"):
        case.make()(logits, targets, sample_weight=torch.ones(3))


@pytest.mark.parametrize("weighted", [False, True])
def test_a_reloaded_loss_continues_exactly(case: Case, weighted: bool) -> None:
    weights = weighted and case.takes_weights

    def steps(loss: nn.Module, seeds: range) -> list[Tensor]:
        values = []
        for seed in seeds:
            logits, targets = case.batch(seed=seed)
            targets = targets.where(torch.arange(24) != seed, IGNORED)
            weight = {"sample_weight": torch.arange(24) % 3 + 1.0} if weights else {}
            values.append(run(loss, logits.double(), targets, **weight)[0])
        return values

    loss = case.make()
    steps(loss, range(4))
    stored = io.BytesIO()
    torch.save(loss.state_dict(), stored)
    stored.seek(0)
    reloaded = case.make()
    reloaded.load_state_dict(torch.load(stored, weights_only=True))
    twin = copy.deepcopy(loss)
    expected = steps(loss, range(4, 8))
    assert steps(reloaded, range(4, 8)) == expected
    assert steps(twin, range(4, 8)) == expected


def test_every_public_loss_has_a_case(case: Case) -> None:
    assert covered(case) in public_losses()
    assert {covered(each) for each in CASES} == public_losses()

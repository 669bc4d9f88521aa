"""The ranking kernels against the published formulas, on every path."""

import inspect
import re
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from torch.utils._python_dispatch import TorchDispatchMode

import reference
import score_cases
from rarelab import functional, losses
from rarelab.functional import cells, choose, dense, ranking, window
from rarelab.functional.band import band
from rarelab.functional.once import apply_once
from rarelab.functional.pairwise_hinge import all_pairs_squared_hinge
from rarelab.functional.pauc import pauc_at_budget, sigmoid, sigmoid_slope
from rarelab.functional.recall import recall_at_quantile
from rarelab.functional.smooth_ap import PATHS, smooth_ap
from rarelab.functional.threads import ALONE, limited_threads

WAYS = ("dense", "grid", "window")
TAUS = (1e-3, 0.01, 0.5, 10.0)


def _with_gradient(kernel, scores, *arguments, **options):
    scores = torch.as_tensor(scores).clone().requires_grad_()
    value = kernel(scores, *arguments, **options)
    (gradient,) = torch.autograd.grad(value.sum(), scores)
    return value.detach(), gradient


def _assert_smooth_ap(scores, positives, tau, path, weights=None, chunk=1 << 18):
    """Check one list, by itself and in a batch of lists, to the documented tolerance."""
    exact = scores.astype(float)
    value = reference.smooth_ap(exact, positives, tau, weights)
    slope = reference.smooth_ap_gradient(exact, positives, tau, weights)
    allowed = 1e-5 * np.abs(slope).max() + 1e-12 / tau
    x, marks = torch.as_tensor(scores), torch.as_tensor(positives)
    options = {"tau": tau, "path": path, "chunk": chunk}
    if weights is not None:
        options["weights"] = torch.as_tensor(weights)
    for batch in (x, torch.stack((x.flip(0), x, x / 2))):
        marked = marks if batch.dim() == 1 else torch.stack((marks.flip(0), marks, marks))
        found, gradient = _with_gradient(smooth_ap, batch, marked, **options)
        if batch.dim() == 2:
            found, gradient = found[1], gradient[1]
        assert abs(float(found) - value) <= 1e-6
        assert np.abs(gradient.numpy() - slope).max() <= allowed


@pytest.mark.parametrize("path", WAYS)
@pytest.mark.parametrize(("scores", "positives"), score_cases.ALL)
def test_smooth_ap_matches_the_formula(scores: str, positives: str, path: str) -> None:
    for seed, tau in enumerate(TAUS):
        _assert_smooth_ap(*score_cases.case(scores, positives, n=32, seed=seed), tau, path)


@settings(max_examples=60, deadline=None)
@given(score_cases.drawn(), st.sampled_from(WAYS), st.floats(-3, 2), st.booleans(), st.booleans())
def test_smooth_ap_matches_the_formula_on_random_draws(
    case, path, exponent, double, weighted
) -> None:
    scores, positives = case
    scores = scores.astype(np.float64 if double else np.float32)
    weights = np.linspace(0.5, 2.0, len(scores)) if weighted else None
    _assert_smooth_ap(scores, positives, 10.0**exponent, path, weights, chunk=100)


@pytest.mark.parametrize("path", WAYS)
@pytest.mark.parametrize("classes", [1, 7])
def test_large_pools_agree_with_all_pairs(path: str, classes: int) -> None:
    """Large enough for points to share cells and tiles; half of the points are a queue."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(classes, 3000, generator=generator)
    positives = (
        torch.rand(classes, 3000, generator=generator) < torch.linspace(0.3, 0.01, classes)[:, None]
    )
    tau = torch.linspace(0.01, 0.3, classes)
    value, gradient = _with_gradient(smooth_ap, scores, positives, tau=tau, live=1500, path=path)
    for c in range(classes):
        exact, slope = _with_gradient(_plain, scores[c].double(), positives[c], float(tau[c]))
        assert abs(value[c] - exact) < 1e-6
        assert (gradient[c, :1500] - slope[:1500]).abs().max() < 1e-5 * slope.abs().max()
    assert not gradient[:, 1500:].any()


def _plain(scores, positives, tau):
    """Smooth-AP over all pairs, differentiated by torch's autograd."""
    step = torch.sigmoid((scores[None] - scores[positives][:, None]) / tau)
    return ((step[:, positives].sum(1) + 0.5) / (step.sum(1) + 0.5)).mean()


@pytest.mark.parametrize(
    "kernel",
    [
        *(partial(smooth_ap, tau=0.3, path=path) for path in WAYS),
        partial(recall_at_quantile, quantile=0.2, tau=0.3),
        partial(pauc_at_budget, beta=0.3),
        partial(pauc_at_budget, beta=0.3, surrogate="pairwise"),
        all_pairs_squared_hinge,
    ],
)
@pytest.mark.parametrize("lists", [(), (1,), (2, 2)])
def test_a_batch_ahead_of_a_queue_gets_the_gradient_of_its_columns(kernel, lists) -> None:
    """``live`` is a column count, or a tensor whose detached copy comes first in the scores."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(*lists, 60, generator=generator)
    positives = torch.rand(*lists, 60, generator=generator) < 0.3
    value, gradient = _with_gradient(kernel, scores, positives)
    counted, first = _with_gradient(kernel, scores, positives, live=20)
    assert torch.equal(counted, value) and not first[..., 20:].any()
    assert torch.allclose(first[..., :20], gradient[..., :20], rtol=1e-5, atol=1e-9)
    batch = scores[..., :20].clone().requires_grad_()
    attached = kernel(scores, positives, live=batch)
    (own,) = torch.autograd.grad(attached.sum(), batch)
    assert torch.equal(attached, value) and torch.equal(own, first[..., :20])
    assert not kernel(scores, positives, live=batch.detach()).requires_grad


class _Largest(TorchDispatchMode):
    """Records the size of the largest tensor created inside the context, in elements."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for each in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(each, torch.Tensor):
                self.elements = max(self.elements, each.untyped_storage().nbytes() // 4)
        return made


@pytest.mark.parametrize("path", WAYS)
@pytest.mark.parametrize("lists", [1, 3])
def test_no_tensor_outgrows_the_chunk_and_the_pool(path: str, lists: int) -> None:
    """16 M pairs per list; no tensor comes anywhere near that size."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(lists, 16_000, generator=generator)
    positives = torch.rand(lists, 16_000, generator=generator) < 1 / 16
    scores.requires_grad_()
    with _Largest() as seen:
        smooth_ap(scores, positives, tau=0.01, path=path, chunk=1 << 16).sum().backward()
    assert seen.elements < 2 * (1 << 16) + 16 * scores.numel()


def test_long_grids_with_gaps_and_outliers() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 600, generator=generator)
    scores[:, :4] = torch.tensor([1e30, -1e30, 1e6, -1e6])
    scores[1] += 3e5
    positives = torch.rand(2, 600, generator=generator) < 0.1
    results = [_with_gradient(smooth_ap, scores, positives, tau=0.01, path=p) for p in WAYS]
    for value, gradient in results[1:]:
        assert (value - results[0][0]).abs().max() < 1e-6
        assert (gradient - results[0][1]).abs().max() < 1e-5 * gradient.abs().max()


@pytest.mark.parametrize("path", WAYS)
def test_as_tau_vanishes_smooth_ap_becomes_average_precision(path: str) -> None:
    rng = np.random.default_rng(0)
    scores = rng.permutation(400) / 7.0
    positives = rng.random(400) < 0.1
    soft = smooth_ap(torch.tensor(scores), torch.tensor(positives), tau=1e-3, path=path)
    exact = average_precision_score(positives, scores)
    assert abs(float(soft) - exact) < 1e-6
    assert abs(reference.average_precision(scores, positives) - exact) < 1e-12


@pytest.mark.parametrize("path", ["dense", "window"])
@pytest.mark.parametrize("lists", [1, 3])
def test_gradcheck(path: str, lists: int) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(lists, 12, dtype=torch.float64, generator=generator).requires_grad_()
    positives = torch.rand(lists, 12, generator=generator) < 0.3
    positives[:, :2] = torch.tensor([True, False])
    weights = torch.rand(12, generator=generator)
    assert torch.autograd.gradcheck(
        lambda s: smooth_ap(s, positives, tau=0.3, weights=weights, path=path), scores
    )


@pytest.mark.parametrize("path", WAYS)
def test_excluded_points_have_no_effect(path: str) -> None:
    scores, positives = map(torch.as_tensor, score_cases.case("random", "some"))
    out = torch.zeros(48, dtype=torch.bool)
    out[[3, 20, 40]] = out[positives.nonzero()[0]] = True
    padded = torch.stack((scores.masked_fill(out, -torch.inf), scores))
    value, gradient = _with_gradient(
        smooth_ap, padded, torch.stack((positives,) * 2), tau=0.1, path=path
    )
    alone, slope = _with_gradient(smooth_ap, scores[~out], positives[~out], tau=0.1, path=path)
    single = smooth_ap(padded[0], positives, tau=0.1, path=path)
    assert torch.allclose(value[0], alone) and torch.allclose(single, alone)
    assert torch.allclose(gradient[0, ~out], slope, atol=1e-6)
    assert not gradient[0, out].any()


def _degenerate():
    marks = torch.tensor([[True] * 4, [False] * 4, [True, False, False, False]])
    scores = torch.tensor([[1.0, 2.0, 3.0, 4.0]]).repeat(3, 1)
    scores[2, 1:] = -torch.inf
    return scores, marks


@pytest.mark.parametrize("path", PATHS)
def test_nothing_to_rank_is_nan_without_gradient(path: str) -> None:
    scores, marks = _degenerate()
    value, gradient = _with_gradient(smooth_ap, scores, marks, tau=0.1, path=path)
    assert value.isnan().all() and not gradient.any()
    for row, mark in zip(scores, marks, strict=True):
        value, gradient = _with_gradient(smooth_ap, row, mark, tau=0.1, path=path)
        assert value.isnan() and not gradient.any()
    some = torch.tensor([True, False, False, True])
    for options in ({"weights": torch.zeros(4)}, {"tau": torch.tensor(0.0)}):
        options = {"tau": 0.1, "path": path} | options
        value, gradient = _with_gradient(smooth_ap, scores[0], some, **options)
        assert value.isnan() and not gradient.any()
    assert smooth_ap(torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool), tau=1.0).isnan().all()


@pytest.mark.parametrize("path", PATHS)
def test_a_nan_score_shows_up_in_its_list_only(path: str) -> None:
    scores = torch.tensor([[0.5, -1.0, 2.0], [0.5, torch.nan, 3.0]])
    positives = torch.tensor([[True, False, False]] * 2)
    assert smooth_ap(scores, positives, tau=0.1, path=path).isnan().tolist() == [False, True]
    assert smooth_ap(scores[1], positives[1], tau=0.1, path=path).isnan()
    recall = recall_at_quantile(scores, positives, quantile=0.3, tau=0.1)
    assert recall.isnan().tolist() == [False, True]
    for surrogate in ("trapezoid", "pairwise"):
        many, marks = scores.repeat(1, 9), positives.repeat(1, 9)
        pauc = pauc_at_budget(many, marks, beta=0.9, surrogate=surrogate)
        assert pauc.isnan().tolist() == [False, True]


def test_the_chosen_path_changes_the_result_by_no_more_than_the_tolerance(monkeypatch) -> None:
    """Sizes at which "auto" picks each path in turn."""
    generator = torch.Generator().manual_seed(0)
    taken = []
    for name in ("Grid", "Window"):
        kind = getattr(choose, name)
        monkeypatch.setattr(
            choose,
            name,
            lambda *a, kind=kind, **k: taken.append((kind.__name__, k)) or kind(*a, **k),
        )
    for points, spread in ((500, 1.0), (30_000, 1.0), (30_000, 3e4)):
        scores = spread * torch.randn(points, generator=generator)
        positives = torch.rand(points, generator=generator) < 0.02
        options = {"tau": 0.05, "live": 300}
        exact, slope = _with_gradient(smooth_ap, scores, positives, **options, path="dense")
        for _ in range(2):  # the second call uses what the first one cached
            auto, gradient = _with_gradient(smooth_ap, scores, positives, **options)
            assert abs(auto - exact) < 1e-6
            assert (gradient - slope).abs().max() <= 1e-5 * slope.abs().max()
    assert [name for name, _ in taken] == ["Grid"] * 2 + ["Window"] * 2


def test_a_device_without_float64_is_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, positives = map(torch.as_tensor, score_cases.case("random", "some"))
    scores, positives = torch.stack((scores, scores.flip(0))), torch.stack((positives,) * 2)
    exact = smooth_ap(scores, positives, tau=0.1)
    for module in (ranking, dense):
        monkeypatch.setattr(module, "precision", lambda device: torch.float32)
    for path in PATHS:
        assert torch.allclose(smooth_ap(scores, positives, tau=0.1, path=path), exact, atol=1e-5)
        alone = smooth_ap(scores[0], positives[0], tau=0.1, path=path)
        assert torch.allclose(alone, exact[0], atol=1e-5)


@pytest.mark.filterwarnings(
    "ignore:.*should not be instantiated:DeprecationWarning"
)  # raised by dynamo itself
def test_without_gradient_and_under_autocast() -> None:
    scores, positives = map(torch.as_tensor, score_cases.case("random", "some"))
    plain, slope = _with_gradient(smooth_ap, scores, positives, tau=0.1)
    with torch.no_grad():
        assert torch.equal(smooth_ap(scores.requires_grad_(), positives, tau=0.1), plain)
    with torch.autocast("cpu", torch.bfloat16):
        for path in WAYS:
            value, gradient = _with_gradient(
                smooth_ap, scores.detach(), positives, tau=0.1, path=path
            )
            assert torch.allclose(value, plain, atol=1e-6)
            assert torch.allclose(gradient, slope, atol=1e-4)


@pytest.mark.filterwarnings("ignore")  # the compiler warns about its own tracing
def test_compiled_with_the_model() -> None:
    scores, positives = map(torch.as_tensor, score_cases.case("random", "some"))
    plain, slope = _with_gradient(smooth_ap, scores, positives, tau=0.1)
    compiled = torch.compile(
        lambda s: 1.0 - smooth_ap(2.0 * s, positives, tau=0.2), backend="eager"
    )
    value, gradient = _with_gradient(compiled, scores)
    assert torch.allclose(1.0 - value, plain)
    assert torch.allclose(-gradient, slope, atol=1e-6)


@pytest.mark.parametrize(
    "kernel",
    [
        lambda s, p: smooth_ap(s, p, tau=0.1),
        lambda s, p: recall_at_quantile(s, p, quantile=0.2, tau=0.1),
        lambda s, p: pauc_at_budget(s, p, beta=0.3),
    ],
)
def test_a_second_derivative_is_refused(kernel) -> None:
    scores, positives = map(torch.as_tensor, score_cases.case("random", "some"))
    scores.requires_grad_()
    (slope,) = torch.autograd.grad(kernel(scores, positives), scores, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        slope.sum().backward()


@pytest.mark.parametrize(
    ("scores", "positives", "options", "error"),
    [
        (torch.zeros(3).half(), torch.zeros(3) > 0, {}, "float16"),
        (torch.zeros(3), torch.zeros(3), {}, "expected bool"),
        (torch.zeros(3), torch.zeros(4) > 0, {}, "one shape"),
        (torch.zeros(()), torch.zeros(()) > 0, {}, "one shape"),
        (torch.zeros(3), torch.zeros(3) > 0, {"tau": 0.0}, "tau is 0.0"),
        (torch.zeros(3), torch.zeros(3) > 0, {"path": "fast"}, "'fast'"),
    ],
)
def test_a_wrong_request_is_refused(scores, positives, options, error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        smooth_ap(scores, positives, **({"tau": 0.1} | options))


def test_a_grid_that_does_not_fit_in_memory_is_refused() -> None:
    scores = torch.arange(400_000.0)
    with pytest.raises(ValueError, match="path='window'"):
        smooth_ap(scores, scores > 399_990, tau=1e-3, path="grid")


@pytest.mark.parametrize(("scores", "positives"), score_cases.ALL)
@pytest.mark.parametrize("rule", ["linear", "lower", "higher", "nearest", "midpoint"])
def test_recall_matches_the_formula(scores: str, positives: str, rule: str) -> None:
    values, marks = score_cases.case(scores, positives)
    exact, weights = values.astype(float), np.linspace(0.5, 2.0, len(values))
    for fraction, tau in ((0.05, 0.5), (0.3, 0.01)):
        expected = reference.recall_at_quantile(exact, marks, fraction, tau, rule, weights)
        recall, gradient = _with_gradient(
            recall_at_quantile,
            exact,
            torch.as_tensor(marks),
            quantile=fraction,
            tau=tau,
            interpolation=rule,
            weights=torch.as_tensor(weights),
            live=40,
        )
        threshold = reference.quantile(exact, 1.0 - fraction, rule)
        slope = np.array([reference.slope((s - threshold) / tau) / tau for s in exact])
        slope *= weights * marks / (weights * marks).sum()
        slope[40:] = 0.0
        assert abs(float(recall) - expected) < 1e-6
        assert np.abs(gradient.numpy() - slope).max() <= 1e-6 * slope.max() + 1e-9


def test_recall_without_positives_is_nan_without_gradient() -> None:
    scores = torch.arange(6.0).view(2, 3).repeat(1, 4)
    positives = torch.zeros_like(scores, dtype=torch.bool)
    positives[1, 2] = True
    value, gradient = _with_gradient(recall_at_quantile, scores, positives, quantile=0.2, tau=1.0)
    assert value.isnan().tolist() == [True, False]
    assert not gradient[0].any() and gradient[1].count_nonzero() == 1
    tau = torch.tensor([1.0, 0.0])
    value, gradient = _with_gradient(recall_at_quantile, scores, positives, quantile=0.2, tau=tau)
    assert value.isnan().all() and not gradient.any()


@pytest.mark.parametrize("surrogate", ["trapezoid", "pairwise"])
@pytest.mark.parametrize("scale", ["iqr", "band"])
@pytest.mark.parametrize("basis", ["fpr", "population"])
@pytest.mark.parametrize("rule", ["higher", "linear"])
def test_pauc_matches_the_formula(surrogate: str, scale: str, basis: str, rule: str) -> None:
    rng = np.random.default_rng(0)
    scores, positives = rng.standard_normal((3, 60)), rng.random((3, 60)) < 0.2
    masks = {"iid": rng.random(60) < 0.7, "numerator": rng.random(60) < 0.6}
    masks["weights"] = rng.random(60)
    options = {"alpha": 0.05, "beta": 0.4, "tau": 0.2, "surrogate": surrogate, "n_knots": 4}
    options |= {"scale": scale, "basis": basis, "interpolation": rule}
    for extra in ({}, masks):
        value = pauc_at_budget(
            torch.as_tensor(scores),
            torch.as_tensor(positives),
            **options,
            **{name: torch.as_tensor(mask) for name, mask in extra.items()},
        )
        for row, marks, found in zip(scores, positives, value, strict=True):
            expected = reference.pauc_at_budget(row, marks, **options, **extra)
            assert abs(float(found) - expected) < 1e-7


@pytest.mark.parametrize("surrogate", ["trapezoid", "pairwise"])
def test_the_gradient_of_pauc_treats_the_band_as_constant(surrogate: str) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(80, dtype=torch.float64, generator=generator)
    positives = torch.rand(80, generator=generator) < 0.3
    options = {"alpha": 0.05, "beta": 0.4, "tau": 0.3, "n_knots": 3, "scale": "iqr", "basis": "fpr"}
    where = band(scores, positives, **options, iid=None, interpolation="higher")

    def plain(scores):
        chosen, others = scores[positives][:, None], scores[~positives]
        if surrogate == "trapezoid":
            rates = torch.sigmoid((chosen - where.knots) / where.tau).mean(0)
            return (rates[0] / 2 + rates[1] + rates[2] / 2) / 2
        inside = others[(others >= where.lower) & (others <= where.upper)]
        return torch.sigmoid((chosen - inside) / where.tau).mean()

    expected, slope = _with_gradient(plain, scores)
    value, gradient = _with_gradient(
        pauc_at_budget, scores, positives, surrogate=surrogate, **options, live=60
    )
    assert torch.allclose(value, expected)
    assert torch.allclose(gradient[:60], slope[:60], atol=1e-9)
    assert not gradient[60:].any()


@pytest.mark.parametrize("surrogate", ["trapezoid", "pairwise"])
def test_a_degenerate_band_is_nan_without_gradient(surrogate: str) -> None:
    scores = torch.zeros(4, 40)
    scores[1:] = torch.arange(40.0)
    positives = torch.zeros(4, 40, dtype=torch.bool)
    positives[[0, 3], 5:9] = True  # equal scores, no positives, no negatives, and a regular list
    positives[2] = True
    value, gradient = _with_gradient(
        pauc_at_budget, scores, positives, beta=0.5, surrogate=surrogate
    )
    assert value.isnan().tolist() == [True, True, True, False]
    assert not gradient[:3].any() and gradient[3].any()
    weighted = pauc_at_budget(scores[3], positives[3], beta=0.5, weights=torch.zeros(40))
    assert weighted.isnan()


@pytest.mark.parametrize(
    "wrong",
    [
        {"alpha": 0.5, "beta": 0.5},
        {"beta": 1.5},
        {"n_knots": 1},
        {"scale": "std"},
        {"basis": "all"},
        {"surrogate": "hinge"},
    ],
)
def test_a_wrong_band_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="pauc_at_budget"):
        pauc_at_budget(torch.arange(9.0), torch.arange(9) > 6, **wrong)


@pytest.mark.parametrize("name", functional.__all__)
def test_a_public_kernel_documents_arguments_and_source(name: str) -> None:
    text = getattr(functional, name).__doc__
    assert "[" in text, "shapes"
    if name not in ("iqr", "masked_quantiles", "quantile", "pauc_diagnostics"):
        assert "Args:" in text
        assert "Source:" in text
    assert functional.__all__ == sorted(functional.__all__)


@pytest.mark.parametrize("name", losses.__all__)
def test_a_public_loss_documents_arguments_errors_and_source(name: str) -> None:
    made = getattr(losses, name)
    assert made.__doc__
    if isinstance(made, type):
        assert "Args:" in made.__doc__
        assert "Raises:" in made.__doc__
        assert re.search(r"(19|20)\d\d|imbalanced-losses", made.__doc__)
        parameters = set(inspect.signature(made).parameters)
        assert all(f"    {each}: " in made.__doc__ for each in parameters)


def test_the_exact_metric_is_the_soft_one_with_a_hard_step() -> None:
    scores, positives = map(torch.as_tensor, score_cases.case("ties", "some"))

    def precision_at_positives(step):
        above = step(scores[None] - scores[positives][:, None], 1e-9)
        return (above[:, positives].sum(1) / above.sum(1)).mean()

    exact = average_precision_score(positives, scores)
    assert (
        abs(float(precision_at_positives(lambda difference, _: (difference >= 0).double())) - exact)
        < 1e-6
    )
    distinct = scores.unique()
    slope = sigmoid_slope(distinct, 0.1)
    expected = [reference.slope(float(s) / 0.1) for s in distinct]
    assert np.abs(slope.numpy() / expected - 1.0).max() < 1e-5
    assert torch.allclose(sigmoid(distinct, 0.1), torch.sigmoid(distinct / 0.1))


def test_the_slow_references_agree_with_published_results() -> None:
    """Smooth-AP by hand: positives at 0 and 1, a negative in between, τ = 1."""
    step = reference.sigmoid
    first = (1 + step(1.0)) / (1 + step(1.0) + step(0.5))
    second = (1 + step(-1.0)) / (1 + step(-1.0) + step(-0.5))
    value = reference.smooth_ap([0.0, 0.5, 1.0], np.array([True, False, True]), 1.0)
    assert abs(value - (first + second) / 2) < 1e-15


# Long lists: a whole table.


def _by_cells(scores, positives, tau, weights=None):
    """Value and gradient of lists [C, M] as of a list that is long."""
    scores, positives = torch.as_tensor(scores), torch.as_tensor(positives)
    taus = torch.full((len(scores),), float(tau), dtype=torch.float64)
    lists = ranking.lists(scores, positives, taus, weights)
    return cells.value_and_gradient(lists, scores.shape[1])


@settings(max_examples=25, deadline=None)
@given(score_cases.drawn(), st.floats(-2, 2), st.booleans(), st.booleans())
def test_cells_match_the_formula_on_random_draws(case, exponent, double, weighted) -> None:
    scores, positives = case
    scores = scores.astype(np.float64 if double else np.float32)
    weights = np.linspace(0.5, 2.0, len(scores)) if weighted else None
    tau = max(10.0**exponent, float(np.ptp(scores.astype(float))) / 1e5)
    if not positives.any() or positives.all() or not tau < np.inf:
        return
    exact = scores.astype(float)
    value = reference.smooth_ap(exact, positives, tau, weights)
    slope = reference.smooth_ap_gradient(exact, positives, tau, weights)
    weight = None if weights is None else torch.as_tensor(weights).expand(2, -1)
    pair = np.stack((scores / 2, scores)), np.stack((positives, positives))
    found, gradient = _by_cells(*pair, tau, weight)
    assert abs(float(found[1]) - value) <= 1e-6
    # Within a knot of points far from the others the slopes of pairs nearly cancel: the error is
    # that of a pair, not of what is left.
    assert np.abs(gradient[1].numpy() - slope).max() <= 1e-6 * np.abs(slope).max() + 1e-9 / tau


def _long(rows: int = cells.LONG + 100, rate: float = 0.02) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    positives = torch.rand(rows, generator=generator) < rate
    return torch.randn(rows, generator=generator).double() + 2 * positives, positives


def test_a_long_list_is_divided_into_cells_and_agrees_with_the_other_paths(monkeypatch) -> None:
    scores, positives = _long()
    exact, slope = _with_gradient(smooth_ap, scores, positives, tau=0.1, path="window")
    used, kernel = [], cells.value_and_gradient
    monkeypatch.setattr(
        cells, "value_and_gradient", lambda *given: used.append(given[1]) or kernel(*given)
    )
    value, gradient = _with_gradient(smooth_ap, scores, positives, tau=0.1)
    assert abs(value - exact) < 1e-9
    assert (gradient - slope).abs().max() < 1e-7 * slope.abs().max()
    assert torch.equal(smooth_ap(scores, positives, tau=0.1), value)
    assert used == [len(scores), 0]
    far, out, broken = scores.clone(), scores.clone(), scores.clone()
    far[0], out[0], broken[0] = 1e9, -torch.inf, torch.nan
    for unfit in (far, out, broken, scores[1000:]):
        smooth_ap(unfit.requires_grad_(), positives[-len(unfit) :], tau=0.1)
    smooth_ap(scores, positives, tau=0.1, live=scores[:50].clone().requires_grad_())
    assert len(used) == 2


def test_one_thread_and_two_rank_a_long_list_with_the_same_bits() -> None:
    scores, positives = _long(200_000, rate=0.3)
    found = []
    for threads in (1, 2):
        with limited_threads(threads):
            found.append(_with_gradient(smooth_ap, scores, positives, tau=0.1))
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_up_to_a_million_scores_one_thread_does_the_work() -> None:
    seen = []

    def evaluate(scores: torch.Tensor, live: int, arguments: tuple) -> tuple:
        seen.append(torch.get_num_threads())
        return scores.sum(-1), scores[:live]

    with limited_threads(2):
        for scores in (torch.zeros(ALONE), torch.zeros(ALONE + 1)):
            apply_once(evaluate, scores, ())
            apply_once(evaluate, scores.requires_grad_(), ())
        assert torch.get_num_threads() == 2
    assert seen == [1, 1, 2, 2]


@pytest.mark.parametrize("shape", [(1, window.WORTH_PACKING), (9, 5000), (2, 20_000), (50, 700)])
@pytest.mark.parametrize("spread", [3.0, 300.0, 1e7])
def test_bins_are_ordered_as_a_stable_sort_orders_them(shape: tuple, spread: float) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(shape, generator=generator) * spread
    bins = window.binned(scores, torch.ones(shape[0]))
    stable = window.order_key(bins).sort(stable=True).indices
    assert torch.equal(window.in_order(bins), stable)

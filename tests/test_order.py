"""Order statistics: torch.quantile's values without its size limit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rarelab.functional.order import INTERPOLATIONS, iqr, masked_quantiles, quantile

LEVELS = (0.0, 0.001, 0.005, 0.25, 0.3, 0.5, 0.75, 0.9, 0.995, 1.0)


def _scores(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).mul_(7).round_().div_(7)  # with ties


@pytest.mark.parametrize("rule", INTERPOLATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 2, 3, 10, 1001, 20_011])
def test_quantile_is_bit_identical_to_torch_quantile(rule: str, dtype: torch.dtype, n: int) -> None:
    x = _scores(3, n).to(dtype)
    for q in LEVELS:
        expected = torch.quantile(x, q, dim=-1, interpolation=rule)
        assert torch.equal(quantile(x, q, interpolation=rule), expected), q


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.floats(0, 1), st.sampled_from(INTERPOLATIONS), st.integers(0, 99))
def test_any_level_and_size(n: int, q: float, rule: str, seed: int) -> None:
    x = _scores(2, n, seed=seed)
    assert torch.equal(
        quantile(x, q, interpolation=rule), torch.quantile(x, q, dim=-1, interpolation=rule)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_the_float32_quantile_rounded(dtype: torch.dtype) -> None:
    x = _scores(4, 257).to(dtype)
    for q in (0.1, 0.5, 0.995):
        assert torch.equal(quantile(x, q), torch.quantile(x.float(), q, dim=-1).to(dtype))


def test_more_elements_than_torch_quantile_takes() -> None:
    x = torch.arange(16_800_000, dtype=torch.float32)
    with pytest.raises(RuntimeError):
        torch.quantile(x, 0.5)
    assert quantile(x, 0.995, interpolation="lower") == 16_715_999


@pytest.mark.parametrize("q", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("n", [50, 20_011])
def test_nan_propagates(q: float, n: int) -> None:
    x = _scores(2, n)
    x[0, 7] = torch.nan
    assert quantile(x, q).isnan().tolist() == [True, False]


def test_no_gradient_and_no_view_of_the_input() -> None:
    x = _scores(9).requires_grad_()
    value = quantile(x, 0.5)
    assert not value.requires_grad
    assert torch.equal(iqr(x), torch.quantile(x, 0.75) - torch.quantile(x, 0.25))


@pytest.mark.parametrize(
    ("x", "q", "rule"), [((0,), 0.5, "linear"), ((3,), 1.5, "linear"), ((3,), 0.5, "upper")]
)
def test_a_wrong_request_is_refused(x: tuple[int], q: float, rule: str) -> None:
    with pytest.raises(ValueError, match="quantile"):
        quantile(torch.zeros(x), q, interpolation=rule)


@pytest.mark.parametrize("rule", INTERPOLATIONS)
def test_masked_quantiles_are_those_of_the_selected_values(rule: str) -> None:
    x = _scores(5, 200)
    where = torch.rand(5, 200, generator=torch.Generator().manual_seed(1)) < 0.4
    where[3], where[4, 1:], where[4, 0] = True, False, True
    q = [0.999, 0.75, 0.25, 0.1]
    values = masked_quantiles(x, where, q, interpolation=rule)
    for row, chosen, value in zip(x, where, values, strict=True):
        assert torch.equal(value, torch.quantile(row[chosen], torch.tensor(q), interpolation=rule))


def test_masked_quantiles_of_an_empty_selection_and_of_nan() -> None:
    x = _scores(3, 20)
    x[1, 0] = x[2, 0] = torch.nan
    where = torch.ones(3, 20, dtype=torch.bool)
    where[0], where[2, 0] = False, False
    missing = masked_quantiles(x, where, [0.9, 0.1]).isnan()
    assert missing.tolist() == [[True, True], [True, True], [False, False]]

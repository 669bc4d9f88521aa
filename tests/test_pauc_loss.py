"""Partial AUC at budget as a loss: queue, masks, numerators and diagnostics."""

import numpy as np
import pytest
import torch
from torch import Tensor

import reference
from rarelab.losses import LossWarmupWrapper, PAUCAtBudgetLoss

BAND = {"alpha": 0.05, "beta": 0.4}


def batch(width: int, rows: int, stream: torch.Generator) -> tuple[Tensor, ...]:
    """Logits, labels with some ignored rows, independence marks, weights."""
    logits = torch.randn(rows, width, generator=stream, dtype=torch.float64)
    labels = torch.randint(0, max(2, width), (rows,), generator=stream)
    labels[torch.rand(rows, generator=stream) < 0.1] = -100
    marks = torch.rand(rows, generator=stream) < 0.8
    return logits, labels, marks, torch.rand(rows, generator=stream, dtype=torch.float64)


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("surrogate", ["trapezoid", "pairwise"])
@pytest.mark.parametrize("numerator", ["pool", "live"])
@pytest.mark.parametrize("basis", ["fpr", "population"])
@pytest.mark.parametrize("queue_size", [0, 30])
def test_values_follow_the_formula_over_several_batches(
    width: int, surrogate: str, numerator: str, basis: str, queue_size: int
) -> None:
    loss = PAUCAtBudgetLoss(
        width,
        **BAND,
        surrogate=surrogate,
        n_knots=3,
        pos_numerator=numerator,
        budget_basis=basis,
        queue_size=queue_size,
    )
    stream, queue = torch.Generator().manual_seed(3), []
    for rows in (20, 13, 24):
        logits, labels, marks, weights = batch(width, rows, stream)
        value, per_class, valid = loss(logits, labels, marks, True, sample_weight=weights)
        joining = list(zip(logits.numpy(), labels.tolist(), marks, weights, [1] * rows))  # noqa: B905
        pool = [row for row in joining + queue if row[1] != -100]
        for c in range(width):
            wanted = 1 - reference.pauc_at_budget(
                [row[0][c] for row in pool],
                np.array([row[1] == (1 if width == 1 else c) for row in pool]),
                **BAND,
                surrogate=surrogate,
                n_knots=3,
                basis=basis,
                iid=[bool(row[2]) for row in pool],
                weights=[float(row[3]) for row in pool],
                numerator=[bool(row[4]) or numerator == "pool" for row in pool],
            )
            assert per_class[c].item() == pytest.approx(wanted, abs=1e-7, nan_ok=True)
        assert value.item() == pytest.approx(per_class[valid].mean().item(), abs=1e-9)
        queue = [(*row[:4], 0) for row in queue + joining][-queue_size:] if queue_size else []


def sample(rows: int = 400, seed: int = 0) -> tuple[Tensor, Tensor]:
    stream = torch.Generator().manual_seed(seed)
    labels = (torch.rand(rows, generator=stream) < 0.1).long()
    return torch.randn(rows, generator=stream) + labels, labels


def test_non_independent_rows_affect_neither_band_nor_temperature() -> None:
    logits, labels = sample()
    extra = torch.full((100,), 9.0)
    marks = torch.cat([torch.ones(400), torch.zeros(100)]).bool()
    loss = PAUCAtBudgetLoss(1, beta=0.1, queue_size=0)
    alone, facts = loss(logits, labels, return_diagnostics=True)
    joined = torch.cat([logits, extra]), torch.cat([labels, torch.zeros(100).long()])
    value, with_extra = loss(*joined, marks, return_diagnostics=True)
    assert torch.equal(value, alone)
    for name in ("t_alpha", "t_beta", "tau_eff", "band_neg_count"):
        assert torch.equal(with_extra[name], facts[name]), name
    assert loss(*joined) > alone


@pytest.mark.parametrize("surrogate", ["trapezoid", "pairwise"])
def test_diagnostics_report_the_quantities_behind_the_loss(surrogate: str) -> None:
    logits, labels = sample()
    loss = PAUCAtBudgetLoss(1, **BAND, surrogate=surrogate, queue_size=500)
    loss(*sample(seed=1))
    value, per_class, valid, facts = loss(logits, labels, None, True, True)
    pool = torch.cat([logits, sample(seed=1)[0]]).numpy()
    positive = torch.cat([labels, sample(seed=1)[1]]).bool().numpy()
    negatives, chosen = pool[~positive], pool[positive]
    upper, lower, high, low = np.quantile(negatives, [0.95, 0.6, 0.75, 0.25], method="higher")
    tau = 0.1 * (high - low)
    inside = negatives[(negatives >= lower) & (negatives <= upper)]
    others = np.array([upper, lower]) if surrogate == "trapezoid" else inside
    each = (1 / (1 + np.exp((others[None] - chosen[:, None]) / tau))).mean(1)
    assert 1 - per_class.item() == pytest.approx(each.mean(), abs=1e-6)
    assert value == per_class and valid.item()
    wanted = {"t_alpha": upper, "t_beta": lower, "tau_eff": tau, "pauc_var": each.var()}
    for name, expected in wanted.items():
        assert facts[name].item() == pytest.approx(expected, rel=1e-5), name
    assert facts["band_neg_count"].item() == len(inside)
    assert facts["grad_pos_count"].item() == labels.sum()


def test_undefined_diagnostics_are_nan_and_zero() -> None:
    loss = PAUCAtBudgetLoss(3, queue_size=0)
    labels = torch.tensor([0, 0, 1, 1, 0, 1])
    logits = torch.randn(6, 3).index_fill(1, torch.tensor(0), 2.0)  # class 0 has no spread
    for rows in (6, 0):  # class 2 has no positives; then no class has any
        value, facts = loss(logits[:rows], labels[:rows], return_diagnostics=True)
        assert value.isfinite()
        missing = [True, rows == 0, True]
        for name in ("t_alpha", "t_beta", "tau_eff", "pauc_var"):
            assert facts[name].isnan().tolist() == missing, name
        assert (facts["band_neg_count"] == 0).tolist() == missing
    assert facts["grad_pos_count"].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("scale", "found"),
    [("iqr", "the inter-quartile range is zero"), ("band", "the width of the band is zero")],
)
def test_a_class_skipped_for_zero_spread_is_logged_once(
    scale: str, found: str, caplog: pytest.LogCaptureFixture
) -> None:
    loss = PAUCAtBudgetLoss(1, beta=0.5, tau_scale=scale, queue_size=0)
    flat, labels = torch.zeros(8), torch.arange(8) % 2
    loss(torch.arange(8.0), labels)
    loss(flat, labels * 0)  # no positives is an ordinary reason to skip a class
    loss.eval()(flat, labels)
    assert caplog.records == []
    for _ in range(3):
        assert loss.train()(flat, labels) == 0
    assert len(caplog.records) == 1
    assert caplog.records[0].message.startswith(found)


def test_the_live_numerator_averages_over_live_positives_only() -> None:
    gradients = {}
    for numerator in ("pool", "live"):
        loss = PAUCAtBudgetLoss(1, beta=0.3, temperature=1.0, pos_numerator=numerator)
        loss(*sample())
        logits, labels = sample(rows=100, seed=2)
        logits.requires_grad_()
        loss(logits, labels).backward()
        gradients[numerator] = logits.grad
    ratio = gradients["live"].abs().sum() / gradients["pool"].abs().sum()
    pooled, live = int(sample()[1].sum()), int(sample(rows=100, seed=2)[1].sum())
    assert ratio.item() == pytest.approx((pooled + live) / live, rel=1e-4)
    assert PAUCAtBudgetLoss(1, pos_numerator="live")(torch.randn(9), torch.zeros(9)) == 0


def test_a_warmup_wrapper_returns_diagnostics_at_the_final_weight() -> None:
    wrapper = LossWarmupWrapper(torch.nn.BCEWithLogitsLoss(), PAUCAtBudgetLoss(1), temp_start=0.5)
    _, facts = wrapper(*sample(), return_diagnostics=True)
    assert facts["t_beta"] <= facts["t_alpha"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.5, "beta": 0.5}, "alpha=0.5, beta=0.5"),
        ({"beta": 1.5}, "beta=1.5"),
        ({"n_knots": 1}, "n_knots is 1"),
        ({"surrogate": "hinge"}, "surrogate is 'hinge', expected one of trapezoid, pairwise"),
        ({"tau_scale": "std"}, "tau_scale is 'std'"),
        ({"pos_numerator": "queue"}, "pos_numerator is 'queue'"),
        ({"budget_basis": "tpr"}, "budget_basis is 'tpr'"),
        ({"quantile_interpolation": "cubic"}, "quantile_interpolation is 'cubic'"),
    ],
)
def test_options_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PAUCAtBudgetLoss(1, **options)

"""Partial AUC over the band of false-positive rates that an alert budget can afford."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rarelab.functional import choose, ranking
from rarelab.functional.once import Live, apply_once, check_ranked_lists
from rarelab.functional.order import masked_quantiles
from rarelab.functional.steps import sigmoid, sigmoid_slope

SURROGATES = ("trapezoid", "pairwise")
SCALES = ("iqr", "band")
BASES = ("fpr", "population")
LEAST_SCALE = 1e-12  # a spread not above this cannot set a temperature
CHUNK = 1 << 18


class Band(NamedTuple):
    """Where a list's band lies, all [...] but ``knots`` [..., K], from the upper edge down.

    ``tau`` is the temperature in units of the scores; ``spread`` is false where the reference
    scores have no spread to set it by.
    """

    knots: Tensor
    tau: Tensor
    spread: Tensor

    @property
    def upper(self) -> Tensor:
        """t_α, the (1 − α) quantile of the reference scores."""
        return self.knots[..., 0]

    @property
    def lower(self) -> Tensor:
        """t_β, the (1 − β) quantile."""
        return self.knots[..., -1]


def pauc_at_budget(
    scores: Tensor,
    positives: Tensor,
    *,
    alpha: float = 0.0,
    beta: float = 0.005,
    tau: float = 0.1,
    surrogate: str = "trapezoid",
    n_knots: int = 2,
    scale: str = "iqr",
    basis: str = "fpr",
    iid: Tensor | None = None,
    weights: Tensor | None = None,
    numerator: Tensor | None = None,
    interpolation: str = "higher",
    live: Live = None,
) -> Tensor:
    """Soft true-positive rate, averaged over false-positive rates from ``alpha`` to ``beta``.

    ::

        t(f) = (1 − f) quantile of the reference scores, a constant for the gradient
        τ'   = tau · spread of the reference scores, a constant too
        trapezoid:  TPR_k = Σ_i w_i σ((s_i − t(f_k))/τ') / Σ_i w_i  at K even knots f_k;
                    pAUC  = their trapezoid mean                    (gradient: positives)
        pairwise:   pAUC  = mean over the negatives j with t(beta) ≤ s_j ≤ t(alpha) of
                    Σ_i w_i σ((s_i − s_j)/τ') / Σ_i w_i             (gradient: both)

    Args:
        scores: [..., M] float32 or float64; −inf takes a point out of the list.
        positives: [..., M] bool, same shape.
        alpha, beta: the band, 0 ≤ alpha < beta ≤ 1; alpha = 0 starts at the highest negative.
        tau: temperature > 0 as a multiple of the spread.
        surrogate: "trapezoid" or "pairwise".
        n_knots: K ≥ 2 of the trapezoid, both ends included.
        scale: the spread, "iqr" (inter-quartile range) or "band" (t(alpha) − t(beta)).
        basis: the reference, "fpr" (negatives) or "population" (all rows: an alert budget).
        iid: rows that the reference may use, [M] or [..., M] bool; None = all.
        weights: weights of the positives, [M] or [..., M].
        numerator: positives that i runs over, [M] or [..., M] bool; None = all positives.
        interpolation: as in :func:`rarelab.functional.order.quantile`.
        live: as in :func:`rarelab.functional.smooth_ap.smooth_ap`.

    Returns:
        [...], in the scores' precision. NaN with zero gradient where there is no i (or no weight),
        no reference negative, no spread, or (pairwise) no negative in the band.

    Raises:
        TypeError, ValueError: as :func:`rarelab.functional.smooth_ap.smooth_ap`; options out of
            range.
        RuntimeError: on a second derivative.

    Source: the pAUC-at-budget loss published with imbalanced-losses 0.6.0; partial AUC as in
    McClish, Medical Decision Making 9(3), 1989.
    """
    check_ranked_lists("pauc_at_budget", scores, positives, tau)
    _check(alpha, beta, surrogate, n_knots, scale, basis)
    shape, points = scores.shape[:-1], scores.shape[-1]
    if not scores.numel():
        return scores.sum(-1) * torch.nan

    def rows(values: Tensor) -> Tensor:
        return values.expand(scores.shape).reshape(-1, points)

    marks = positives.reshape(-1, points)
    where = band(
        scores.detach().reshape(-1, points),
        marks,
        alpha=alpha,
        beta=beta,
        tau=tau,
        n_knots=n_knots if surrogate == "trapezoid" else 2,
        scale=scale,
        basis=basis,
        iid=None if iid is None else rows(iid),
        interpolation=interpolation,
    )
    counted = marks if numerator is None else marks & rows(numerator)
    if isinstance(live, Tensor):
        live = live.reshape(-1, live.shape[-1])
    arguments = (marks, counted, None if weights is None else rows(weights), where)
    evaluate = _trapezoid if surrogate == "trapezoid" else _pairwise
    return apply_once(evaluate, scores.reshape(-1, points), arguments, live).view(shape)


def band(
    scores: Tensor,
    positives: Tensor,
    *,
    alpha: float,
    beta: float,
    tau: float,
    n_knots: int,
    scale: str,
    basis: str,
    iid: Tensor | None,
    interpolation: str,
) -> Band:
    """The band of each list [..., M], without gradient; options as in ``pauc_at_budget``."""
    negatives = ~positives & (scores != -torch.inf)
    if iid is not None:
        negatives = negatives & iid
    reference = negatives
    if basis == "population":
        reference = negatives | (positives if iid is None else positives & iid)
    levels = [1.0 - f for f in np.linspace(alpha, beta, n_knots).tolist()]
    quartiles = [0.75, 0.25] if scale == "iqr" else []
    values = masked_quantiles(scores, reference, levels + quartiles, interpolation=interpolation)
    knots = values[..., :n_knots]
    spread = values[..., -2] - values[..., -1] if quartiles else knots[..., 0] - knots[..., -1]
    enough = negatives.any(-1) & ~(spread <= LEAST_SCALE)  # a NaN is no lack of spread
    return Band(knots, torch.where(enough, tau * spread, 1.0), enough)


def _trapezoid(scores: Tensor, live: int, arguments: tuple) -> tuple[Tensor, Any]:
    _, counted, weights, where = arguments
    at, owner, share, valid = _shares(scores, counted, weights, where.spread)
    weight = scores.new_ones(where.knots.shape[-1])
    weight[[0, -1]] = 0.5
    weight /= weight.sum()
    above, tau = scores.flatten()[at, None] - where.knots[owner], where.tau[owner, None]
    part = share * (sigmoid(above, tau) @ weight)
    value = scores.new_zeros(len(scores)).index_add_(0, owner, part)
    value = torch.where(valid, value, torch.nan)
    if not live:
        return value, None
    gradient = torch.zeros_like(scores)
    gradient.view(-1)[at] = share * (sigmoid_slope(above, tau) @ weight) / tau.squeeze(-1)
    return value, gradient.masked_fill_(~valid[:, None], 0.0)[:, :live]


def _pairwise(scores: Tensor, live: int, arguments: tuple) -> tuple[Tensor, Any]:
    positives, counted, weights, where = arguments
    upper, lower = where.upper.unsqueeze(-1), where.lower.unsqueeze(-1)
    inside = ~positives & (scores >= lower) & (scores <= upper)
    counts = inside.sum(-1)
    at, owner, share, valid = _shares(scores, counted, weights, where.spread & (counts > 0))
    other = inside.flatten().nonzero().squeeze(1)
    lists = ranking.lists(scores, counted, where.tau, None)
    share, each = share.to(lists.tau), (1.0 / counts.to(lists.tau))[other // scores.shape[1]]
    sums = choose.sums(lists, "auto", CHUNK)
    negatives = sums.sources(other, each[None])
    (above,) = negatives.steps(
        at
    )  # share of the band's negatives above i: 1 − Σ_j σ((s_i − s_j)/τ')
    value = above.new_zeros(len(scores)).index_add_(0, owner, share * (1.0 - above))
    value = torch.where(valid & lists.sane, value, torch.nan).to(scores.dtype)
    if not live:
        return value, None
    gradient = torch.zeros_like(scores)
    inverse = 1.0 / lists.tau
    (up,), (down,) = negatives.bumps(at), sums.sources(at, share[None]).bumps(other)
    gradient.view(-1)[at] = (share * up * inverse[owner]).to(gradient)
    gradient.view(-1)[other] = -(each * down * inverse[other // scores.shape[1]]).to(gradient)
    return value, gradient.masked_fill_(~valid[:, None], 0.0)[:, :live]


def _shares(
    scores: Tensor, counted: Tensor, weights: Tensor | None, spread: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Places and lists of the counted positives, w_i / Σ w (0 if invalid), and what is valid."""
    counted = counted & (scores != -torch.inf)
    at = counted.flatten().nonzero().squeeze(1)
    owner = at // scores.shape[1]
    mass = scores.new_ones(len(at)) if weights is None else weights.flatten()[at].to(scores)
    total = scores.new_zeros(len(scores)).index_add_(0, owner, mass)
    valid = spread & (total > 0)
    return at, owner, torch.where(valid[owner], mass / total[owner], 0.0), valid


def _check(alpha: float, beta: float, surrogate: str, n_knots: int, scale: str, basis: str) -> None:
    if not 0.0 <= alpha < beta <= 1.0:
        raise ValueError(f"pauc_at_budget: band [{alpha}, {beta}], expected 0 <= alpha < beta <= 1")
    if n_knots < 2:
        raise ValueError(f"pauc_at_budget: n_knots is {n_knots}, expected at least 2")
    for name, value, valid in (
        ("surrogate", surrogate, SURROGATES),
        ("scale", scale, SCALES),
        ("basis", basis, BASES),
    ):
        if value not in valid:
            expected = ", ".join(valid)
            raise ValueError(f"pauc_at_budget: {name} is {value!r}, expected one of {expected}")

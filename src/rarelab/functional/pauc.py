"""Soft partial AUC over the band of false-positive rates within a budget, and diagnostics."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from rarelab.functional import choose, ranking
from rarelab.functional.band import BASES, SCALES, Band, band
from rarelab.functional.members import Members
from rarelab.functional.once import Live, apply_once, check_ranked_lists

SURROGATES = ("trapezoid", "pairwise")
CHUNK = 1 << 18


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

        t(f) = (1 − f) quantile of the reference scores, without gradient
        τ'   = tau · spread of the reference scores, without gradient
        trapezoid:  TPR_k = Σ_i w_i σ((s_i − t(f_k))/τ') / Σ_i w_i  at K evenly spaced f_k;
                    pAUC  = their trapezoid mean                   (gradient: positives)
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
        iid: rows allowed in the reference, [M] or [..., M] bool; None = all.
        weights: weights of the positives, [M] or [..., M].
        numerator: the positives that i runs over, [M] or [..., M] bool; None = all.
        interpolation: as in :func:`rarelab.functional.order.quantile`.
        live: as in :func:`rarelab.functional.smooth_ap.smooth_ap`.

    Returns:
        [...], in the scores' precision. NaN with zero gradient where no positive (or weight) counts
        or there is no reference negative, no spread, or (pairwise) no negative in the band.

    Raises:
        TypeError, ValueError: as :func:`rarelab.functional.smooth_ap.smooth_ap`, or an option is
            out of range.
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


def pauc_diagnostics(
    scores: Tensor,
    positives: Tensor,
    valid: Tensor,
    *,
    alpha: float,
    beta: float,
    tau: float,
    surrogate: str,
    n_knots: int,
    scale: str,
    basis: str,
    iid: Tensor | None,
    numerator: Tensor | None,
    interpolation: str,
) -> dict[str, Tensor]:
    """Diagnostics of C lists under the options of ``pauc_at_budget``, without gradient.

    ``t_alpha``, ``t_beta`` (upper and lower edge of the band) and ``tau_eff``, in units of the
    scores; ``band_neg_count``, the independent negatives within the band, edges included;
    ``pauc_var``, the unweighted variance of the counted positives' contributions to pAUC. Where a
    list is not ``valid`` [C] they are NaN, and the count is 0.

    Args:
        scores: [C, M] float32 or float64.
        positives: [C, M] bool.
    """
    nothing = scores.new_full(valid.shape, torch.nan)
    if not scores.numel():
        facts = dict.fromkeys(("t_alpha", "t_beta", "tau_eff", "pauc_var"), nothing)
        return {**facts, "band_neg_count": torch.zeros_like(valid, dtype=torch.int64)}
    where = band(
        scores,
        positives,
        alpha=alpha,
        beta=beta,
        tau=tau,
        n_knots=n_knots if surrogate == "trapezoid" else 2,
        scale=scale,
        basis=basis,
        iid=iid,
        interpolation=interpolation,
    )
    inside = ~positives & (scores >= where.lower[:, None]) & (scores <= where.upper[:, None])
    counted = positives if numerator is None else positives & numerator
    chosen, each = _contributions(scores, positives, counted, where, surrogate)
    count = chosen.sum(torch.ones_like(each))
    off = each - chosen.each(chosen.sum(each) / count)
    facts = {
        "t_alpha": where.upper,
        "t_beta": where.lower,
        "tau_eff": where.tau,
        "pauc_var": (chosen.sum(off.square()) / count).to(scores.dtype),
    }
    facts = {name: torch.where(valid, fact, nothing) for name, fact in facts.items()}
    inside = inside if iid is None else inside & iid
    return {**facts, "band_neg_count": torch.where(valid, inside.sum(-1), 0)}


def _contributions(
    scores: Tensor, positives: Tensor, counted: Tensor, where: Band, surrogate: str
) -> tuple[Members, Tensor]:
    """The counted positives of the lists [C, M], and each one's unweighted contribution to pAUC."""
    chosen = Members.of(counted & (scores != -torch.inf))
    if surrogate == "trapezoid":
        return chosen, _rates(chosen, scores, where)[0]
    return chosen, _pairs(scores, positives, counted, where).won


def _trapezoid(scores: Tensor, live: int, arguments: tuple) -> tuple[Tensor, Any]:
    _, counted, weights, where = arguments
    chosen = Members.of(counted & (scores != -torch.inf))
    share, valid = _shares(chosen, scores, weights, where.spread)
    rates, slopes = _rates(chosen, scores, where)
    value = torch.where(valid, chosen.sum(share * rates), torch.nan)
    if not live:
        return value, None
    gradient = chosen.put(share * slopes, scores.shape[1])[:, :live]
    return value, gradient.masked_fill_(~valid[:, None], 0.0)


def _rates(chosen: Members, scores: Tensor, where: Band) -> tuple[Tensor, Tensor]:
    """The trapezoid mean over the knots of σ((s_i − t)/τ'), and its derivative in s_i."""
    parts = where.knots.shape[-1] - 1
    weight = scores.new_tensor([0.5 / parts, *[1.0 / parts] * (parts - 1), 0.5 / parts])
    owner = chosen.place // scores.shape[1]
    above, tau = chosen.take(scores)[:, None] - where.knots[owner], where.tau[owner, None]
    return sigmoid(above, tau) @ weight, (sigmoid_slope(above, tau) / tau) @ weight


class _Pairs(NamedTuple):
    """Positives against the band's negatives ``other`` [n], each with ``mass`` 1/n in its list.

    ``won`` [k]: the share of those negatives that each positive beats.
    """

    lists: ranking.Lists
    sums: ranking.Sums
    negatives: ranking.Sources
    other: Tensor
    mass: Tensor
    won: Tensor
    any: Tensor


def _pairs(scores: Tensor, positives: Tensor, counted: Tensor, where: Band) -> _Pairs:
    upper, lower = where.upper.unsqueeze(-1), where.lower.unsqueeze(-1)
    inside = ~positives & (scores >= lower) & (scores <= upper)
    other, counts = inside.flatten().nonzero().squeeze(1), inside.sum(-1)
    lists = ranking.lists(scores, counted, where.tau, None)
    mass = (1.0 / counts.to(lists.tau))[lists.owner(other)]
    sums = choose.sums(lists, "auto", CHUNK, sources=len(other))
    negatives = sums.sources(other, mass[None])
    (lost,) = negatives.steps(lists.at)  # 1 − Σ_j σ((s_i − s_j)/τ') / n
    return _Pairs(lists, sums, negatives, other, mass, 1.0 - lost, counts > 0)


def _pairwise(scores: Tensor, live: int, arguments: tuple) -> tuple[Tensor, Any]:
    positives, counted, weights, where = arguments
    pairs = _pairs(scores, positives, counted, where)
    lists, chosen = pairs.lists, Members.of(pairs.lists.chosen)
    share, valid = _shares(chosen, scores, weights, where.spread & pairs.any)
    share = share.to(lists.tau)
    value = torch.where(valid & lists.sane, chosen.sum(share * pairs.won), torch.nan)
    if not live:
        return value.to(scores.dtype), None
    gradient = torch.zeros_like(scores)
    inverse = 1.0 / lists.tau
    (up,) = pairs.negatives.bumps(lists.at)
    (down,) = pairs.sums.sources(lists.at, share[None]).bumps(pairs.other)
    gradient.view(-1)[lists.at] = (share * up * inverse[lists.owner(lists.at)]).to(gradient)
    fall = pairs.mass * down * inverse[lists.owner(pairs.other)]
    gradient.view(-1)[pairs.other] = -fall.to(gradient)
    return value.to(scores.dtype), gradient.masked_fill_(~valid[:, None], 0.0)[:, :live]


def _shares(
    chosen: Members, scores: Tensor, weights: Tensor | None, usable: Tensor
) -> tuple[Tensor, Tensor]:
    """w_i / Σ w of each member (0 in an invalid list), and which lists [C] are valid."""
    mass = scores.new_ones(len(chosen.place))
    if weights is not None:
        mass = chosen.take(weights).to(scores)
    total = chosen.sum(mass)
    valid = usable & (total > 0)
    return mass * chosen.each(torch.where(valid, 1.0 / total, 0.0)), valid


def sigmoid(difference: Tensor, tau: float | Tensor) -> Tensor:
    """σ(difference / τ): the soft step, one half at a tie. ``tau`` is in units of the scores."""
    return torch.sigmoid(difference / tau)


def sigmoid_slope(difference: Tensor, tau: float | Tensor) -> Tensor:
    """σ'(x) = σ(x) σ(−x), x = difference / τ: accurate on both sides, at most 1/4."""
    return sigmoid(difference, tau) * sigmoid(-difference, tau)


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

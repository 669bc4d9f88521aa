"""What partial AUC at budget was measured with: thresholds, temperature, counts, spread."""

import torch
from torch import Tensor

from rarelab.functional.band import band
from rarelab.functional.pauc import contributions


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
    """Facts of each of C lists, without gradient, for the options of ``pauc_at_budget``.

    ``t_alpha``, ``t_beta`` (the band's upper and lower edge) and ``tau_eff``, in units of the
    scores; ``band_neg_count``, the independent negatives within the band, ends included;
    ``pauc_var``, the variance over the counted positives of what each adds to pAUC, unweighted.
    Where a list is not ``valid`` [C] they are NaN, and the count 0.

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
    chosen, each = contributions(scores, positives, counted, where, surrogate)
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

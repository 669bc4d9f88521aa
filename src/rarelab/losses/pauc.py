"""Partial area under the ROC curve, over the false-positive rates within a budget."""

from typing import Any, Literal, final

import torch
from torch import Tensor

from rarelab.functional.band import BASES, SCALES, band
from rarelab.functional.pauc import SURROGATES, pauc_at_budget, pauc_diagnostics
from rarelab.losses.pool import Rows
from rarelab.losses.pooled import TemperedLoss
from rarelab.losses.ranking import check_interpolation
from rarelab.losses.rows import check_choice

NO_SPREAD = (
    "%s is zero, so the class is left out: its scores are equal, or the pool is too small for the "
    "false-positive rates from %g to %g; raise queue_size"
)
NUMERATORS = ("pool", "live")


@final
class PAUCAtBudgetLoss(TemperedLoss):
    """1 − soft partial AUC over false-positive rates from α to β, one-vs-rest.

        t(f) = (1 − f) quantile of the independent negatives, τ' = temperature · their spread,
        both without gradient
        trapezoid:  TPR_k = (1/|P|) Σ_{i∈P} σ((s_i − t(f_k))/τ'),  at K evenly spaced f_k ∈ [α, β]
        pairwise:   (1/|P||B|) Σ_{i∈P} Σ_{j∈B} σ((s_i − s_j)/τ'),  B = {j : t(β) ≤ s_j ≤ t(α)}

    With α = 0 and β = the budget, positives are ranked against every negative that the budget would
    alert on. The trapezoid has gradients only for positives, the pairwise form also for the band's
    negatives. Estimating the edges takes a pool of well over 1/β negatives. A class needs a
    positive, an independent negative and a spread of scores (pairwise: also a negative in the
    band).

    As published with imbalanced-losses 0.6.0; partial AUC as in McClish (1989).

    Args:
        num_classes: columns of the logits; 1 for binary targets in {0, 1}.
        alpha: lower false-positive rate, 0 ≤ alpha < beta.
        beta: upper false-positive rate, at most 1: the budget.
        surrogate: 'trapezoid' or 'pairwise'.
        n_knots: K of the trapezoid, at least 2; more for wide bands.
        tau_scale: the spread, 'iqr' (inter-quartile range, with a temperature near 0.1) or 'band'
            (t(α) − t(β), with a temperature near 1).
        pos_numerator: P, the positives of the 'pool', or the 'live' ones of the batch: fewer, but
            queued positives do not dilute the gradient.
        budget_basis: t is a quantile of the negatives ('fpr'), or of all independent rows
            ('population': a budget of alerts; the trapezoid is then close to recall at a quantile).
        queue_size: earlier rows remembered; 0 for none.
        temperature: τ, in multiples of the spread.
        reduction: over classes, 'mean', 'sum' or 'none' ([C]).
        ignore_index: target of rows to ignore entirely.
        update_queue_in_eval: let batches join the queue in eval mode too.
        gather_distributed: rank the rows of all processes; None: if several exist; False: never.
        quantile_interpolation: as in `torch.quantile`; for edges, knots and quartiles.
        max_pool_size: limit on the pool's rows, sampled with a minimum per class; None: no limit.

    Raises:
        ValueError: an argument is out of range; in a call, shapes do not match, a target is not a
            class, or a weight is negative or not finite.
    """

    def __init__(
        self,
        num_classes: int,
        alpha: float = 0.0,
        beta: float = 0.005,
        surrogate: Literal["trapezoid", "pairwise"] = "trapezoid",
        n_knots: int = 2,
        tau_scale: Literal["iqr", "band"] = "iqr",
        pos_numerator: Literal["pool", "live"] = "pool",
        budget_basis: Literal["fpr", "population"] = "fpr",
        queue_size: int = 1024,
        temperature: float = 0.1,
        reduction: Literal["mean", "sum", "none"] = "mean",
        ignore_index: int = -100,
        update_queue_in_eval: bool = False,
        gather_distributed: bool | None = None,
        quantile_interpolation: Literal[
            "linear", "lower", "higher", "nearest", "midpoint"
        ] = "higher",
        max_pool_size: int | None = None,
    ) -> None:
        super().__init__(
            num_classes,
            queue_size,
            temperature,
            reduction,
            ignore_index,
            update_queue_in_eval,
            gather_distributed,
            max_pool_size,
        )
        if not 0.0 <= alpha < beta <= 1.0:
            raise ValueError(f"alpha={alpha}, beta={beta}: expected 0 <= alpha < beta <= 1")
        if n_knots < 2:
            raise ValueError(f"n_knots is {n_knots}, expected at least 2")
        self.alpha, self.beta, self.n_knots = float(alpha), float(beta), n_knots
        self.surrogate = check_choice("surrogate", surrogate, SURROGATES)
        self.tau_scale = check_choice("tau_scale", tau_scale, SCALES)
        self.pos_numerator = check_choice("pos_numerator", pos_numerator, NUMERATORS)
        self.budget_basis = check_choice("budget_basis", budget_basis, BASES)
        self.quantile_interpolation = check_interpolation(quantile_interpolation)

    def forward(
        self,
        logits: Tensor,
        targets: Tensor,
        iid_mask: Tensor | None = None,
        return_per_class: bool = False,
        return_diagnostics: bool = False,
        *,
        sample_weight: Tensor | None = None,
    ) -> Any:
        """The loss of logits [N, C] ([N] when binary) at targets [N] or [N, 1].

        Args:
            iid_mask: which rows are independent draws, bool [N]; only these determine the edges and
                the spread. None: all.
            return_per_class: also return the class losses [C] and which are valid, bool [C].
            return_diagnostics: also return, last, a dictionary of tensors [C]: ``t_alpha``,
                ``t_beta``, ``tau_eff``, ``band_neg_count``, ``pauc_var`` as in
                :func:`rarelab.functional.pauc.pauc_diagnostics`, and
                ``grad_pos_count``, the positives of this batch.
            sample_weight: weights [N]; a positive's weight is its share of the mean over P.
        """
        done = self.evaluate(logits, targets, iid_mask, sample_weight)
        result = done.result(return_per_class)
        if not return_diagnostics:
            return result
        rows, positives, valid = done.rows, done.positives, ~done.per_class.isnan()
        stats = pauc_diagnostics(rows.scores, positives, valid, **self._options(rows))
        stats["grad_pos_count"] = positives[:, : rows.live.size(1)].sum(-1)
        return (*result, stats) if isinstance(result, tuple) else (result, stats)

    def class_losses(self, rows: Rows, positives: Tensor) -> Tensor:
        options = self._options(rows)
        values = pauc_at_budget(
            rows.scores, positives, weights=rows.weights, live=rows.live, **options
        )
        if self.training and not self.notices.said(NO_SPREAD) and bool(values.isnan().any()):
            self._warn_without_spread(rows, positives, options)
        return 1 - values

    def _warn_without_spread(self, rows: Rows, positives: Tensor, options: dict[str, Any]) -> None:
        """Warn if a class with positives and negatives is skipped for lack of a spread."""
        reference = ~positives if rows.iid is None else ~positives & rows.iid
        names = ("alpha", "beta", "tau", "n_knots", "scale", "basis", "iid", "interpolation")
        where = band(rows.scores, positives, **{name: options[name] for name in names})
        if bool((positives.any(-1) & reference.any(-1) & ~where.spread).any()):
            spread = (
                "the inter-quartile range" if self.tau_scale == "iqr" else "the width of the band"
            )
            self.notices.warn(NO_SPREAD, spread, self.alpha, self.beta)

    def _options(self, rows: Rows) -> dict[str, Any]:
        numerator = None
        if self.pos_numerator == "live":
            numerator = torch.arange(rows.scores.size(1), device=rows.labels.device)
            numerator = numerator < rows.live.size(1)
        return {
            "alpha": self.alpha,
            "beta": self.beta,
            "tau": self.temperature,
            "surrogate": self.surrogate,
            "n_knots": self.n_knots,
            "scale": self.tau_scale,
            "basis": self.budget_basis,
            "iid": rows.iid,
            "numerator": numerator,
            "interpolation": self.quantile_interpolation,
        }

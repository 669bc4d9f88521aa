"""Ranking losses: smooth average precision, and recall in the top-scored quantile."""

from typing import Literal, final

from torch import Tensor

from rarelab.functional.order import INTERPOLATIONS
from rarelab.functional.recall import recall_at_quantile
from rarelab.functional.smooth_ap import smooth_ap
from rarelab.losses.pool import Rows
from rarelab.losses.pooled import PerClass, TemperedLoss, check_unit, tau_in
from rarelab.losses.rows import check_choice


@final
class SmoothAPLoss(TemperedLoss):
    """1 − smooth average precision (Brown et al., ECCV 2020, eq. 5–7), one-vs-rest.

        A_i = 1 + Σ_{j≠i} σ((s_j − s_i)/τ),   B_i = 1 + Σ_{j≠i, j∈P} σ((s_j − s_i)/τ)
        loss = 1 − (1/|P|) Σ_{i∈P} B_i / A_i

    over a pool of the batch and the last ``queue_size`` rows before it. A class needs a positive
    and a negative in the pool; otherwise its entry is NaN under 'none', and 'mean' and 'sum' skip
    it.

    Args:
        num_classes: columns of the logits; 1 for binary targets in {0, 1}.
        queue_size: earlier rows remembered; 0 for none.
        temperature: τ, in units of ``temperature_unit``. Smaller is closer to the exact ranks, but
            gradients reach fewer rows.
        reduction: over classes, 'mean', 'sum' or 'none' ([C]).
        ignore_index: target of rows to ignore entirely.
        update_queue_in_eval: let batches join the queue in eval mode too.
        gather_distributed: rank the rows of all processes; None: if several exist; False: never.
        max_pool_size: limit on the pool's rows, sampled with a minimum per class; None: no limit.
        temperature_unit: 'logit', or 'iqr' for multiples of the pool's inter-quartile range.

    Raises:
        ValueError: an argument is out of range; in a call, shapes do not match, a target is not a
            class, or a weight is negative or not finite.
    """

    def __init__(
        self,
        num_classes: int,
        queue_size: int = 1024,
        temperature: float = 0.01,
        reduction: Literal["mean", "sum", "none"] = "mean",
        ignore_index: int = -100,
        update_queue_in_eval: bool = False,
        gather_distributed: bool | None = None,
        max_pool_size: int | None = None,
        temperature_unit: Literal["logit", "iqr"] = "logit",
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
        self.temperature_unit = check_unit(temperature_unit)

    def forward(
        self,
        logits: Tensor,
        targets: Tensor,
        iid_mask: Tensor | None = None,
        return_per_class: bool = False,
        *,
        sample_weight: Tensor | None = None,
    ) -> Tensor | PerClass:
        """The loss of logits [N, C] ([N] when binary) at targets [N] or [N, 1].

        Args:
            iid_mask: which rows are independent draws, [N]; queued, but not used by this loss.
            return_per_class: also return the class losses [C] and which are valid, bool [C].
            sample_weight: weights [N]; a positive's weight is its share of the mean over P.
        """
        done = self.evaluate(logits, targets, iid_mask, sample_weight)
        return done.result(return_per_class)

    def class_losses(self, rows: Rows, positives: Tensor) -> Tensor:
        notices = self.notices if self.training else None
        tau = tau_in(self.temperature_unit, self.temperature, rows.scores, notices)
        # Of several runs, each with labels of its own, the lists are few and short.
        path = "each" if rows.labels.ndim > 1 else "auto"
        weights, live = rows.weights, rows.live
        return 1 - smooth_ap(rows.scores, positives, tau=tau, weights=weights, live=live, path=path)


@final
class RecallAtQuantileLoss(TemperedLoss):
    """1 − soft recall among the top ``quantile`` of the pooled scores, one-vs-rest.

        θ = quantile(s, 1 − q), without gradient;   loss = 1 − (1/|P|) Σ_{i∈P} σ((s_i − θ)/τ)

    Only positives receive a gradient, and it vanishes for those further than about ten τ from θ:
    with τ = 0.01 in logits that means all of them in nearly every batch, with
    ``temperature_unit='iqr'`` in hardly any. When q is below the positive rate, recall cannot
    exceed q / rate. A class needs a positive.

    As published with imbalanced-losses 0.6.0.

    Args:
        num_classes: columns of the logits; 1 for binary targets in {0, 1}.
        quantile: q, the share of rows within the alert budget, in (0, 1).
        queue_size: earlier rows remembered; 0 for none. Estimating θ takes a pool of at least 1/q
            rows.
        temperature: τ, in units of ``temperature_unit``.
        reduction: over classes, 'mean', 'sum' or 'none' ([C]).
        ignore_index: target of rows to ignore entirely.
        update_queue_in_eval: let batches join the queue in eval mode too.
        gather_distributed: rank the rows of all processes; None: if several exist; False: never.
        quantile_interpolation: as in `torch.quantile`; 'higher' never undershoots the cutoff.
        max_pool_size: limit on the pool's rows, sampled with a minimum per class; None: no limit.
        temperature_unit: 'logit', or 'iqr' for multiples of the pool's inter-quartile range.

    Raises:
        ValueError: an argument is out of range; in a call, shapes do not match, a target is not a
            class, or a weight is negative or not finite.
    """

    def __init__(
        self,
        num_classes: int,
        quantile: float = 0.005,
        queue_size: int = 1024,
        temperature: float = 0.01,
        reduction: Literal["mean", "sum", "none"] = "mean",
        ignore_index: int = -100,
        update_queue_in_eval: bool = False,
        gather_distributed: bool | None = None,
        quantile_interpolation: Literal[
            "linear", "lower", "higher", "nearest", "midpoint"
        ] = "higher",
        max_pool_size: int | None = None,
        temperature_unit: Literal["logit", "iqr"] = "logit",
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
        if not 0 < quantile < 1:
            raise ValueError(f"quantile is {quantile}, expected a share strictly between 0 and 1")
        self.quantile = float(quantile)
        self.quantile_interpolation = check_interpolation(quantile_interpolation)
        self.temperature_unit = check_unit(temperature_unit)

    def forward(
        self,
        logits: Tensor,
        targets: Tensor,
        iid_mask: Tensor | None = None,
        return_per_class: bool = False,
        *,
        sample_weight: Tensor | None = None,
    ) -> Tensor | PerClass:
        """The loss of logits [N, C] ([N] when binary) at targets [N] or [N, 1].

        Args:
            iid_mask: which rows are independent draws, [N]; queued, but not used by this loss.
            return_per_class: also return the class losses [C] and which are valid, bool [C].
            sample_weight: weights [N]; a positive's weight is its share of the mean over P.
        """
        done = self.evaluate(logits, targets, iid_mask, sample_weight)
        return done.result(return_per_class)

    def class_losses(self, rows: Rows, positives: Tensor) -> Tensor:
        notices = self.notices if self.training else None
        tau = tau_in(self.temperature_unit, self.temperature, rows.scores, notices)
        return 1 - recall_at_quantile(
            rows.scores,
            positives,
            quantile=self.quantile,
            tau=tau,
            interpolation=self.quantile_interpolation,
            weights=rows.weights,
            live=rows.live,
        )


def check_interpolation(interpolation: str) -> str:
    """Return the interpolation rule.

    Raises:
        ValueError: `torch.quantile` has no such rule.
    """
    return check_choice("quantile_interpolation", interpolation, INTERPOLATIONS)

"""A convex surrogate of AUC: the squared hinge over all pairs."""

from typing import ClassVar, Literal, final

from torch import Tensor

from rarelab.functional.pairwise_hinge import all_pairs_squared_hinge
from rarelab.losses.pool import Rows
from rarelab.losses.pooled import PerClass, PooledLoss


@final
class AllPairsSquaredHingeLoss(PooledLoss):
    """Mean squared hinge over all pairs, in log-linear time (Rust & Hocking 2023, algorithm 2).

        loss = mean_{i∈P, j∈N} max(0, margin − (s_i − s_j))²      one-vs-rest

    over a pool of the batch and the last ``queue_size`` rows before it. It bounds 1 − AUROC from
    above (margin = 1), is convex in the scores and needs no warmup. A class needs a positive and a
    negative in the pool; otherwise its entry is NaN under 'none', and 'mean' and 'sum' skip it.

    Fails when: only the top matters. Every pair counts equally, however low it ranks, so the many
    easy negatives outweigh the few at the top; and the square lets outliers and wrong labels
    dominate. Scores are not log-odds.

    Args:
        num_classes: columns of the logits; 1 for binary targets in {0, 1}.
        margin: the lead a positive should have, in logits.
        queue_size: earlier rows remembered; 0 for none, as published.
        reduction: over classes, 'mean', 'sum' or 'none' ([C]).
        ignore_index: target of rows to ignore entirely.
        update_queue_in_eval: let batches join the queue in eval mode too.
        gather_distributed: rank the rows of all processes; None: if several exist; False: never.
        max_pool_size: limit on the pool's rows, sampled with a minimum per class; None: no limit.

    Raises:
        ValueError: an argument is out of range; in a call, shapes do not match, a target is not a
            class, or a weight is negative or not finite.
    """

    needs_warmup: ClassVar[bool] = False

    def __init__(
        self,
        num_classes: int,
        margin: float = 1.0,
        queue_size: int = 1024,
        reduction: Literal["mean", "sum", "none"] = "mean",
        ignore_index: int = -100,
        update_queue_in_eval: bool = False,
        gather_distributed: bool | None = None,
        max_pool_size: int | None = None,
    ) -> None:
        super().__init__(
            num_classes,
            queue_size,
            reduction,
            ignore_index,
            update_queue_in_eval,
            gather_distributed,
            max_pool_size,
        )
        if not 0 < margin < float("inf"):
            raise ValueError(f"margin is {margin}, expected a positive number")
        self.margin = float(margin)

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
            sample_weight: weights [N]; a pair's weight is the product of its rows' weights.
        """
        done = self.evaluate(logits, targets, iid_mask, sample_weight)
        return done.result(return_per_class)

    def class_losses(self, rows: Rows, positives: Tensor) -> Tensor:
        return all_pairs_squared_hinge(
            rows.scores, positives, margin=self.margin, weights=rows.weights, live=rows.live
        )

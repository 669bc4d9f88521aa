"""Cross-entropy with extra weight on the negatives that the model scores highest."""

from collections.abc import Sequence
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from rarelab.functional.hard_negatives import hard_negatives
from rarelab.losses.plain import WeightedBinaryCrossEntropy, mean_or_sum, row_loss
from rarelab.losses.rows import as_column, as_weights, check_reduction, finite_weights


@final
class HardNegativeBinaryCrossEntropy(nn.Module):
    """BCE in which the batch's highest-scored negatives weigh ``hard_weight`` times as much.

        loss = −(1/N) Σ_i [ω t_i log σ(s_i) + h_i (1 − t_i) log(1 − σ(s_i))]
        h_i  = hard_weight for the ⌈hard_fraction · n⌉ highest-scored of the n negatives, else 1

    Which negatives are hard follows from the scores alone (online hard example mining, Shrivastava
    et al., CVPR 2016) and changes as the model does.

    Fails when: some negatives are unlabelled positives, which it pushes down hardest; the batch is
    too small for its top negatives to represent those of the data; the scores are read as log-odds,
    which they no longer are.

    Args:
        hard_fraction: share of the batch's negatives that are up-weighted, in (0, 1].
        hard_weight: their weight, at least 1.
        pos_weight: ω, the weight of a positive; for None the builder fills in the negatives per
            positive of the training batches.
        reduction: over rows, 'mean', 'sum' or 'none'.
        ignore_index: target of rows to ignore.

    Raises:
        ValueError: an argument is out of range; in a call, shapes do not match, a target is not a
            class, or a weight is negative or not finite.
    """

    needs_warmup: ClassVar[bool] = False

    def __init__(
        self,
        hard_fraction: float = 0.01,
        hard_weight: float = 10.0,
        pos_weight: float = 1.0,
        reduction: Literal["mean", "sum", "none"] = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__()
        if not 0 < hard_fraction <= 1:
            raise ValueError(f"hard_fraction is {hard_fraction}, expected in (0, 1]")
        if not 1 <= hard_weight < float("inf"):
            raise ValueError(f"hard_weight is {hard_weight}, expected at least 1")
        self.hard_fraction = float(hard_fraction)
        self.hard_weight = float(hard_weight)
        self.reduction = check_reduction(reduction)
        self.ignore_index = ignore_index
        self.rows = WeightedBinaryCrossEntropy(pos_weight, "none", ignore_index)

    def forward(
        self, logits: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None
    ) -> Tensor:
        """The loss of logits [N] or [N, 1]; ``sample_weight`` [N] further weights rows."""
        losses = self.rows(logits, targets)
        goals = as_column(targets, len(losses), "targets").to(losses.device)
        weights = as_weights(sample_weight, losses.unsqueeze(1))
        keep = goals != self.ignore_index
        scores = logits.detach().view(-1).to(losses.dtype)
        hard = hard_negatives(scores, (goals == 0) & keep, fraction=self.hard_fraction)
        return row_loss(
            losses * torch.where(hard, self.hard_weight, 1.0).to(losses.dtype),
            None if bool(keep.all()) else keep,
            weights,
            self.reduction,
        )

    def together(
        self,
        losses: Sequence["HardNegativeBinaryCrossEntropy"],
        logits: Tensor,
        targets: Tensor,
        sample_weight: Tensor | None,
    ) -> Tensor | None:
        """See :class:`rarelab.losses.protocols.Together`."""
        kinds = {(e.hard_fraction, e.hard_weight, e.reduction, e.ignore_index) for e in losses}
        if len(kinds) > 1:
            return None
        rows = self.rows.together([each.rows for each in losses], logits, targets, None)
        assert rows is not None
        keep, scores = targets != self.ignore_index, logits.detach().squeeze(-1)
        negatives = (targets == 0) & keep
        hard = torch.stack(
            [
                hard_negatives(each, among, fraction=self.hard_fraction)
                for each, among in zip(scores, negatives, strict=True)
            ]
        )
        each = rows * torch.where(hard, self.hard_weight, 1.0).to(rows.dtype)
        if sample_weight is not None:
            each = each * finite_weights(sample_weight.detach()).to(each)
        return mean_or_sum(each, keep, sample_weight, self.reduction)

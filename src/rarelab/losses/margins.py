"""Cross-entropy with logits shifted per class, by its rate or by its number of rows."""

from collections.abc import Sequence
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from rarelab.losses.plain import BinaryCrossEntropy, CrossEntropy
from rarelab.losses.rows import as_labels, as_logits

LEAST_RATE = 1e-8


@final
class LogitAdjustedCrossEntropy(nn.Module):
    """Cross-entropy of s + τ log π, π the class rates (Menon et al., ICLR 2021, eq. 10).

        loss = −log softmax(s + τ log π)_y,    binary:  BCE(s + τ log(π₁/π₀), y)

    With τ = 1 the scores s rank the classes of a row for balanced accuracy: the rates are divided
    out. They are not log-rates at the natural prevalence; add τ log π for those.

    Fails when: there is one logit. It then adds a constant to every score, which a bias absorbs and
    no ranking of rows depends on, so it is equivalent to BCE. It also does nothing for batches that
    are already balanced (π are the rates in the batches).

    Args:
        num_classes: columns of the logits; 1 for binary targets in {0, 1}.
        class_priors: π, [C] (binary: of 0 and of 1), at least 0; the builder fills in the rates in
            the training batches.
        tau: τ >= 0; 0 is cross-entropy.
        reduction: over rows, 'mean', 'sum' or 'none'.
        ignore_index: target of rows to ignore.

    Raises:
        ValueError: an argument is out of range; in a call, shapes do not match, a target is not a
            class, or a weight is negative or not finite.
    """

    needs_warmup: ClassVar[bool] = False

    shift: Tensor

    def __init__(
        self,
        num_classes: int,
        class_priors: Sequence[float],
        tau: float = 1.0,
        reduction: Literal["mean", "sum", "none"] = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__()
        if not 0 <= tau < float("inf"):
            raise ValueError(f"tau is {tau}, expected a number of at least 0")
        rates = _per_class("class_priors", class_priors, num_classes)
        logs = (rates / rates.sum()).clamp_min(LEAST_RATE).log()
        shift = tau * (logs[1:] - logs[:1] if num_classes == 1 else logs)
        self.register_buffer("shift", shift, persistent=False)
        self.rows = _cross_entropy(num_classes, reduction, ignore_index)

    def forward(
        self, logits: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None
    ) -> Tensor:
        """The loss of logits [N, C] ([N] when binary); ``sample_weight`` [N] weights rows."""
        logits = as_logits(logits, len(self.shift))
        return self.rows(logits + self.shift.to(logits), targets, sample_weight=sample_weight)


@final
class LDAMLoss(nn.Module):
    """Cross-entropy with larger margins for rarer classes (Cao et al., NeurIPS 2019, eq. 13).

        loss = −log softmax(scale · (s − Δ_y e_y))_y,   Δ_c = max_margin · (n_min / n_c)^(1/4)

    Binary, with one logit s = s₁ − s₀: softplus(−scale (s − Δ₁)) for a positive, and
    softplus(scale (s + Δ₀)) for a negative. n_c counts the training rows of class c, each once.

    Fails when: the logits have no fixed scale. The paper normalises features and weights and uses
    scale = 30; the heads here do not normalise, so larger weights can outgrow a margin, and with
    scale = 30 an initialisation at the class rates saturates. The paper's second part, re-weighting
    late in training, is not part of the loss.

    Args:
        num_classes: columns of the logits; 1 for binary targets in {0, 1}.
        class_counts: n, [C] (binary: of 0 and of 1); the builder fills in those of training.
        max_margin: the margin of the rarest class, in units of the logits.
        scale: factor applied to the logits after the margin.
        reduction: over rows, 'mean', 'sum' or 'none'.
        ignore_index: target of rows to ignore.

    Raises:
        ValueError: an argument is out of range; in a call, shapes do not match, a target is not a
            class, or a weight is negative or not finite.
    """

    needs_warmup: ClassVar[bool] = False

    margins: Tensor

    def __init__(
        self,
        num_classes: int,
        class_counts: Sequence[float],
        max_margin: float = 0.5,
        scale: float = 1.0,
        reduction: Literal["mean", "sum", "none"] = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__()
        for name, value in (("max_margin", max_margin), ("scale", scale)):
            if not 0 < value < float("inf"):
                raise ValueError(f"{name} is {value}, expected a positive number")
        counts = _per_class("class_counts", class_counts, num_classes).clamp_min(1)
        margins = max_margin * (counts.min() / counts) ** 0.25
        self.register_buffer("margins", margins, persistent=False)
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.scale = float(scale)
        self.rows = _cross_entropy(num_classes, reduction, ignore_index)

    def forward(
        self, logits: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None
    ) -> Tensor:
        """The loss of logits [N, C] ([N] when binary); ``sample_weight`` [N] weights rows."""
        logits = as_logits(logits, self.num_classes)
        classes = len(self.margins)
        labels = as_labels(targets, len(logits), classes, self.ignore_index).to(logits.device)
        own = torch.where(labels == self.ignore_index, 0, labels).clamp(0, classes - 1)
        margin = self.margins.to(logits)[own].unsqueeze(1)
        if self.num_classes == 1:
            moved = logits - (2 * own.unsqueeze(1) - 1) * margin
        else:
            moved = logits.scatter_add(1, own.unsqueeze(1), -margin)
        return self.rows(self.scale * moved, labels, sample_weight=sample_weight)


def _cross_entropy(num_classes: int, reduction, ignore_index: int) -> nn.Module:
    if num_classes == 1:
        return BinaryCrossEntropy(reduction, ignore_index)
    return CrossEntropy(num_classes, reduction=reduction, ignore_index=ignore_index)


def _per_class(name: str, values: Sequence[float], num_classes: int) -> Tensor:
    expected = max(2, num_classes)
    found = torch.as_tensor(values, dtype=torch.float64)
    if found.shape != (expected,) or not bool((found >= 0).all()) or not found.sum() > 0:
        raise ValueError(f"{name} is {list(values)}, expected {expected} numbers of at least 0")
    return found

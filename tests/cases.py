"""All losses of the package in one list, with the properties that each is tested for."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

import reference_soap
from rarelab import losses


@dataclass(frozen=True)
class Case:
    """How to build and feed a loss, and which degenerate batches it can evaluate."""

    name: str
    make: Callable[..., nn.Module]  # takes ignore_index=, and reduction= if it reduces
    width: int  # columns of the logits
    pooled: bool = False
    shift_invariant: bool = True
    needs_positive: bool = False
    needs_negative: bool = False
    fixed_ignore_index: bool = False  # the published signature has no ignore_index
    any_width: bool = False  # takes the number of classes from the logits
    soft_targets: bool = False
    reduces: bool = True  # takes reduction=
    takes_weights: bool = True  # takes sample_weight=
    signed: bool = False  # a surrogate whose value may be negative

    def batch(self, rows: int = 24, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Logits [rows, width] that require grad, and labels in which every class occurs."""
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(rows, self.width, generator=generator).requires_grad_()
        classes = max(2, self.width)
        return logits, torch.arange(rows) * 7 % rows % classes


def pooled(name: str, make: Callable[..., nn.Module], **facts: Any) -> list[Case]:
    """A loss that takes ``num_classes``: one binary case, one with three classes."""
    return [
        Case(f"{name}[{width}]", _with_classes(make, width), width, pooled=True, **facts)
        for width in (1, 3)
    ]


def _with_classes(make: Callable[..., nn.Module], width: int) -> Callable[..., nn.Module]:
    return lambda **arguments: make(width, **arguments)


def per_class(name: str, make: Callable[..., nn.Module], soft_targets: bool) -> list[Case]:
    """A loss that takes ``num_classes`` and one number per class: binary and with three classes."""
    numbers = {1: [30.0, 5.0], 3: [30.0, 10.0, 5.0]}
    return [
        Case(
            f"{name}[{width}]",
            partial(make, width, values),
            width,
            shift_invariant=width > 1,
            soft_targets=soft_targets and width == 1,
        )
        for width, values in numbers.items()
    ]


def _sigmoid_focal(ignore_index: int = -100, **arguments: Any) -> nn.Module:
    assert ignore_index == -100
    return losses.SigmoidFocalLoss(**arguments)


def _sampled(width: int, **arguments: Any) -> nn.Module:
    return losses.SmoothAPLoss(width, queue_size=64, max_pool_size=48, **arguments)


def _warmed(**arguments: Any) -> nn.Module:
    loss = losses.LossWarmupWrapper(
        losses.BinaryCrossEntropy(**arguments),
        losses.SmoothAPLoss(1, queue_size=64, **arguments),
        warmup_epochs=1,
        blend_epochs=1,
    )
    loss.on_train_epoch_start(1)
    loss.on_train_batch_start(10)
    return loss


class WithRows(nn.Module):
    """Passes each batch's training row indices to the loss, as the trainer does."""

    def __init__(self, loss: losses.APLoss) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        self.loss.on_train_batch_rows(torch.arange(len(logits)))
        return self.loss(logits, targets)


def _soap(**arguments: Any) -> nn.Module:
    if find_spec("libauc") is not None:
        return WithRows(losses.APLoss(1, 64, **arguments))
    with mock.patch("rarelab.losses.soap._libauc", lambda: reference_soap.Published):
        return WithRows(losses.APLoss(1, 64, **arguments))


CASES = [
    Case(
        "BinaryCrossEntropy",
        losses.BinaryCrossEntropy,
        1,
        shift_invariant=False,
        soft_targets=True,
    ),
    Case(
        "WeightedBinaryCrossEntropy",
        lambda **arguments: losses.WeightedBinaryCrossEntropy(3.0, **arguments),
        1,
        shift_invariant=False,
        soft_targets=True,
    ),
    Case(
        "HardNegativeBinaryCrossEntropy",
        lambda **arguments: losses.HardNegativeBinaryCrossEntropy(0.3, 5.0, 3.0, **arguments),
        1,
        shift_invariant=False,
        soft_targets=True,
    ),
    Case(
        "SigmoidFocalLoss",
        _sigmoid_focal,
        1,
        shift_invariant=False,
        soft_targets=True,
        fixed_ignore_index=True,
    ),
    Case("SoftmaxFocalLoss", losses.SoftmaxFocalLoss, 3, any_width=True),
    Case(
        "SoftmaxFocalLoss.weighted",
        lambda **arguments: losses.SoftmaxFocalLoss(
            [0.5, 1.0, 2.0], 1.5, label_smoothing=0.1, **arguments
        ),
        3,
        any_width=True,
    ),
    *per_class("LogitAdjustedCrossEntropy", losses.LogitAdjustedCrossEntropy, soft_targets=True),
    *per_class("LDAMLoss", losses.LDAMLoss, soft_targets=False),
    Case("CrossEntropy", _with_classes(losses.CrossEntropy, 3), 3),
    Case(
        "APLoss",
        _soap,
        1,
        needs_positive=True,
        needs_negative=True,
        reduces=False,
        takes_weights=False,
        signed=True,
    ),
    Case("LossWarmupWrapper", _warmed, 1, pooled=True, shift_invariant=False),
    *pooled(
        "AllPairsSquaredHingeLoss",
        losses.AllPairsSquaredHingeLoss,
        needs_positive=True,
        needs_negative=True,
    ),
    *pooled("SmoothAPLoss", losses.SmoothAPLoss, needs_positive=True, needs_negative=True),
    *pooled("SmoothAPLoss.sampled", _sampled, needs_positive=True, needs_negative=True),
    *pooled("RecallAtQuantileLoss", losses.RecallAtQuantileLoss, needs_positive=True),
    *pooled("PAUCAtBudgetLoss", losses.PAUCAtBudgetLoss, needs_positive=True, needs_negative=True),
    *pooled(
        "PAUCAtBudgetLoss.pairwise",
        lambda width, **arguments: losses.PAUCAtBudgetLoss(
            width,
            0.1,
            0.6,
            "pairwise",
            pos_numerator="live",
            budget_basis="population",
            **arguments,
        ),
        needs_positive=True,
        needs_negative=True,
    ),
    *pooled(
        "PAUCAtBudgetLoss.wide",
        lambda width, **arguments: losses.PAUCAtBudgetLoss(
            width, 0.0, 0.5, n_knots=3, tau_scale="band", temperature=1.0, **arguments
        ),
        needs_positive=True,
        needs_negative=True,
    ),
    *pooled(
        "SmoothAPLoss.iqr",
        lambda width, **arguments: losses.SmoothAPLoss(
            width, temperature=0.1, temperature_unit="iqr", **arguments
        ),
        needs_positive=True,
        needs_negative=True,
    ),
    *pooled(
        "RecallAtQuantileLoss.iqr",
        lambda width, **arguments: losses.RecallAtQuantileLoss(
            width, temperature=0.1, temperature_unit="iqr", **arguments
        ),
        needs_positive=True,
    ),
]


def public_losses() -> set[str]:
    """The names of the package's public loss classes."""
    return {
        name
        for name in losses.__all__
        if isinstance(made := getattr(losses, name), type) and issubclass(made, nn.Module)
    }


def covered(case: Case) -> str:
    """The name of the loss class that a case tests."""
    return case.name.partition("[")[0].partition(".")[0]

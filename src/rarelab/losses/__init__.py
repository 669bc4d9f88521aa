"""Losses of ``(logits, targets)``: ranking ones with a queue, plain ones, and the way between."""

from rarelab.losses.focal import SigmoidFocalLoss, SoftmaxFocalLoss
from rarelab.losses.hard_negative import HardNegativeBinaryCrossEntropy
from rarelab.losses.margins import LDAMLoss, LogitAdjustedCrossEntropy
from rarelab.losses.pairwise import AllPairsSquaredHingeLoss
from rarelab.losses.pauc import PAUCAtBudgetLoss
from rarelab.losses.plain import (
    BinaryCrossEntropy,
    CrossEntropy,
    WeightedBinaryCrossEntropy,
    plain_loss,
)
from rarelab.losses.ranking import RecallAtQuantileLoss, SmoothAPLoss
from rarelab.losses.soap import APLoss
from rarelab.losses.warmup import LossWarmupWrapper, constant

__all__ = [
    "APLoss",
    "AllPairsSquaredHingeLoss",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "HardNegativeBinaryCrossEntropy",
    "LDAMLoss",
    "LogitAdjustedCrossEntropy",
    "LossWarmupWrapper",
    "PAUCAtBudgetLoss",
    "RecallAtQuantileLoss",
    "SigmoidFocalLoss",
    "SmoothAPLoss",
    "SoftmaxFocalLoss",
    "WeightedBinaryCrossEntropy",
    "constant",
    "plain_loss",
]

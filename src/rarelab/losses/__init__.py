"""Losses of ``(logits, targets)``: ranking ones with a queue, plain ones, and the way between."""

from rarelab.losses.plain import (
    BinaryCrossEntropy,
    CrossEntropy,
    WeightedBinaryCrossEntropy,
    plain_loss,
)
from rarelab.losses.ranking import RecallAtQuantileLoss, SmoothAPLoss
from rarelab.losses.warmup import LossWarmupWrapper, constant

__all__ = [
    "BinaryCrossEntropy",
    "CrossEntropy",
    "LossWarmupWrapper",
    "RecallAtQuantileLoss",
    "SmoothAPLoss",
    "WeightedBinaryCrossEntropy",
    "constant",
    "plain_loss",
]

"""Losses of ``(logits, targets)``: ranking losses, plain losses, and the schedule between them."""

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
    "APLoss",  # LibAUC's SOAP, an average-precision surrogate (needs libauc)
    "AllPairsSquaredHingeLoss",  # a convex AUC surrogate, in log-linear time
    "BinaryCrossEntropy",  # the baseline for one logit
    "CrossEntropy",  # the baseline for C classes
    "HardNegativeBinaryCrossEntropy",  # BCE with the highest-scored negatives up-weighted
    "LDAMLoss",  # cross-entropy with larger margins for rarer classes
    "LogitAdjustedCrossEntropy",  # cross-entropy of logits shifted by the class rates
    "LossWarmupWrapper",  # a warmup loss, a blend, then a ranking loss whose temperature decays
    "PAUCAtBudgetLoss",  # 1 − soft partial AUC over the false-positive rates within a budget
    "RecallAtQuantileLoss",  # 1 − soft recall among the top-scored share of rows
    "SigmoidFocalLoss",  # focal loss of independent logits
    "SmoothAPLoss",  # 1 − soft average precision
    "SoftmaxFocalLoss",  # focal loss over C mutually exclusive classes
    "WeightedBinaryCrossEntropy",  # BCE with a weight for positives
    "constant",  # no schedule: the main loss from the first step on
    "plain_loss",  # the cross-entropy for a number of classes
]

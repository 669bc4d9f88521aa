"""Ranking and focal kernels: tensors in, tensors out; no state, no configuration.

The last dimension of ``scores`` is a ranked list; leading dimensions batch lists (classes).
Options are keyword-only. Nothing here imports from the rest of the package.
"""

from rarelab.functional.focal import sigmoid_focal, softmax_focal
from rarelab.functional.hard_negatives import hard_negatives
from rarelab.functional.order import iqr, masked_quantiles, quantile
from rarelab.functional.pairwise_hinge import all_pairs_squared_hinge
from rarelab.functional.pauc import pauc_at_budget, pauc_diagnostics
from rarelab.functional.recall import recall_at_quantile
from rarelab.functional.smooth_ap import smooth_ap

__all__ = [
    "all_pairs_squared_hinge",  # mean squared hinge over all (positive, negative) pairs: AUC
    "hard_negatives",  # mask of the highest-scored negatives
    "iqr",  # inter-quartile range
    "masked_quantiles",  # several quantiles of the entries selected by a mask
    "pauc_at_budget",  # soft partial AUC over the false-positive rates within a budget
    "pauc_diagnostics",  # its thresholds, temperature, counts and variance
    "quantile",  # torch.quantile by partial selection, for any size and dtype
    "recall_at_quantile",  # soft recall among the top-scored share of rows
    "sigmoid_focal",  # focal loss of independent logits, elementwise
    "smooth_ap",  # soft average precision
    "softmax_focal",  # focal loss over C mutually exclusive classes, per row
]

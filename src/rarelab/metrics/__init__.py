"""Exact metrics of scored rows, and the set of them that is recorded."""

from rarelab.metrics.exact import (
    auroc,
    average_precision,
    brier,
    expected_calibration_error,
    one_vs_rest,
    partial_auroc,
    precision_at_quantile,
    precision_at_recall,
    probabilities_of,
    recall_at_fpr,
    recall_at_quantile,
    safe_names,
)
from rarelab.metrics.recorded import calibration_errors, evaluate, validation_metrics

__all__ = [
    "auroc",
    "average_precision",
    "brier",
    "calibration_errors",
    "evaluate",
    "expected_calibration_error",
    "one_vs_rest",
    "partial_auroc",
    "precision_at_quantile",
    "precision_at_recall",
    "probabilities_of",
    "recall_at_fpr",
    "recall_at_quantile",
    "safe_names",
    "validation_metrics",
]

"""Exact ranking metrics on raw scores, with ties, and calibration errors.

Scores are logits: only the calibration errors use a sigmoid or softmax, since float32 probabilities
tie where large logits do not. The caller removes rows to ignore (padding). A NaN score makes every
metric of its class NaN. ``sample_weight`` [N] weights rows; the top ``quantile`` is then that share
of the total weight.

Multi-class metrics are one-vs-rest on ``logits[:, c]``, averaged over the classes present in
``targets`` (macro).
"""

import math
import re
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rarelab.metrics import tie_groups as ties
from rarelab.metrics.tie_groups import as_mask, tie_groups

ECE_BINS = 15


def average_precision(
    scores: Tensor, positives: Tensor, *, sample_weight: Tensor | None = None
) -> float:
    """Average precision (area under the precision-recall steps) of scores [N], positives [N] bool.

    AP = Σ_g (R_g − R_{g−1}) · P_g over the groups of tied scores: scikit-learn's
    ``average_precision_score``. NaN without a positive.
    """
    return ties.average_precision(tie_groups(scores, positives, sample_weight))


def auroc(scores: Tensor, positives: Tensor, *, sample_weight: Tensor | None = None) -> float:
    """Area under the ROC curve, ties counted half. NaN without a positive or a negative."""
    return ties.auroc(tie_groups(scores, positives, sample_weight))


def recall_at_quantile(
    scores: Tensor, positives: Tensor, *, quantile: float, sample_weight: Tensor | None = None
) -> float:
    """Share of the positives among the top ⌈qN⌉ rows, expected over random order among ties.

    Also known as coverage at the budget q. It cannot exceed ⌈qN⌉ / P, so it stays below 1 when q is
    below the positive rate. NaN without a positive. Raises ValueError
    unless 0 < quantile <= 1.
    """
    return ties.recall_in_top(tie_groups(scores, positives, sample_weight), quantile)


def precision_at_quantile(
    scores: Tensor, positives: Tensor, *, quantile: float, sample_weight: Tensor | None = None
) -> float:
    """Share of positives in the top ⌈qN⌉ rows, expected over random order among ties.

    0 without a positive, NaN without rows. Raises ValueError unless 0 < quantile <= 1.
    """
    return ties.precision_in_top(tie_groups(scores, positives, sample_weight), quantile)


def recall_at_fpr(
    scores: Tensor, positives: Tensor, *, fpr: float, sample_weight: Tensor | None = None
) -> float:
    """Largest recall over the thresholds "score >= t" with false-positive rate at most ``fpr``.

    No interpolation: a tie group is included entirely or not at all. NaN without a positive or a
    negative.
    """
    return ties.recall_at_fpr(tie_groups(scores, positives, sample_weight), fpr)


def precision_at_recall(
    scores: Tensor, positives: Tensor, *, recall: float, sample_weight: Tensor | None = None
) -> float:
    """Precision at the highest threshold "score >= t" whose recall is at least ``recall``.

    NaN without a positive. Raises ValueError unless 0 < recall <= 1.
    """
    if not 0 < recall <= 1:
        raise ValueError(f"recall must lie in (0, 1], got {recall}")
    return ties.precision_at_recall(tie_groups(scores, positives, sample_weight), recall)


def partial_auroc(
    scores: Tensor, positives: Tensor, *, fpr: float, sample_weight: Tensor | None = None
) -> float:
    """Mean recall over false-positive rates from 0 to ``fpr`` (normalised partial AUC; perfect: 1).

    A random scorer has fpr / 2. McClish's standardised value (Medical Decision Making 1989), as in
    scikit-learn's ``roc_auc_score(max_fpr=)``, is ½ (1 + (p − fpr/2) / (1 − fpr/2)). NaN without a
    positive or a negative. Raises ValueError unless 0 < fpr <= 1.
    """
    if not 0 < fpr <= 1:
        raise ValueError(f"fpr must lie in (0, 1], got {fpr}")
    return ties.partial_auroc(tie_groups(scores, positives, sample_weight), fpr)


def brier(probabilities: Tensor, positives: Tensor) -> float:
    """Mean of (p − y)² over rows, [N] each (Brier 1950, for one class). NaN without rows."""
    error = probabilities.detach().cpu().double() - torch.from_numpy(as_mask(positives)).double()
    return float(error.square().mean()) if len(error) else math.nan


def expected_calibration_error(
    probabilities: Tensor, positives: Tensor, *, bins: int = ECE_BINS
) -> float:
    """Σ_b (n_b / N) · |mean p − mean y| over ``bins`` equal-width bins of p in [0, 1].

    p is the probability of the class itself, not of the top label (Naeini et al. 2015 in the binary
    case; classwise, Kull et al. 2019). Bin b holds b/bins <= p < (b+1)/bins, the last one also
    p = 1. With rare positives nearly all rows share the first bin, so compare it with the
    prevalence. NaN without rows or with a NaN probability.
    """
    p, y = probabilities.detach().cpu().double(), torch.from_numpy(as_mask(positives)).double()
    if len(p) == 0 or bool(p.isnan().any()):
        return math.nan
    index = (p * bins).long().clamp(0, bins - 1)
    gap = torch.zeros(bins, dtype=torch.float64).index_add_(0, index, p - y)
    return float(gap.abs().sum() / len(p))


def one_vs_rest(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Scores [N, C] and positives [N, C] bool: one ranking problem per column, on the CPU.

    C = 1 (or logits [N]) is the binary case, where the positives are the rows with target 1.
    Raises ValueError for other shapes and for targets that are not a class (such as padding).
    """
    logits, targets = logits.detach().cpu(), targets.detach().cpu()
    scores = logits.unsqueeze(1) if logits.ndim == 1 else logits
    targets = targets.squeeze(1) if targets.ndim == 2 and targets.shape[1] == 1 else targets
    if scores.ndim != 2 or targets.ndim != 1 or len(scores) != len(targets):
        raise ValueError(
            f"logits must be [N, C] and targets [N], got {list(logits.shape)} "
            f"and {list(targets.shape)}"
        )
    labels = targets.long()
    if not bool((labels == targets).all()):
        raise ValueError("targets must be class indices, found a fraction or NaN")
    n_classes = max(scores.shape[1], 2)
    if len(labels) and (int(labels.min()) < 0 or int(labels.max()) >= n_classes):
        raise ValueError(
            f"targets must lie in 0..{n_classes - 1} (remove ignored rows first), "
            f"found {int(labels.min())}..{int(labels.max())}"
        )
    first = 1 if scores.shape[1] == 1 else 0
    return scores, labels.unsqueeze(1) == torch.arange(first, n_classes)


def safe_names(names: Sequence[str]) -> list[str]:
    """Class names made safe and unique as parts of a metric key, in order.

    MLflow accepts letters, digits, ``_ - . : /`` and space, up to 250 characters per key. Other
    characters (and ``/``, which would nest the key) become ``_``; names are cut to 200 characters,
    and collisions get a suffix ``:2``, ``:3``, ...
    """
    taken: set[str] = set()
    safe = []
    for name in names:
        stem = re.sub(r"[^A-Za-z0-9_\-.: ]", "_", str(name))[:200].strip(" .") or "_"
        unique, count = stem, 1
        while unique in taken:
            count += 1
            unique = f"{stem}:{count}"
        taken.add(unique)
        safe.append(unique)
    return safe


def as_logits(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Another program's scores [N] as logits of two classes: log-odds if all lie in 0..1, as
    probabilities do, else as they are. Double precision, since float32 would tie some of them."""
    if scores.min(initial=0) < 0 or scores.max(initial=1) > 1:
        return scores
    tiny = np.finfo(np.float64).tiny
    return np.log(np.maximum(scores, tiny)) - np.log(np.maximum(1 - scores, tiny))


def probabilities_of(scores: Tensor) -> Tensor:
    """Probabilities of scores [N, C] read as log-odds (C = 1) or log-rates: float64 [N, C]."""
    wide = scores.double()
    return wide.sigmoid() if scores.shape[1] == 1 else wide.softmax(dim=1)

"""Slow double-loop transcriptions of the published formulas, in numpy float64 only.

Nothing here is clever and nothing is shared with the package, so that equality means something.
"""

import math

import numpy as np


def sigmoid(x: float) -> float:
    """1 / (1 + exp(−x)) without overflow on either side."""
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    return math.exp(x) / (1.0 + math.exp(x))


def slope(x: float) -> float:
    """The derivative of the logistic function."""
    e = math.exp(-abs(x))
    return e / (1.0 + e) ** 2


def smooth_ap(scores, positives, tau, weights=None) -> float:
    """Smooth-AP: Brown, Xie, Kalogeiton, Zisserman, ECCV 2020, eq. 6 and 7."""
    total = mass = 0.0
    for i in np.flatnonzero(positives):
        rank_all = rank_positive = 1.0
        for j in range(len(scores)):
            if j == i:
                continue
            step = sigmoid((scores[j] - scores[i]) / tau)
            rank_all += step
            if positives[j]:
                rank_positive += step
        weight = 1.0 if weights is None else weights[i]
        total += weight * rank_positive / rank_all
        mass += weight
    return total / mass if mass > 0 and not all(positives) else math.nan


def smooth_ap_gradient(scores, positives, tau, weights=None) -> np.ndarray:
    """d smooth_ap / d scores: the quotient rule on every term of eq. 6, pair by pair."""
    gradient = np.zeros(len(scores))
    mass = 0.0
    for i in np.flatnonzero(positives):
        b, n = 1.0, 0.0  # soft rank among positives, soft number of negatives above
        for j in range(len(scores)):
            if j == i:
                continue
            step = sigmoid((scores[j] - scores[i]) / tau)
            b, n = (b + step, n) if positives[j] else (b, n + step)
        weight = 1.0 if weights is None else weights[i]
        mass += weight
        for j in range(len(scores)):
            if j == i:
                continue
            rise = slope((scores[j] - scores[i]) / tau) / tau
            change = weight * (n if positives[j] else -b) / (b + n) ** 2 * rise
            gradient[j] += change
            gradient[i] -= change
    return gradient / mass


def average_precision(scores, positives) -> float:
    """Exact average precision: the soft rank with the step ``>=`` (ties count as above)."""
    total = 0.0
    for i in np.flatnonzero(positives):
        above = [j for j in range(len(scores)) if scores[j] >= scores[i]]
        total += sum(bool(positives[j]) for j in above) / len(above)
    return total / int(np.sum(positives))


def quantile(values, q, interpolation="linear") -> float:
    """Order statistic at rank q (n − 1) of the sorted values, by one of five rules."""
    ordered = sorted(values)
    rank = q * (len(ordered) - 1)
    low, high = math.floor(rank), math.ceil(rank)
    return {
        "lower": ordered[low],
        "higher": ordered[high],
        "nearest": ordered[round(rank)],
        "midpoint": (ordered[low] + ordered[high]) / 2,
        "linear": ordered[low] + (rank - low) * (ordered[high] - ordered[low]),
    }[interpolation]


def recall_at_quantile(
    scores, positives, fraction, tau, interpolation="higher", weights=None
) -> float:
    """Soft recall above the (1 − fraction) quantile of all scores (proxy-losses, README)."""
    threshold = quantile(scores, 1.0 - fraction, interpolation)
    total = mass = 0.0
    for i in np.flatnonzero(positives):
        weight = 1.0 if weights is None else weights[i]
        total += weight * sigmoid((scores[i] - threshold) / tau)
        mass += weight
    return total / mass if mass > 0 else math.nan


def pauc_at_budget(
    scores,
    positives,
    *,
    alpha=0.0,
    beta=0.005,
    tau=0.1,
    surrogate="trapezoid",
    n_knots=2,
    scale="iqr",
    basis="fpr",
    iid=None,
    weights=None,
    numerator=None,
    interpolation="higher",
) -> float:
    """Normalised partial AUC over an FPR band (imbalanced-losses 0.6.0, its pAUC page)."""
    iid = [True] * len(scores) if iid is None else iid
    numerator = positives if numerator is None else np.asarray(numerator) & positives
    reference = [
        s
        for s, positive, kept in zip(scores, positives, iid, strict=True)
        if kept and (basis == "population" or not positive)
    ]
    if not reference or not np.any(numerator):
        return math.nan
    t_alpha = quantile(reference, 1.0 - alpha, interpolation)
    t_beta = quantile(reference, 1.0 - beta, interpolation)
    spread = t_alpha - t_beta
    if scale == "iqr":
        spread = quantile(reference, 0.75, interpolation) - quantile(reference, 0.25, interpolation)
    if spread <= 1e-12:
        return math.nan
    ups = [i for i in range(len(scores)) if numerator[i]]
    weight = {i: 1.0 if weights is None else weights[i] for i in ups}
    mass = sum(weight.values())

    def true_positive_rate(threshold):
        return (
            sum(weight[i] * sigmoid((scores[i] - threshold) / (tau * spread)) for i in ups) / mass
        )

    if surrogate == "pairwise":
        band = [
            s for s, p in zip(scores, positives, strict=True) if not p and t_beta <= s <= t_alpha
        ]
        return sum(map(true_positive_rate, band)) / len(band) if band else math.nan
    rates = [
        true_positive_rate(quantile(reference, 1.0 - level, interpolation))
        for level in np.linspace(alpha, beta, n_knots)
    ]
    return float(np.trapezoid(rates) / (n_knots - 1))

"""Slow, literal implementations of the published formulas: double loops in float64.

Deliberately naive and independent of the package, so that agreement is evidence.
"""

import math

import numpy as np


def sigmoid(x: float) -> float:
    """1 / (1 + exp(−x)) without overflow for large |x|."""
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
    """d smooth_ap / d scores: the quotient rule applied to every term of eq. 6, pair by pair."""
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
    """Exact average precision: a hard step ``>=`` instead of the sigmoid (ties rank above)."""
    total = 0.0
    for i in np.flatnonzero(positives):
        above = [j for j in range(len(scores)) if scores[j] >= scores[i]]
        total += sum(bool(positives[j]) for j in above) / len(above)
    return total / int(np.sum(positives))


def quantile(values, q, interpolation="linear") -> float:
    """Quantile at rank q (n − 1) of the sorted values, by one of numpy's five rules."""
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


def sigmoid_focal(score, target, alpha, gamma) -> float:
    """Focal loss of one logit: Lin, Goyal, Girshick, He, Dollár, ICCV 2017, eq. 5."""
    p = sigmoid(score)
    right = p * target + (1.0 - p) * (1.0 - target)
    entropy = -(target * math.log(p) + (1.0 - target) * math.log(1.0 - p))
    weight = 1.0 if alpha < 0 else alpha * target + (1.0 - alpha) * (1.0 - target)
    return weight * (1.0 - right) ** gamma * entropy


def softmax(row) -> list[float]:
    """exp(s_c) / Σ exp(s)."""
    top = max(row)
    parts = [math.exp(s - top) for s in row]
    return [part / sum(parts) for part in parts]


def softmax_focal(row, label, gamma, alpha=None, smoothing=0.0) -> float:
    """Focal loss of one row of C logits: eq. 5 of the same paper, with softmax for sigmoid."""
    p = softmax(row)
    goal = [smoothing / len(row) + (1.0 - smoothing) * (c == label) for c in range(len(row))]
    entropy = -sum(share * math.log(part) for share, part in zip(goal, p, strict=True))
    return (1.0 if alpha is None else alpha[label]) * (1.0 - p[label]) ** gamma * entropy


def hard_negative_bce(scores, labels, fraction, hard_weight, pos_weight) -> float:
    """BCE with the top ⌈fraction · n⌉ negatives upweighted (Shrivastava et al., CVPR 2016)."""
    negatives = sorted((s for s, y in zip(scores, labels, strict=True) if not y), reverse=True)
    hardest = negatives[: math.ceil(round(fraction * len(negatives), 9))]
    total = 0.0
    for score, label in zip(scores, labels, strict=True):
        if label:
            total -= pos_weight * math.log(sigmoid(score))
        else:
            total -= (hard_weight if score in hardest else 1.0) * math.log(sigmoid(-score))
    return total / len(scores)


def logit_adjusted(row, label, rates, tau) -> float:
    """Logit-adjusted cross-entropy: Menon et al., ICLR 2021, eq. 10."""
    moved = [s + tau * math.log(rate) for s, rate in zip(row, rates, strict=True)]
    return -math.log(softmax(moved)[label])


def ldam(row, label, counts, max_margin, scale) -> float:
    """LDAM: Cao et al., NeurIPS 2019, eq. 13, with the largest margin equal to ``max_margin``."""
    raw = [1.0 / count**0.25 for count in counts]
    moved = list(row)
    moved[label] -= raw[label] * max_margin / max(raw)
    return -math.log(softmax([scale * s for s in moved])[label])


def all_pairs_squared_hinge(scores, positives, margin, weights=None) -> float:
    """Squared hinge over all pairs: Rust and Hocking 2023, eq. 2, as a weighted mean."""
    weights = [1.0] * len(scores) if weights is None else weights
    total = mass = 0.0
    for i in np.flatnonzero(positives):
        for j in np.flatnonzero(~np.asarray(positives)):
            weight = weights[i] * weights[j]
            total += weight * max(0.0, margin - (scores[i] - scores[j])) ** 2
            mass += weight
    return total / mass if mass > 0 else math.nan


def all_pairs_squared_hinge_gradient(scores, positives, margin, weights=None) -> np.ndarray:
    """d all_pairs_squared_hinge / d scores, pair by pair."""
    weights = [1.0] * len(scores) if weights is None else weights
    gradient, mass = np.zeros(len(scores)), 0.0
    for i in np.flatnonzero(positives):
        for j in np.flatnonzero(~np.asarray(positives)):
            weight = weights[i] * weights[j]
            slope = 2.0 * weight * max(0.0, margin - (scores[i] - scores[j]))
            gradient[i] -= slope
            gradient[j] += slope
            mass += weight
    return gradient / mass


def bin_edges_by_value(column: list[float], most: int) -> list[float]:
    """The edges of at most ``most`` bins: the commonest value takes an edge of its own as long as
    it fills more than an edge's share of the rows left; the others are at quantiles of the rest."""
    rest, own = sorted(column), []
    while rest:
        commonest = max(set(rest), key=rest.count)
        if rest.count(commonest) <= len(rest) / (most + 1 - len(own)):
            break
        own.append(commonest)
        rest = [value for value in rest if value != commonest]
    left = most + 1 - len(own)
    shares = [i / (left - 1) if left > 1 else 0.0 for i in range(left)]
    spread = [_quantile(rest, share) for share in shares] if rest else []
    return sorted({float(np.float32(value)) for value in (*own, *spread)})


def _quantile(ordered: list[float], share: float) -> float:
    at = share * (len(ordered) - 1)
    low = min(int(at), len(ordered) - 2) if len(ordered) > 1 else 0
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])

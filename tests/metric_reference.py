"""Slow, literal implementations of the metric definitions: plain loops over rows."""

import itertools
import math
from fractions import Fraction


def average_precision(scores, positives) -> float:
    """Mean over the positives i of #{positive j: s_j >= s_i} / #{j: s_j >= s_i}."""
    found = []
    for s_i, y_i in zip(scores, positives, strict=True):
        if y_i:
            rank = sum(s_j >= s_i for s_j in scores)
            hits = sum(s_j >= s_i for s_j, y_j in zip(scores, positives, strict=True) if y_j)
            found.append(hits / rank)
    return sum(found) / len(found)


def auroc(scores, positives) -> float:
    """Share of (positive, negative) pairs in the right order, a tie counting one half."""
    won = []
    for s_i, y_i in zip(scores, positives, strict=True):
        for s_j, y_j in zip(scores, positives, strict=True):
            if y_i and not y_j:
                won.append((s_i > s_j) + (s_i == s_j) / 2)
    return sum(won) / len(won)


def hits_in_top(scores, positives, size: int) -> float:
    """Mean number of positives in the first ``size`` rows of a stable sort, over all permutations
    of the input (so that ties are broken uniformly). Up to 7 rows."""
    rows = list(zip(scores, positives, strict=True))
    found = []
    for order in itertools.permutations(rows):
        ranked = sorted(order, key=lambda row: -row[0])
        found.append(sum(bool(y) for _, y in ranked[:size]))
    return sum(found) / len(found)


def hits_of_the_first(scores, positives, size: int) -> float:
    """Expected positives in the first ``size`` rows; a tie at the cut-off counts pro rata."""
    rows = list(zip(scores.tolist(), positives.tolist(), strict=True))
    found, left = 0.0, size
    for score in sorted({s for s, _ in rows}, reverse=True):
        tied = [y for s, y in rows if s == score]
        found += sum(tied) * min(left, len(tied)) / len(tied)
        left = max(0, left - len(tied))
    return found


def top_size(quantile: str, rows: int) -> int:
    """⌈qN⌉, exactly, for q given as decimal text."""
    return math.ceil(Fraction(quantile) * rows)


def recall_at_fpr(scores, positives, fpr: str) -> float:
    """Best recall over all thresholds (including +inf) whose FPR is at most ``fpr``."""
    n_positives = sum(map(bool, positives))
    n_negatives = len(scores) - n_positives
    best = 0.0
    for threshold in scores:
        taken = [y for s, y in zip(scores, positives, strict=True) if s >= threshold]
        hits = sum(map(bool, taken))
        if Fraction(len(taken) - hits, n_negatives) <= Fraction(fpr):
            best = max(best, hits / n_positives)
    return best


def precision_at_recall(scores, positives, recall: Fraction) -> float:
    """Precision at the highest threshold "score >= t" whose recall is at least ``recall``."""
    n_positives = sum(map(bool, positives))
    for threshold in sorted(set(scores), reverse=True):
        taken = [y for s, y in zip(scores, positives, strict=True) if s >= threshold]
        if Fraction(sum(map(bool, taken)), n_positives) >= recall:
            return sum(map(bool, taken)) / len(taken)
    raise AssertionError("the lowest threshold has recall 1")


def brier(probabilities, positives) -> float:
    """Mean squared difference of probability and outcome."""
    pairs = list(zip(probabilities, positives, strict=True))
    return sum((p - bool(y)) ** 2 for p, y in pairs) / len(pairs)


def expected_calibration_error(probabilities, positives, bins: int) -> float:
    """Weighted mean over bins of |mean probability − observed frequency|."""
    total = 0.0
    for b in range(bins):
        last = b == bins - 1
        inside = [
            (p, bool(y))
            for p, y in zip(probabilities, positives, strict=True)
            if b <= p * bins < b + 1 or (last and p * bins >= bins)
        ]
        if inside:
            mean_p = sum(p for p, _ in inside) / len(inside)
            mean_y = sum(y for _, y in inside) / len(inside)
            total += len(inside) / len(probabilities) * abs(mean_p - mean_y)
    return total

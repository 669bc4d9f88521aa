"""Points for the reliability figure: are rows with probability p positive a share p of the time?"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rarelab.metrics.tie_groups import as_mask

MOST_BINS = 12
FEWEST_POSITIVES = 5
_Z = 1.96


def reliability(
    probabilities: Tensor, positives: Tensor, repeats: int = 1
) -> dict[str, list[float]]:
    """Rows [N, C] binned by probability, all columns together; lists over the bins, highest first.

    ``predicted`` (mean p), ``rate`` (share of positives), ``low`` and ``high`` (its 95 % Wilson
    interval), ``rows``. Bins hold equal numbers of positives, at least five if available, and equal
    probabilities share a bin: with rare positives, equal-width bins would put nearly every row
    into the first. Empty without a positive. ``repeats``: how often each row is given, by as many
    models; bins and intervals are those of the rows themselves.
    """
    p = probabilities.double().numpy().ravel()
    y = as_mask(positives).ravel()
    p, y = p[~np.isnan(p)], y[~np.isnan(p)]
    order = np.argsort(-p, kind="stable")
    p, y = p[order], y[order]
    total = int(y.sum())
    bins = max(1, min(MOST_BINS, total // (FEWEST_POSITIVES * repeats)))
    # The position of every (total / bins)-th positive, moved to the end of its ties.
    marks = np.flatnonzero(y)[np.arange(1, bins) * total // bins - 1] if total else np.empty(0, int)
    ends = np.unique(np.searchsorted(-p, -p[marks], side="right"))
    edges = np.unique([0, *ends, len(p)]) if total else np.empty(0, int)
    n = np.diff(edges)
    rate = np.diff(np.concatenate([[0], np.cumsum(y)])[edges]) / n
    predicted = np.diff(np.concatenate([[0.0], np.cumsum(p)])[edges]) / n
    low, high = _wilson(rate, n / repeats)
    found = {"predicted": predicted, "rate": rate, "low": low, "high": high, "rows": n}
    return {name: values.astype(float).tolist() for name, values in found.items()}


def _wilson(rate: NDArray, n: NDArray) -> tuple[NDArray, NDArray]:
    """Wilson's interval; not from statsmodels, whose last bits differ from recorded values."""
    centre = (rate + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * np.sqrt(rate * (1 - rate) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return np.maximum(centre - half, 0), np.minimum(centre + half, 1)

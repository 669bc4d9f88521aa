"""The score cases that every ranking kernel is tested on, and a strategy to draw more."""

import numpy as np
from hypothesis import strategies as st


def _random(rng, n):
    return 3.0 * rng.standard_normal(n)


def _ties(rng, n):
    return np.round(2.0 * rng.standard_normal(n)) / 2.0


def _constant(rng, n):
    return np.full(n, rng.choice([0.0, -3.5, 1e4]))


def _outliers(rng, n):
    scores = rng.standard_normal(n)
    scores[rng.integers(n, size=1 + n // 20)] = 1e6
    scores[rng.integers(n, size=1 + n // 20)] = -1e6
    return scores


def _tiny_spread(rng, n):
    return 1e-8 * rng.standard_normal(n)


def _below_tau(rng, n):
    return 1e-4 * rng.standard_normal(n)


def _far_apart(rng, n):
    return 1e4 * rng.standard_normal(n)


def _clusters(rng, n):
    return rng.choice([-300.0, 0.0, 2.0, 500.0], n) + 0.02 * rng.standard_normal(n)


SCORES = {
    "random": _random,
    "ties": _ties,
    "constant": _constant,
    "outliers": _outliers,
    "tiny spread": _tiny_spread,
    "range below tau": _below_tau,
    "far apart": _far_apart,
    "clusters": _clusters,
}


def _some(rng, scores):
    return rng.random(len(scores)) < 0.2


def _one(rng, scores):
    return np.arange(len(scores)) == rng.integers(len(scores))


def _all_but_one(rng, scores):
    return ~_one(rng, scores)


def _on_top(rng, scores):
    return scores > np.quantile(scores, 0.8)


def _at_the_bottom(rng, scores):
    return scores < np.quantile(scores, 0.3)


POSITIVES = {
    "some": _some,
    "one": _one,
    "all but one": _all_but_one,
    "on top": _on_top,
    "at the bottom": _at_the_bottom,
}

ALL = [(scores, positives) for scores in SCORES for positives in POSITIVES]


def case(scores: str, positives: str, *, n: int = 48, seed: int = 0):
    """float32 scores [n] and a positive mask [n] with at least one positive and one negative."""
    rng = np.random.default_rng(seed)
    values = SCORES[scores](rng, n).astype(np.float32)
    marks = POSITIVES[positives](rng, values)
    if marks.all() or not marks.any():
        marks = np.arange(n) == n // 2
    return values, marks


@st.composite
def drawn(draw):
    """A case of any kind and size."""
    kinds = draw(st.sampled_from(sorted(SCORES))), draw(st.sampled_from(sorted(POSITIVES)))
    return case(*kinds, n=draw(st.integers(2, 60)), seed=draw(st.integers(0, 2**32 - 1)))

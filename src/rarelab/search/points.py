"""The points that a contest tries: random, and spread over the whole space."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from rarelab.search.space import Dimension


def points(
    dimensions: Sequence[Dimension], trials: int, seed: int, split: Sequence[str]
) -> list[dict[str, Any]]:
    """A value of every dimension for each trial; points that repeat an earlier one are left out.

    The shares of the way through a dimension depend on its key, ``seed`` and ``split`` alone: all
    arms try the same learning rates on a split, other ones on another split, and more trials begin
    with those of fewer.

    Args:
        dimensions: the space.
        trials: 1 or more.
        seed: of the draw.
        split: what identifies the split.
    """
    shares = {d.key: stratified(trials, _generator(seed, d.key, *split)) for d in dimensions}
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for trial in range(trials):
        values = {d.key: d.at(float(shares[d.key][trial])) for d in dimensions}
        found.setdefault(tuple(d.override(values[d.key]) for d in dimensions), values)
    return list(found.values())


def stratified(count: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` numbers in [0, 1) in random order, of which the first 2^k lie one in each of 2^k
    equal parts, for every k (a Latin hypercube that is doubled, in one dimension)."""
    found = rng.random(1)
    while len(found) < count:
        parts = 2 * len(found)
        free = np.setdiff1d(np.arange(parts), np.floor(found * parts).astype(int))
        found = np.concatenate([found, (rng.permutation(free) + rng.random(len(free))) / parts])
    return found[:count]


def _generator(seed: int, *names: str) -> np.random.Generator:
    digest = hashlib.sha256("\n".join([str(seed), *names]).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))

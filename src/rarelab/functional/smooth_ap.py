"""Smooth-AP, a differentiable average precision (Brown et al., ECCV 2020)."""

from typing import Any

import torch
from torch import Tensor

from rarelab.functional import cells, choose, dense, ranking
from rarelab.functional.once import Live, apply_once, check_ranked_lists

PATHS = ("auto", "dense", "grid", "window", "each")
CHUNK = 1 << 18
SMALL = 1 << 18  # up to this many pairs in one list, no other path is faster


def smooth_ap(
    scores: Tensor,
    positives: Tensor,
    *,
    tau: float | Tensor,
    weights: Tensor | None = None,
    live: Live = None,
    path: str = "auto",
    chunk: int = CHUNK,
) -> Tensor:
    """Soft average precision of each ranked list, computed with its gradient in one pass.

    ::

        B_i = 1 + Σ_{j≠i, j∈P} σ((s_j − s_i)/τ)      soft rank among the positives P
        N_i =     Σ_{j∉P}      σ((s_j − s_i)/τ)      soft number of negatives above
        AP  = Σ_{i∈P} w_i B_i / (B_i + N_i)  /  Σ_{i∈P} w_i

    Args:
        scores: [..., M] float32 or float64, any finite value; −inf removes a point from the list.
        positives: [..., M] bool, same shape.
        tau: temperature > 0 in units of the scores; a tensor broadcasts to [...].
        weights: weights of the positives, [M] or [..., M]; ranks are unweighted.
        live: only the first ``live`` columns get a gradient (the rest is a queue); None = all; or
            those columns themselves, [..., L], when ``scores`` is detached.
        path: "dense" (all pairs), "grid" (near-linear), "window" (sorted, for scores far apart
            in units of τ), "auto", the one with the lowest estimated cost, or "each", that of every
            list on its own, with the same bits.
        chunk: pairs held in memory at a time.

    Returns:
        [...], in the scores' precision. NaN with zero gradient where there is no positive, no
        negative, no weight or no temperature; NaN where a score is NaN.

    Raises:
        TypeError: scores are not float32 or float64, or positives are not bool.
        ValueError: shapes differ, ``tau`` is not positive, ``path`` is not one of the above.
        RuntimeError: on a second derivative.

    Source: Brown, Xie, Kalogeiton, Zisserman, "Smooth-AP: Smoothing the Path Towards Large-Scale
    Image Retrieval", ECCV 2020, eq. 6 and 7.
    """
    check_ranked_lists("smooth_ap", scores, positives, tau)
    if path not in PATHS:
        raise ValueError(f"smooth_ap: path is {path!r}, expected one of {', '.join(PATHS)}")
    return apply_once(_evaluate, scores, (positives, tau, weights, path, chunk), live)


def _evaluate(scores: Tensor, live: int, arguments: tuple) -> tuple[Tensor, Any]:
    positives, tau, weights, path, chunk = arguments
    shape, points = scores.shape[:-1], scores.shape[-1]
    if path == "each":
        return _each(scores, live, arguments)
    lists, marks = scores.reshape(-1, points), positives.reshape(-1, points)
    if weights is not None:
        weights = weights.expand(scores.shape).reshape(-1, points)
    at = None
    if len(lists) == 1 and path in ("auto", "dense"):
        at = marks[0].nonzero().squeeze(1)
        if path == "dense" or len(at) * points <= SMALL:
            weight = None if weights is None else weights[0]
            average, gradient = dense.single(lists[0], at, tau, weight, live, chunk)
            return average.view(shape), gradient.view(*shape, live)
    if not isinstance(tau, Tensor):
        tau = torch.tensor(tau, dtype=ranking.precision(scores.device), device=scores.device)
    taus = tau.expand(shape).reshape(-1)
    problem = ranking.lists(lists, marks, taus, weights, at)
    if path == "auto" and cells.suit(problem, live):
        average, gradient = cells.value_and_gradient(problem, live)
    else:
        sums = choose.sums(problem, path, chunk)
        average, gradient = ranking.value_and_gradient(problem, sums, live)
    return average.view(shape).to(scores.dtype), gradient.view(*shape, live).to(scores.dtype)


def _each(scores: Tensor, live: int, arguments: tuple) -> tuple[Tensor, Any]:
    """List by list: where the lists are short, the work on one stays in the processor's cache."""
    positives, tau, weights, _, chunk = arguments
    shape, points = scores.shape[:-1], scores.shape[-1]
    count = shape.numel()
    taus = [tau] * count if not isinstance(tau, Tensor) else tau.expand(shape).reshape(-1, 1)
    masses = [None] * count
    if weights is not None:
        masses = weights.expand(scores.shape).reshape(-1, 1, points)
    lists, marks = scores.reshape(-1, 1, points), positives.reshape(-1, 1, points)
    found = [
        _evaluate(one, live, (marked, its_tau, mass, "auto", chunk))
        for one, marked, its_tau, mass in zip(lists, marks, taus, masses, strict=True)
    ]
    averages, gradients = zip(*found, strict=True)
    return torch.cat(averages).view(shape), torch.cat(gradients).view(*shape, live)

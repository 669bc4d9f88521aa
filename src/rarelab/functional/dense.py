"""Smooth-AP over every (positive, point) pair: the path for small pools.

Value and gradient come from one sweep over blocks of positives. No block outlives its turn.
"""

import torch
from torch import Tensor

from rarelab.functional.ranking import Ranking, precision_and_slopes
from rarelab.functional.tiles import Tiles, tiles

TILE = 16  # positives of one class to a block row when there are several classes


def value_and_gradient(problem: Ranking, chunk: int, wants_gradient: bool) -> tuple[Tensor, Tensor]:
    """AP [C] and dAP/ds [C, M] (zeros if not wanted), in blocks of about ``chunk`` pairs."""
    classes, points = problem.scores.shape
    size = max(1, chunk // points)
    positives = tiles(problem.chosen, size if classes == 1 else min(size, TILE))
    average = problem.scores.new_zeros(classes)
    gradient = torch.zeros_like(problem.scores)
    for block in positives.split(max(1, size // positives.column.shape[1])):
        _block(problem, block, average, gradient if wants_gradient else None)
    gradient[:, problem.live :] = 0
    return average, gradient


def _block(problem: Ranking, block: Tiles, average: Tensor, gradient: Tensor | None) -> None:
    """Add the positives of ``block`` to ``average`` [C] and ``gradient`` [C, M]."""
    single = len(average) == 1
    scores, sides = (x if single else x[block.owner] for x in (problem.scores, problem.sides))
    at = block.take(problem.scores, torch.inf)
    step = problem.scaled(scores[:, None] - at[..., None], block.owner).sigmoid_()
    counts = step @ sides.mT  # [n, size, 2]; a point's tie with itself adds one half
    counts[..., 0] += 0.5
    share = block.take(problem.mass, 0.0) / problem.total[block.owner, None]
    part, slopes = precision_and_slopes(counts, share)
    average.index_add_(0, block.owner, part.sum(-1))
    if gradient is None:
        return
    bump = torch.addcmul(step, step, step, value=-1)  # σ' = σ − σ²
    into = bump @ sides.mT
    own = slopes[..., 0] * into[..., 1] - slopes[..., 1] * into[..., 0]
    gradient.view(-1).index_add_(0, block.flat(gradient.shape[1]).view(-1), own.view(-1))
    live = slice(problem.live)
    pull = slopes.mT @ bump[..., live]  # [n, 2, live]: Σ_i w B/A² σ', Σ_i w N/A² σ'
    others = sides[:, 0, live] * pull[:, 1] - sides[:, 1, live] * pull[:, 0]
    gradient[:, live].index_add_(0, block.owner, others)

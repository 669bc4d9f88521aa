"""Hard negatives: those that the model itself scores highest."""

import math
from fractions import Fraction

import torch
from torch import Tensor


def hard_negatives(scores: Tensor, negatives: Tensor, *, fraction: float) -> Tensor:
    """Mask [M] of the ⌈fraction · n⌉ highest-scored of n negatives, ties with the last included.

    Args:
        scores: [M]; detached.
        negatives: [M] bool, the rows that are negatives.
        fraction: in (0, 1].

    Raises:
        ValueError: ``fraction`` is outside (0, 1].

    Source: online hard example mining, Shrivastava, Gupta, Girshick, CVPR 2016, section 4, with the
    easy negatives kept in the loss.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"hard_negatives: fraction is {fraction}, expected in (0, 1]")
    candidates = scores.detach()[negatives]
    if not candidates.numel():
        return torch.zeros_like(negatives)
    # Use the decimal as written: 0.07 · 100 is 7, though in binary it is slightly more.
    count = math.ceil(Fraction(repr(float(fraction))) * candidates.numel())
    threshold = candidates.topk(count).values[-1]
    return negatives & (scores.detach() >= threshold)

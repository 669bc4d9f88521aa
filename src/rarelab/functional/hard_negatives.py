"""Which negatives are the hard ones: those that the model itself scores highest."""

import math
from fractions import Fraction

import torch
from torch import Tensor


def hard_negatives(scores: Tensor, negatives: Tensor, *, fraction: float) -> Tensor:
    """The ⌈fraction · n⌉ highest-scored of the n negatives, bool [M]; ties with the last join them.

    Args:
        scores: [M], read without gradient.
        negatives: bool [M]: which rows are negatives.
        fraction: in (0, 1].

    Raises:
        ValueError: ``fraction`` is outside (0, 1].

    Source: online hard example mining, Shrivastava, Gupta, Girshick, CVPR 2016, section 4, with the
    easy negatives kept in the loss. No label says which negative is hard.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"hard_negatives: fraction is {fraction}, expected in (0, 1]")
    candidates = scores.detach()[negatives]
    if not candidates.numel():
        return torch.zeros_like(negatives)
    # Of the decimal that was written: 0.07 · 100 is 7, though in binary it is just above.
    count = math.ceil(Fraction(repr(float(fraction))) * candidates.numel())
    threshold = candidates.topk(count).values[-1]
    return negatives & (scores.detach() >= threshold)

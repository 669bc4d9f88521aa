"""The steps a rank is counted with: rank of i = 1 + Σ over the others of step(s_j − s_i)."""

import torch
from torch import Tensor


def heaviside(difference: Tensor, tau: float | Tensor = 0.0) -> Tensor:
    """1 where ``difference >= 0``, else 0: the exact metric, a tie counting as ranked above.

    ``tau`` is ignored; it is there so that every step is called alike.
    """
    return (difference >= 0).to(difference.dtype)


def sigmoid(difference: Tensor, tau: float | Tensor) -> Tensor:
    """σ(difference / τ): the soft step, one half at a tie. ``tau`` is in units of the scores."""
    return torch.sigmoid(difference / tau)


def sigmoid_slope(difference: Tensor, tau: float | Tensor) -> Tensor:
    """σ'(x) = σ(x) σ(−x), x = difference / τ: accurate on both sides, at most 1/4."""
    return sigmoid(difference, tau) * sigmoid(-difference, tau)

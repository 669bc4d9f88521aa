"""Integrated gradients: what each feature adds to a network's score."""

import torch
from torch import Tensor, nn

STEPS = 32


def integrated_gradients(model: nn.Module, x: Tensor, baseline: Tensor) -> Tensor:
    """What each feature adds to the score of a row, compared with a baseline, [N, F].

    (x − b) · ∫₀¹ ∇f(b + t (x − b)) dt, the integral by the midpoint rule in :data:`STEPS` steps, in
    evaluation mode. The sum over features is f(x) − f(b) up to the error of that rule; for a linear
    model it is w · (x − b) exactly. On the device of x.

    Args:
        model: maps rows [N, F] to one score each, [N] or [N, 1].
        x: rows [N, F].
        baseline: the row b to compare with, [F].

    Source: Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017.
    """
    model.eval()
    away = x - baseline
    total = torch.zeros_like(x)
    with torch.enable_grad():
        for step in range(STEPS):
            between = (baseline + (step + 0.5) / STEPS * away).requires_grad_()
            total += torch.autograd.grad(model(between).sum(), between)[0]
    return total / STEPS * away

"""The same kernel on pytorch-metric-learning's task: every row of a batch ranks all rows."""

from collections.abc import Callable

import torch
from pytorch_metric_learning.losses import (  # pyright: ignore[reportMissingImports]
    SmoothAPLoss,
)
from speed import in_turn
from torch import Tensor

from rarelab.functional.smooth_ap import smooth_ap

TAU, WIDTH = 0.01, 64
CLASSES = (
    8,
    12,
    16,
)  # as many classes as rows per class, the only layout that the peer ranks correctly


def steps(classes: int) -> dict[str, Callable[[], Tensor]]:
    """Loss and gradient for a batch of classes² embeddings."""
    labels = torch.arange(classes).repeat_interleave(classes)
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(classes, WIDTH, generator=draw)[labels]
    rows = centres + 1.5 * torch.randn(len(labels), WIDTH, generator=draw)
    same, published = labels[:, None] == labels, SmoothAPLoss(TAU)

    def ours() -> Tensor:
        leaf = rows.clone().requires_grad_()
        unit = torch.nn.functional.normalize(leaf)
        loss = 1 - smooth_ap(unit @ unit.T, same, tau=TAU).mean()
        loss.backward()
        return torch.cat((loss.detach().view(1), leaf.grad.flatten()))  # type: ignore[union-attr]

    def theirs() -> Tensor:
        leaf = rows.clone().requires_grad_()
        loss = published(leaf, labels)
        loss.backward()
        return torch.cat((loss.detach().view(1), leaf.grad.flatten()))  # type: ignore[union-attr]

    return {"rarelab": ours, "pytorch-metric-learning": theirs}


def retrieval() -> dict[int, dict[str, tuple[float, int]]]:
    """Times by batch size, after checking that both compute the same."""
    found = {}
    for classes in CLASSES:
        contestants = steps(classes)
        ours, theirs = (step() for step in contestants.values())
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
        found[classes**2] = in_turn(contestants)
    return found

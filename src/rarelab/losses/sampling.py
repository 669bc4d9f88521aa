"""Cut a pool to a size without losing its rare classes."""

import torch
from torch import Tensor


def quota_sample(labels: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Sorted positions [size] of a random subset with a minimum per class.

    Every observed class is first given max(1, size // (2 · classes)) of its rows, or all it has;
    the rest of ``size`` is drawn uniformly from what remains. When the reserved rows alone exceed
    ``size``, they are themselves drawn from uniformly. ``labels`` [M] are non-negative, M >= size.
    """
    rows = labels.size(0)
    shuffle = torch.randperm(rows, generator=generator).to(labels.device)
    by_class = torch.sort(labels[shuffle], stable=True)
    counts = torch.bincount(by_class.values)
    quota = max(1, size // (2 * int((counts > 0).sum())))
    within_class = torch.arange(rows, device=labels.device)
    within_class = within_class - (counts.cumsum(0) - counts)[by_class.values]
    last = torch.ones(rows, dtype=torch.bool, device=labels.device)
    last[shuffle[by_class.indices]] = within_class >= quota
    # Reserved rows first, then the rest. A second shuffle, since the first one has the rest of a
    # small class at its end.
    shuffle = torch.randperm(rows, generator=generator).to(labels.device)
    return shuffle[torch.sort(last[shuffle], stable=True).indices[:size]].sort().values

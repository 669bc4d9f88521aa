"""From one value per class to the loss: the one place where degenerate classes are decided."""

from math import isnan

import torch
from torch import Tensor


def class_loss(values: Tensor, broken: Tensor | None, reduction: str) -> Tensor:
    """Reduce class losses [C], in which NaN marks a class that cannot be evaluated.

    Under 'none' the NaN stays. Under 'mean' and 'sum' such a class is left out; with nothing left
    the loss is a zero that is still attached to the graph. A class whose scores are not finite
    (``broken`` bool [C]; None: all are) is not degenerate: its NaN is never left out.
    """
    if reduction == "none":
        return values
    # Asking the CPU costs less than the arithmetic that would avoid the question.
    if broken is None and values.device.type == "cpu":
        if len(values) == 1 and not isnan(values.item()):
            return values.squeeze(0)
        if not values.isnan().any():
            return getattr(values, reduction)()
    counted = ~values.isnan()
    if broken is not None:
        counted = counted | broken
    total = torch.where(counted, values, 0).sum()
    if reduction == "sum":
        return total
    return total / counted.sum().clamp(min=1)

"""Layers by which a row's score depends on more than the row and the weights."""

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.dropout import _DropoutNd


def mixing_rows(model: nn.Module) -> Iterator[str]:
    """The layers whose output or state depends on which rows are scored together, by name."""
    for name, layer in model.named_modules():
        if isinstance(layer, nn.SyncBatchNorm):
            continue
        if isinstance(layer, _BatchNorm) or (
            isinstance(layer, _NormBase) and layer.track_running_stats
        ):
            yield f"{name} ({type(layer).__name__})"


def drawing(model: nn.Module) -> Iterator[str]:
    """The layers that draw random numbers in training, by name."""
    for name, layer in model.named_modules():
        rate = getattr(layer, "p", 0.0) if isinstance(layer, _DropoutNd) else 0.0
        if isinstance(layer, nn.RNNBase | nn.MultiheadAttention):
            rate = layer.dropout
        if rate > 0 or isinstance(layer, nn.RReLU):
            yield f"{name} ({type(layer).__name__})"

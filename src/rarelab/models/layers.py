"""Find layers that make a row's score depend on more than the row and the weights."""

from collections.abc import Iterator

from torch import nn

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
DROPOUTS = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)


def mixing_rows(model: nn.Module) -> Iterator[str]:
    """Names of the layers whose output or state depends on which rows are scored together."""
    for name, layer in model.named_modules():
        if isinstance(layer, nn.SyncBatchNorm):
            continue
        # Other normalisations, including third-party ones, keep state if they declare it.
        if isinstance(layer, BATCH_NORMS) or getattr(layer, "track_running_stats", False):
            yield f"{name} ({type(layer).__name__})"


def drawing(model: nn.Module) -> Iterator[str]:
    """Names of the layers that draw random numbers in training."""
    for name, layer in model.named_modules():
        rate = getattr(layer, "p", 0.0) if isinstance(layer, DROPOUTS) else 0.0
        if isinstance(layer, nn.RNNBase | nn.MultiheadAttention):
            rate = layer.dropout
        if rate > 0 or isinstance(layer, nn.RReLU):
            yield f"{name} ({type(layer).__name__})"

"""Input and size checks shared by the models."""

from torch import Tensor

from rarelab.errors import RequestError

READS = {2: "rows [N, F]", 3: "sequences [N, T, F]", 4: "images [N, C, H, W]"}
INSTEAD = {
    2: "choose a model for rows, such as model=mlp",
    3: "choose a model for sequences: model=gru",
    4: "choose a model for images: model=cnn",
}
"""By the number of dimensions of what a data set has."""


def check_input(x: Tensor, *, model: str, input_ndim: int, in_features: int) -> None:
    """Raises RequestError unless ``x`` has ``input_ndim`` dimensions, the last ``in_features``."""
    if x.ndim == input_ndim and x.shape[-1] == in_features:
        return
    advice = f"; {INSTEAD[x.ndim]}" if x.ndim != input_ndim and x.ndim in INSTEAD else ""
    raise RequestError(
        f"model {model} reads {READS[input_ndim]} with F = {in_features}, "
        f"found {list(x.shape)}{advice}"
    )


def check_sizes(model: str, **sizes: int | None) -> None:
    """Raises RequestError unless every named size is a whole number of at least 1."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise RequestError(f"model {model}: {name} must be a whole number >= 1, found {size!r}")


def check_dropout(model: str, **rates: float) -> None:
    """Raises RequestError unless every named rate lies in [0, 1)."""
    for name, rate in rates.items():
        if not 0 <= rate < 1:
            raise RequestError(f"model {model}: {name} must lie in [0, 1), found {rate!r}")

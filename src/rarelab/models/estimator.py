"""The interface of a model that is not trained by gradient steps."""

from typing import Any, Protocol, runtime_checkable

import torch
from numpy.typing import NDArray
from torch import Tensor

from rarelab.errors import RarelabError


class Rows(Protocol):
    """One split: x float32 [N, F] (or [N, ...], as the data set has it), y int64 [N],
    sample_weight float32 [N] or None."""

    @property
    def x(self) -> Tensor: ...

    @property
    def y(self) -> Tensor: ...

    @property
    def sample_weight(self) -> Tensor | None: ...


@runtime_checkable
class Estimator(Protocol):
    """A baseline with its own fit, whose raw scores are comparable with a network's logits."""

    def fit(self, train: Rows, val: Rows, seed: int) -> None:
        """Fit on train; val may only stop the fit early. The same seed gives the same fit."""
        ...

    def scores(self, x: Tensor) -> Tensor:
        """Raw scores [N, num_outputs], or [N] for one output (log-odds, not probabilities), of rows
        [N, F]."""
        ...


@runtime_checkable
class Portable(Protocol):
    """An estimator whose fitted state is plain arrays, so it can be saved without pickle."""

    def state(self) -> dict[str, NDArray]:
        """The fitted state: arrays of numbers by name.

        Raises RarelabError if this fit cannot be saved, with the reason."""
        ...

    def load_state(self, arrays: dict[str, NDArray]) -> None:
        """Load what :meth:`state` returned, instead of fitting."""
        ...


@runtime_checkable
class Exportable(Protocol):
    """An estimator that can be written as an ONNX graph."""

    def onnx_graph(self) -> Any:
        """An ``onnx.ModelProto`` from ``features`` float32 [N, F] to ``scores`` [N, C]."""
        ...


@runtime_checkable
class Explained(Protocol):
    """An estimator that can say what each feature adds to a score."""

    def contributions(self, x: Tensor) -> Tensor:
        """What each feature adds to the only score of rows [N, F], [N, F]. A row's sum is its score
        less a constant. For two classes, where there is one score."""
        ...


@runtime_checkable
class Refittable(Protocol):
    """An estimator that may stop early on validation, and can repeat a fit without it."""

    def kept(self) -> dict[str, Any]:
        """The parameters that fit as many rounds as this fit has, without stopping early."""
        ...


def raw_scores(model: Estimator, x: Tensor, num_outputs: int) -> Tensor:
    """The estimator's scores as float32 [N, num_outputs].

    Raises RarelabError for scores of another shape.
    """
    scores = torch.as_tensor(model.scores(x)).float()
    if scores.ndim == 1 and num_outputs == 1:
        scores = scores.unsqueeze(1)
    if scores.shape != (len(x), num_outputs):
        raise RarelabError(
            f"model: {type(model).__name__} gave scores of shape {list(scores.shape)} for "
            f"{len(x)} rows, expected {[len(x), num_outputs]}"
        )
    return scores

"""The interface of a model that is not trained by gradient steps."""

from typing import Protocol, runtime_checkable

from numpy.typing import NDArray
from torch import Tensor


class Rows(Protocol):
    """One split: x float32 [N, F], y int64 [N], sample_weight float32 [N] or None."""

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
        """Raw scores [N, num_outputs] (log-odds, not probabilities) of rows [N, F]."""
        ...


@runtime_checkable
class Portable(Protocol):
    """An estimator whose fitted state is plain arrays, so it can be saved without pickle."""

    def state(self) -> dict[str, NDArray]:
        """The fitted state: arrays by name."""
        ...

    def load_state(self, arrays: dict[str, NDArray]) -> None:
        """Load what :meth:`state` returned, instead of fitting."""
        ...

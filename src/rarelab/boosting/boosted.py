"""The interface of a model that is grown in rounds, each on the gradient of a loss."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from numpy.typing import NDArray
from torch import Tensor

from rarelab.boosting.gradient import Slope
from rarelab.models.estimator import Rows

Objective = Callable[[Tensor], Slope]
"""The slope of the loss at the scores [N, C] of all training rows."""


class Boosted(ABC):
    """A sum of a constant and one step for each round; all rows are in every round.

    The state of a fitted model is plain arrays (`rarelab.models.Portable`).
    """

    input_ndim: ClassVar[int] = 2
    takes_loss: ClassVar[bool]
    """Whether a round follows the objective; if not, the model has its own, log-loss."""

    rounds: int
    """The largest number of rounds."""
    patience: int | None
    """Rounds without a better validation score before growing stops; None: never."""

    @abstractmethod
    def begin(self, train: Rows, seed: int, done: int = 0, grown: str | None = None) -> None:
        """Prepare to grow on ``train``; to go on after ``done`` rounds, with what :meth:`text` gave
        then. The rounds that follow have the same bits as without the interruption."""

    @abstractmethod
    def grow(self, objective: Objective) -> None:
        """Add one round; nothing is added where no split is left."""

    @abstractmethod
    def last_step(self, x: Tensor) -> Tensor | None:
        """What the last round added to the scores of rows [N, F], float64 [N, C]; None: nothing."""

    @property
    @abstractmethod
    def start(self) -> Tensor:
        """The constant [C], float64, that the scores start from."""

    @property
    @abstractmethod
    def steps(self) -> int:
        """The rounds that added something."""

    @abstractmethod
    def text(self) -> str:
        """The model so far, as text."""

    @abstractmethod
    def keep(self, steps: int) -> None:
        """Finish with the first ``steps`` of the rounds that added something."""

    @abstractmethod
    def scores(self, x: Tensor) -> Tensor:
        """Raw scores [N, C], float32, of rows [N, F]."""

    @abstractmethod
    def state(self) -> dict[str, NDArray]: ...

    @abstractmethod
    def load_state(self, arrays: dict[str, NDArray]) -> None: ...

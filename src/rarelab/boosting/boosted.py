"""The interface of a model that is grown in rounds, each on the gradient of a loss."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rarelab.boosting.categories import Categories, recoded
from rarelab.boosting.collective import Sharing
from rarelab.boosting.gradient import Slope
from rarelab.errors import RarelabError, RequestError
from rarelab.models.estimator import Rows
from rarelab.models.shapes import check_input, check_sizes
from rarelab.models.trees import PlainTrees

Objective = Callable[[Tensor], Slope]
"""The slope of the loss at the scores [N, C] of all training rows: of a process's part of them, if
several grow the model."""


class Boosted(ABC):
    """A sum of a constant and one step for each round; all rows are in every round.

    The state of a fitted model is plain arrays (`rarelab.models.Portable`): the library's own text,
    which holds no code, as bytes, and the constant.

    Args:
        in_features: F.
        num_outputs: C, 1 for two classes.
        num_iterations: the largest number of rounds.
        early_stopping_round: rounds without a better validation score before growing stops; None:
            never.
        categories: "native": columns of levels go to the library as categories of its own.
        one_hot, codes: of :class:`~rarelab.boosting.categories.Recoded`, for "native".
    """

    input_ndim: ClassVar[int] = 2
    library: ClassVar[str]
    """The library's name, in messages."""
    takes_loss: ClassVar[bool]
    """Whether a round follows the objective; if not, the model has its own."""
    shares_rows: ClassVar[bool] = False
    """Whether several processes can grow it, each on its part of the rows."""
    gives_log_odds: ClassVar[bool] = True
    """False for a ranking objective of the library's own, whose scores have no scale."""

    def __init__(
        self,
        in_features: int,
        num_outputs: int,
        num_iterations: int,
        early_stopping_round: int | None,
        categories: Categories = "onehot",
        one_hot: Sequence[Sequence[int]] | None = None,
        codes: Sequence[Sequence[int]] | None = None,
    ) -> None:
        sizes = {"in_features": in_features, "num_outputs": num_outputs}
        check_sizes(self.library, **sizes, num_iterations=num_iterations)
        if early_stopping_round is not None:
            check_sizes(self.library, early_stopping_round=early_stopping_round)
        self.in_features, self.num_outputs = in_features, num_outputs
        self.rounds, self.patience = num_iterations, early_stopping_round
        self._recoded = recoded(in_features, categories, one_hot, codes)
        self._booster: Any = None
        self._start = torch.zeros(num_outputs, dtype=torch.float64)

    @abstractmethod
    def begin(self, train: Rows, seed: int, done: int = 0, grown: str | None = None) -> None:
        """Prepare to grow on ``train``; to go on after ``done`` rounds, with what :meth:`text` gave
        then. The rounds that follow have the same bits as without the interruption."""

    def among(self, team: Sharing) -> AbstractContextManager[None]:
        """While it is open, the model is grown by all processes of ``team``: :meth:`begin` takes
        all rows and keeps this process's part. Only if it :attr:`shares_rows`."""
        return nullcontext()

    @abstractmethod
    def grow(self, objective: Objective) -> None:
        """Add one round; nothing is added where no split is left."""

    @abstractmethod
    def last_step(self, x: Tensor) -> Tensor | None:
        """What the last round added to the scores of rows [N, F], float64 [N, C]; None: nothing."""

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

    @property
    def start(self) -> Tensor:
        """The constant [C], float64, that the scores start from."""
        return self._start

    def scores(self, x: Tensor) -> Tensor:
        """Raw scores [N, C], float32, of rows [N, F]."""
        self._require_fit("scores were")
        check_input(x, model=self.library, input_ndim=2, in_features=self.in_features)
        return (self._start + self._sums(x)).float()

    def contributions(self, x: Tensor) -> Tensor:
        """The Shapley values of the trees [N, F], float64, for two classes, by the library itself.

        A feature that is not known goes both ways at a split, by the share of the training rows
        (LightGBM) or of their curvature (XGBoost). A row's sum is its score less the mean score
        that is found so.

        Source: Lundberg et al., From local explanations to global understanding with explainable
        AI for trees, Nature Machine Intelligence 2020 (path-dependent TreeSHAP).
        """
        self._require_fit("contributions were")
        check_input(x, model=self.library, input_ndim=2, in_features=self.in_features)
        found = self._shapley_values(x)[:, :-1]
        return found if self._recoded is None else self._recoded.spread(found)

    @property
    def _width(self) -> int:
        """How many columns the library sees."""
        return self.in_features if self._recoded is None else self._recoded.width

    def _rows(self, x: Tensor) -> NDArray[np.float32]:
        """The rows [N, F] as the library takes them."""
        return x.detach().cpu().numpy() if self._recoded is None else self._recoded.rows(x)

    def state(self) -> dict[str, NDArray]:
        text = np.frombuffer(self.text().encode(), dtype=np.uint8)
        return {"text": text, "start": self._start.numpy()}

    def load_state(self, arrays: dict[str, NDArray]) -> None:
        """Raises ValueError for trees that do not belong to this model."""
        text, start = arrays["text"], arrays["start"]
        if text.dtype != np.uint8 or text.ndim != 1:
            raise ValueError(f"the trees' text is {text.dtype} {list(text.shape)}, expected bytes")
        if start.dtype != np.float64 or start.shape != (self.num_outputs,):
            raise ValueError(f"the start has shape {list(start.shape)}, not [{self.num_outputs}]")
        if not np.isfinite(start).all():
            raise ValueError("the start is NaN or infinite")
        booster, features, outputs = self._read(text.tobytes().decode())
        if (features, outputs) != (self._width, self.num_outputs):
            raise ValueError(
                f"the trees read {features} features and give {outputs} scores, not "
                f"{self._width} and {self.num_outputs}"
            )
        self._booster, self._start = booster, torch.from_numpy(start.copy())

    def onnx_graph(self) -> Any:
        """The start and the trees as an ONNX model, from ``features`` [N, F] to ``scores``
        [N, C]."""
        from rarelab.models.tree_graph import tree_graph

        self._require_fit("a graph was")
        if self._recoded is not None:
            raise RequestError(
                f"model {self.library} with categories=native has no ONNX form: its trees split by "
                "categories; use model.categories=onehot"
            )
        outputs = [[(column, 1.0)] for column in range(self.num_outputs)]
        return tree_graph(self._plain_trees(), outputs, self._start.numpy())

    @abstractmethod
    def _sums(self, x: Tensor) -> Tensor:
        """The sum of the steps, without the start, float64 [N, C]."""

    @abstractmethod
    def _shapley_values(self, x: Tensor) -> Tensor:
        """The Shapley values of the library's columns, and the mean of the steps, float64
        [N, F + 1]."""

    @abstractmethod
    def _read(self, text: str) -> tuple[Any, int, int]:
        """The library's booster of a text; how many features it reads and scores it gives."""

    @abstractmethod
    def _plain_trees(self) -> PlainTrees:
        """The fitted trees, with the start as their baseline."""

    def _require_fit(self, what: str) -> None:
        if self._booster is None:
            raise RarelabError(f"model {self.library}: {what} requested before the fit")

    def _check(self, name: str, value: object, valid: bool, expected: str) -> None:
        if not valid:
            raise RequestError(f"model {self.library}: {name} must be {expected}, found {value!r}")

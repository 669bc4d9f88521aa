"""LightGBM, grown on any loss or on its own log-loss."""

from collections.abc import Sequence
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor

from rarelab.boosting.boosted import Boosted, Objective
from rarelab.boosting.categories import Categories
from rarelab.boosting.columns import Columns
from rarelab.boosting.gradient import log_odds
from rarelab.boosting.text_trees import text_trees
from rarelab.errors import RequestError
from rarelab.models.estimator import Rows
from rarelab.models.trees import PlainTrees


class _LightGBM(Boosted):
    """Everything but the choice of the objective."""

    library: ClassVar[str] = "lightgbm"

    def __init__(
        self,
        in_features: int,
        num_outputs: int,
        num_iterations: int = 300,
        learning_rate: float = 0.1,
        num_leaves: int = 31,
        min_data_in_leaf: int = 50,
        min_sum_hessian_in_leaf: float = 1e-3,
        lambda_l2: float = 10.0,
        feature_fraction: float = 0.5,
        bagging_fraction: float = 0.8,
        max_bin: int = 255,
        early_stopping_round: int | None = 60,
        categories: Categories = "onehot",
        one_hot: Sequence[Sequence[int]] | None = None,
        codes: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__(
            in_features,
            num_outputs,
            num_iterations,
            early_stopping_round,
            categories,
            one_hot,
            codes,
        )
        self._check("learning_rate", learning_rate, learning_rate > 0, "above 0")
        self._check("num_leaves", num_leaves, 2 <= num_leaves <= 131072, "2 to 131072")
        self._check("max_bin", max_bin, 2 <= max_bin <= 65535, "2 to 65535")
        for name, least in (
            ("min_sum_hessian_in_leaf", min_sum_hessian_in_leaf),
            ("lambda_l2", lambda_l2),
        ):
            self._check(name, least, least >= 0, "at least 0")
        for name, share in (
            ("feature_fraction", feature_fraction),
            ("bagging_fraction", bagging_fraction),
        ):
            self._check(name, share, 0 < share <= 1, "in (0, 1]")
        self._library = _lightgbm()
        self._sampled = feature_fraction < 1 or bagging_fraction < 1
        self._options: dict[str, Any] = {
            "verbosity": -1,
            "deterministic": True,
            "force_row_wise": True,
            "learning_rate": learning_rate,
            "num_leaves": num_leaves,
            "min_data_in_leaf": min_data_in_leaf,
            "min_sum_hessian_in_leaf": min_sum_hessian_in_leaf,
            "lambda_l2": lambda_l2,
            "feature_fraction": feature_fraction,
            "bagging_fraction": bagging_fraction,
            "bagging_freq": int(bagging_fraction < 1),
            "max_bin": max_bin,
        }
        self._grown_last = False
        self._seen: Columns | None = None
        self._asked: tuple[Tensor, np.ndarray] | None = None
        self._grown: Tensor | None = None
        self._handed: tuple[np.ndarray, np.ndarray] | None = None

    def begin(self, train: Rows, seed: int, done: int = 0, grown: str | None = None) -> None:
        """Its own objective starts again where its draws cannot be skipped: the bits are equal."""
        self._data = self._dataset(train, seed)
        self._parameters = {**self._options, "seed": seed % 2**31, **self._own_objective()}
        self._parameters["num_threads"] = torch.get_num_threads()
        if self.takes_loss:
            self._start = log_odds(train.y, self.num_outputs, train.sample_weight)
        self._booster, self._first = None, None
        if grown is not None and (self.takes_loss or not self._sampled):
            self._first = self._library.Booster(model_str=grown)
        for _ in range(done if self._sampled else 0):
            self._update(_flat)

    def _dataset(self, train: Rows, seed: int) -> Any:
        weight = None if train.sample_weight is None else train.sample_weight.numpy()
        rows = self._rows(train.x)
        return self._library.Dataset(
            rows, label=train.y.numpy(), weight=weight, **self._categories()
        )

    def _categories(self) -> dict[str, Any]:
        """Which columns are categories, as LightGBM is told."""
        if self._recoded is None:
            return {}
        return {"categorical_feature": self._recoded.categories}

    def grow(self, objective: Objective) -> None:
        before = self.steps
        self._update(lambda scores, _: self._slope(objective, scores))
        self._grown_last = self.steps > before

    def _update(self, gradient: Any) -> None:
        """A round; the first one makes the booster, from an earlier one if there is one."""
        if self._booster is not None:
            self._booster.update(fobj=gradient if self.takes_loss else None)
            return
        objective = {"objective": gradient} if self.takes_loss else {}
        self._booster = self._library.train(
            {**self._parameters, **objective},
            self._data,
            num_boost_round=1,
            init_model=self._first,
            callbacks=[] if self.takes_loss else [self._draw_as_if_given_a_loss],
            keep_training_booster=True,
        )

    def _draw_as_if_given_a_loss(self, env: Any) -> None:
        """LightGBM draws features once more whenever it is configured, as it is at the first call
        of a custom objective; with the same here, both models draw the same."""
        env.model.reset_parameter({"learning_rate": self._options["learning_rate"]})

    _draw_as_if_given_a_loss.before_iteration = True

    def _slope(self, objective: Objective, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """In the shape of ``scores``, float32, as LightGBM keeps them; in arrays of its own, which
        each round fills anew, since making large ones takes longer."""
        if self._handed is None or self._handed[0].shape != scores.shape:
            rows = scores.size // self.num_outputs
            self._grown = torch.empty(rows, self.num_outputs, dtype=torch.float64)
            self._handed = np.empty_like(scores, np.float32), np.empty_like(scores, np.float32)
        grown = torch.from_numpy(np.ascontiguousarray(scores)).view(-1, self.num_outputs)
        found = objective(torch.add(grown, self._start, out=self._grown))
        for handed, side in zip(self._handed, (found.gradient, found.curvature), strict=True):
            torch.from_numpy(handed).copy_(side.view(scores.shape))
        return self._handed

    def _own_objective(self) -> dict[str, Any]:
        classes = {} if self.num_outputs == 1 else {"num_class": self.num_outputs}
        own = "binary" if self.num_outputs == 1 else "multiclass"
        return classes if self.takes_loss else {"objective": own, **classes}

    def last_step(self, x: Tensor) -> Tensor | None:
        if not self._grown_last:
            return None
        if self._recoded is not None:
            return self._last_of_categories(x)
        if self._seen is None or self._seen.x is not x:
            self._seen = Columns(x)
        text = self._booster.model_to_string(start_iteration=self.steps - 1, num_iteration=1)
        return torch.from_numpy(self._seen.steps(text_trees(text, self._start.numpy())))

    def _last_of_categories(self, x: Tensor) -> Tensor:
        """:meth:`last_step` where trees split by categories, by LightGBM's own prediction."""
        if self._asked is None or self._asked[0] is not x:
            self._asked = (x, self._rows(x))
        found = self._booster.predict(
            self._asked[1],
            raw_score=True,
            start_iteration=self.steps - 1,
            num_iteration=1,
            num_threads=torch.get_num_threads(),
        )
        return torch.from_numpy(np.ascontiguousarray(found)).view(-1, self.num_outputs)

    @property
    def steps(self) -> int:
        booster = self._first if self._booster is None else self._booster
        return 0 if booster is None else booster.current_iteration()

    def text(self) -> str:
        return self._booster.model_to_string(num_iteration=-1)

    def keep(self, steps: int) -> None:
        self._booster = self._library.Booster(
            model_str=self._booster.model_to_string(num_iteration=steps)
        )
        self._data = self._first = self._seen = self._asked = self._grown = self._handed = None

    def _sums(self, x: Tensor) -> Tensor:
        if not len(x):
            return torch.zeros(0, self.num_outputs, dtype=torch.float64)
        threads = torch.get_num_threads()
        raw = self._booster.predict(self._rows(x), raw_score=True, num_threads=threads)
        return torch.from_numpy(np.ascontiguousarray(raw)).view(-1, self.num_outputs)

    def _shapley_values(self, x: Tensor) -> Tensor:
        if not len(x):
            return torch.zeros(0, self._width + 1, dtype=torch.float64)
        threads = torch.get_num_threads()
        found = self._booster.predict(self._rows(x), pred_contrib=True, num_threads=threads)
        return torch.from_numpy(np.asarray(found, dtype=np.float64))

    def _read(self, text: str) -> tuple[Any, int, int]:
        booster = self._library.Booster(model_str=text)
        return booster, booster.num_feature(), booster.num_model_per_iteration()

    def _plain_trees(self) -> PlainTrees:
        return text_trees(self._booster.model_to_string(), self._start.numpy())


@final
class LightGBM(_LightGBM):
    """LightGBM on the gradient of any loss, over all training rows in every round.

    in_features: F; num_outputs: 1 for two classes, else C; num_iterations: the most rounds;
    early_stopping_round: rounds without a better ``trainer.select_by``, among those that may be
    selected (None: never); the others as in LightGBM, bagging in every round. The scores start at
    the log-odds of the training rows, which LightGBM's own file does not hold. Uses torch's thread
    count; ``deterministic`` and ``force_row_wise`` are always set.

    categories="native": LightGBM takes columns of levels for categories of its own; one_hot and
    codes, filled in, say which (:class:`~rarelab.boosting.categories.Recoded`).

    Raises RequestError for values out of range, a wrong input shape or a missing LightGBM,
    RarelabError for scores before the fit.

    Source: Ke et al., LightGBM, NeurIPS 2017.
    """

    takes_loss: ClassVar[bool] = True


@final
class LightGBMLogLoss(_LightGBM):
    """LightGBM on its own log-loss, as a reference: parameters, selection and early stopping are
    those of :class:`LightGBM`, but loss, schedule and optimiser do not apply."""

    takes_loss: ClassVar[bool] = False


@final
class LightGBMLambdaRank(_LightGBM):
    """LightGBM on its own ranking objective, as a reference.

    LightGBM ranks at most 10 000 rows against each other, so the training rows are shuffled and cut
    into queries of ``rows_per_query``. truncation_level: only pairs with a row among the so many
    that rank highest in their query count. The scores are no log-odds. Parameters, selection and
    early stopping are those of :class:`LightGBM`, but loss, schedule and optimiser do not apply.

    Raises RequestError, beyond those of :class:`LightGBM`, for more than two classes.

    Source: Burges, From RankNet to LambdaRank to LambdaMART, MSR-TR-2010-82.
    """

    takes_loss: ClassVar[bool] = False
    gives_log_odds: ClassVar[bool] = False

    def __init__(
        self,
        in_features: int,
        num_outputs: int,
        rows_per_query: int = 10_000,
        truncation_level: int = 30,
        num_iterations: int = 300,
        learning_rate: float = 0.1,
        num_leaves: int = 31,
        min_data_in_leaf: int = 50,
        min_sum_hessian_in_leaf: float = 1e-3,
        lambda_l2: float = 10.0,
        feature_fraction: float = 0.5,
        bagging_fraction: float = 0.8,
        max_bin: int = 255,
        early_stopping_round: int | None = 60,
        categories: Categories = "onehot",
        one_hot: Sequence[Sequence[int]] | None = None,
        codes: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__(
            in_features,
            num_outputs,
            num_iterations,
            learning_rate,
            num_leaves,
            min_data_in_leaf,
            min_sum_hessian_in_leaf,
            lambda_l2,
            feature_fraction,
            bagging_fraction,
            max_bin,
            early_stopping_round,
            categories,
            one_hot,
            codes,
        )
        self._check("num_outputs", num_outputs, num_outputs == 1, "1: it ranks two classes")
        self._check("rows_per_query", rows_per_query, 2 <= rows_per_query <= 10_000, "2 to 10000")
        self._check("truncation_level", truncation_level, truncation_level >= 1, "at least 1")
        self._options["lambdarank_truncation_level"] = truncation_level
        self._rows_per_query = rows_per_query

    def _dataset(self, train: Rows, seed: int) -> Any:
        rows = np.random.default_rng(seed).permutation(len(train.y))
        queries = -(-len(rows) // self._rows_per_query)
        weight = None if train.sample_weight is None else train.sample_weight.numpy()[rows]
        return self._library.Dataset(
            self._rows(train.x)[rows],
            label=train.y.numpy()[rows],
            weight=weight,
            group=[len(part) for part in np.array_split(rows, queries)],
            **self._categories(),
        )

    def _own_objective(self) -> dict[str, Any]:
        return {"objective": "lambdarank"}


def _flat(scores: np.ndarray, _: Any) -> tuple[np.ndarray, np.ndarray]:
    """No slope, so no tree: the round only makes the draws that it made before."""
    return np.zeros_like(scores), np.zeros_like(scores)


def _lightgbm() -> Any:
    try:
        import lightgbm
    except (ImportError, OSError) as error:  # OSError: its library needs another one
        reason = str(error).splitlines()[0]
        raise RequestError(
            f"model: LightGBM cannot be loaded ({reason}); it needs the package lightgbm and, from "
            "the system, OpenMP (Debian, Ubuntu: apt-get install libgomp1; macOS: brew install "
            "libomp)"
        ) from error
    return lightgbm

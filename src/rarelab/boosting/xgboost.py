"""XGBoost, grown on any loss, on its own log-loss, or on its own ranking objectives."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, final

import numpy as np
import torch
from torch import Tensor

from rarelab.boosting.boosted import Boosted, Objective
from rarelab.boosting.categories import Categories
from rarelab.boosting.collective import Sharing, collective
from rarelab.boosting.gradient import log_odds
from rarelab.boosting.text_trees import json_trees
from rarelab.data.arguments import one_of
from rarelab.errors import RequestError
from rarelab.models.estimator import Rows
from rarelab.models.trees import PlainTrees

RANKINGS = ("rank:map", "rank:pairwise", "rank:ndcg")
PAIRS = ("mean", "topk")

APART = 15_485_863
"""Between the seeds of two processes, which draw rows of their own: a prime, more than there are
rounds. Columns are drawn by the first one for all."""


class _XGBoost(Boosted):
    """Everything but the choice of the objective."""

    library: ClassVar[str] = "xgboost"

    def __init__(
        self,
        in_features: int,
        num_outputs: int,
        num_iterations: int = 300,
        learning_rate: float = 0.1,
        max_depth: int = 6,
        min_child_weight: float = 1.0,
        reg_lambda: float = 10.0,
        subsample: float = 0.8,
        colsample_bytree: float = 0.5,
        max_bin: int = 256,
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
        self._check("max_depth", max_depth, 1 <= max_depth <= 30, "1 to 30")
        self._check("max_bin", max_bin, 2 <= max_bin <= 65535, "2 to 65535")
        for name, least in (("min_child_weight", min_child_weight), ("reg_lambda", reg_lambda)):
            self._check(name, least, least >= 0, "at least 0")
        for name, share in (("subsample", subsample), ("colsample_bytree", colsample_bytree)):
            self._check(name, share, 0 < share <= 1, "in (0, 1]")
        self._library = _xgboost()
        self._team: Sharing | None = None
        self._options: dict[str, Any] = {
            "verbosity": 0,
            "disable_default_eval_metric": 1,
            "learning_rate": learning_rate,
            "max_depth": max_depth,
            "min_child_weight": min_child_weight,
            "reg_lambda": reg_lambda,
            "subsample": subsample,
            "colsample_bytree": colsample_bytree,
            "max_bin": max_bin,
        }

    @contextmanager
    def among(self, team: Sharing) -> Iterator[None]:
        if team.size == 1:
            yield
            return
        self._team = team
        try:
            with collective(team):
                yield
        finally:
            self._team = None

    def begin(self, train: Rows, seed: int, done: int = 0, grown: str | None = None) -> None:
        """Every round draws from a seed of its own, so that it needs no round before it."""
        self._seed, threads = seed % 2**30, torch.get_num_threads()
        self._start = self._first_scores(train)
        labels = self._mine(train.y)
        self._data = self._library.QuantileDMatrix(
            self._rows(self._mine(train.x)),
            label=labels.numpy(),
            base_margin=np.tile(self._start.float().numpy(), (len(labels), 1)),
            max_bin=self._options["max_bin"],
            nthread=threads,
            **self._types(),
            **self._weights(train),
        )
        parameters = {**self._options, **self._own_objective(), "nthread": threads}
        self._booster = self._library.Booster(parameters, [self._data])
        if grown is not None:
            self._booster.load_model(bytearray(grown.encode()))
            self._booster.set_param(parameters)

    def grow(self, objective: Objective) -> None:
        # What draws the columns is made once and goes on drawing. Made anew in every round, from
        # the round's seed, it draws the same after an interruption too; XGBoost makes it anew when
        # it is configured with another tree method.
        done, apart = self.steps, APART * (self._team.rank if self._team else 0)
        self._booster.set_param({"tree_method": "approx"})
        self._booster.save_config()
        self._booster.set_param({"tree_method": "hist", "seed": self._seed + done + apart})
        self._booster.update(
            self._data,
            done,
            (lambda scores, _: self._slope(objective, scores)) if self.takes_loss else None,
        )

    def _slope(self, objective: Objective, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outputs, shape = self.num_outputs, scores.shape
        found = objective(torch.from_numpy(scores).view(-1, outputs))
        curvature = found.curvature.numpy()
        if outputs > 1:  # XGBoost's own softmax has twice p (1 − p), not LightGBM's C / (C − 1)
            curvature = curvature * (2 * (outputs - 1) / outputs)
        return found.gradient.numpy().reshape(shape), curvature.reshape(shape)

    def _mine(self, rows: Tensor) -> Tensor:
        return rows if self._team is None else self._team.mine(rows)

    def _first_scores(self, train: Rows) -> Tensor:
        return log_odds(train.y, self.num_outputs, train.sample_weight)

    def _types(self) -> dict[str, Any]:
        """Which columns are categories, as XGBoost is told."""
        if self._recoded is None:
            return {}
        categories = {*self._recoded.categories}
        types = ["c" if place in categories else "q" for place in range(self._width)]
        return {"feature_types": types, "enable_categorical": True}

    def _weights(self, train: Rows) -> dict[str, Any]:
        weight = train.sample_weight
        return {} if weight is None else {"weight": self._mine(weight).numpy()}

    def _own_objective(self) -> dict[str, Any]:
        """The objective, with nothing added to the scores but the trees."""
        if self.num_outputs == 1:
            own = {"objective": "binary:logistic", "base_score": 0.5}  # log-odds of 0
        else:
            own = {"objective": "multi:softprob", "base_score": 0.0}
        if self.takes_loss:
            own = {"base_score": 0.0}
        return own if self.num_outputs == 1 else {**own, "num_class": self.num_outputs}

    def last_step(self, x: Tensor) -> Tensor | None:
        return self._sums(x, (self.steps - 1, self.steps))

    @property
    def steps(self) -> int:
        return 0 if self._booster is None else self._booster.num_boosted_rounds()

    def text(self) -> str:
        return self._booster.save_raw("json").decode()

    def keep(self, steps: int) -> None:
        self._booster = self._booster[:steps]
        self._data = None

    def _sums(self, x: Tensor, rounds: tuple[int, int] = (0, 0)) -> Tensor:
        """The sum of the trees of these rounds; (0, 0): of all."""
        if not len(x):
            return torch.zeros(0, self.num_outputs, dtype=torch.float64)
        self._booster.set_param({"nthread": torch.get_num_threads()})
        raw = self._booster.inplace_predict(
            self._rows(x), iteration_range=rounds, predict_type="margin"
        )
        return torch.from_numpy(np.asarray(raw, dtype=np.float64)).view(-1, self.num_outputs)

    def _shapley_values(self, x: Tensor) -> Tensor:
        if not len(x):
            return torch.zeros(0, self._width + 1, dtype=torch.float64)
        threads = torch.get_num_threads()
        self._booster.set_param({"nthread": threads})
        rows = self._library.DMatrix(self._rows(x), nthread=threads, **self._types())
        found = self._booster.predict(rows, pred_contribs=True)
        return torch.from_numpy(np.asarray(found, dtype=np.float64))

    def _read(self, text: str) -> tuple[Any, int, int]:
        booster = self._library.Booster()
        booster.load_model(bytearray(text.encode()))
        features = booster.num_features()
        one = np.zeros((1, features), dtype=np.float32)
        return booster, features, booster.inplace_predict(one, predict_type="margin").size

    def _plain_trees(self) -> PlainTrees:
        return json_trees(self.text(), self._start.numpy())


@final
class XGBoost(_XGBoost):
    """XGBoost on the gradient of any loss, over all training rows in every round.

    in_features: F; num_outputs: 1 for two classes, else C; num_iterations: the most rounds;
    early_stopping_round: rounds without a better ``trainer.select_by``, among those that may be
    selected (None: never); the others as in XGBoost, whose trees are grown level by level on
    histograms. The scores start at the log-odds of the training rows, which XGBoost's own file does
    not hold. XGBoost works in float32. Uses torch's thread count.

    categories="native": XGBoost takes columns of levels for categories of its own; one_hot and
    codes, filled in, say which (:class:`~rarelab.boosting.categories.Recoded`).

    Raises RequestError for values out of range, a wrong input shape or a missing XGBoost,
    RarelabError for scores before the fit.

    Source: Chen and Guestrin, XGBoost, KDD 2016.
    """

    takes_loss: ClassVar[bool] = True
    shares_rows: ClassVar[bool] = True


@final
class XGBoostLogLoss(_XGBoost):
    """XGBoost on its own log-loss, as a reference: parameters, selection and early stopping are
    those of :class:`XGBoost`, but loss, schedule and optimiser do not apply."""

    takes_loss: ClassVar[bool] = False
    shares_rows: ClassVar[bool] = True


@final
class XGBoostRanking(_XGBoost):
    """XGBoost on a ranking objective of its own, as a reference: all training rows are one query.

    objective: ``rank:map``, ``rank:pairwise`` or ``rank:ndcg``; pairs: "mean" draws
    ``pairs_per_row`` partners for each row, "topk" pairs the ``pairs_per_row`` rows ranked highest
    with all others. Its curvatures are small, and so must be ``min_child_weight`` and
    ``reg_lambda``. The scores are no log-odds. The other parameters are those of :class:`XGBoost`.

    Raises RequestError, beyond those of :class:`XGBoost`, for more than two classes and for row
    weights.

    Source: Burges, From RankNet to LambdaRank to LambdaMART, MSR-TR-2010-82.
    """

    takes_loss: ClassVar[bool] = False
    gives_log_odds: ClassVar[bool] = False

    def __init__(
        self,
        in_features: int,
        num_outputs: int,
        objective: Literal["rank:map", "rank:pairwise", "rank:ndcg"] = "rank:map",
        pairs: Literal["mean", "topk"] = "mean",
        pairs_per_row: int = 1,
        num_iterations: int = 300,
        learning_rate: float = 0.1,
        max_depth: int = 6,
        min_child_weight: float = 0.0,
        reg_lambda: float = 0.01,
        subsample: float = 0.8,
        colsample_bytree: float = 0.5,
        max_bin: int = 256,
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
            max_depth,
            min_child_weight,
            reg_lambda,
            subsample,
            colsample_bytree,
            max_bin,
            early_stopping_round,
            categories,
            one_hot,
            codes,
        )
        one_of("model.objective", objective, RANKINGS)
        one_of("model.pairs", pairs, PAIRS)
        self._check("pairs_per_row", pairs_per_row, pairs_per_row >= 1, "at least 1")
        self._check("num_outputs", num_outputs, num_outputs == 1, "1: it ranks two classes")
        self._ranking = {
            "objective": objective,
            "lambdarank_pair_method": pairs,
            "lambdarank_num_pair_per_sample": pairs_per_row,
            "base_score": 0.0,
        }

    def _own_objective(self) -> dict[str, Any]:
        return self._ranking

    def _first_scores(self, train: Rows) -> Tensor:
        return torch.zeros(1, dtype=torch.float64)

    def _weights(self, train: Rows) -> dict[str, Any]:
        if train.sample_weight is not None:
            raise RequestError(
                "dataset.sample_weight: XGBoost weighs queries, not rows, in its ranking "
                "objectives, and here all rows are one query; drop it or use model=xgboost"
            )
        return {"qid": np.zeros(len(train.y), dtype=np.uint32)}


def _xgboost() -> Any:
    try:
        import xgboost
    except (ImportError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise RequestError(
            f"model: XGBoost cannot be loaded ({reason}): pip install xgboost-cpu, which is small, "
            "or xgboost, which brings CUDA on Linux"
        ) from error
    return xgboost

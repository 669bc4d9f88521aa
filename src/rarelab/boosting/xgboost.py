"""XGBoost, grown on any loss, on its own log-loss, or on its own ranking objectives."""

from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor

from rarelab.boosting.boosted import Boosted, Objective, check_value
from rarelab.boosting.gradient import log_odds
from rarelab.errors import RarelabError, RequestError, nearest
from rarelab.models.estimator import Rows
from rarelab.models.shapes import check_input, check_sizes

PAIRS = ("topk", "mean")
RANKINGS = ("rank:map", "rank:pairwise", "rank:ndcg")


class _XGBoost(Boosted):
    """Everything but the choice of the objective."""

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
    ) -> None:
        check_sizes(
            "xgboost",
            in_features=in_features,
            num_outputs=num_outputs,
            num_iterations=num_iterations,
            max_depth=max_depth,
        )
        if early_stopping_round is not None:
            check_sizes("xgboost", early_stopping_round=early_stopping_round)
        rate, weight = learning_rate, min_child_weight
        check_value("xgboost", "learning_rate", rate, rate > 0, "above 0")
        check_value("xgboost", "max_depth", max_depth, max_depth <= 30, "at most 30")
        check_value("xgboost", "max_bin", max_bin, max_bin >= 2, "at least 2")
        check_value("xgboost", "min_child_weight", weight, weight >= 0, "at least 0")
        check_value("xgboost", "reg_lambda", reg_lambda, reg_lambda >= 0, "at least 0")
        check_value("xgboost", "subsample", subsample, 0 < subsample <= 1, "in (0, 1]")
        share = colsample_bytree
        check_value("xgboost", "colsample_bytree", share, 0 < share <= 1, "in (0, 1]")
        self._library = _xgboost()
        self.in_features, self.num_outputs = in_features, num_outputs
        self.rounds, self.patience = num_iterations, early_stopping_round
        self._options: dict[str, Any] = {
            "verbosity": 0,
            "tree_method": "hist",
            "disable_default_eval_metric": 1,
            "learning_rate": learning_rate,
            "max_depth": max_depth,
            "min_child_weight": min_child_weight,
            "reg_lambda": reg_lambda,
            "subsample": subsample,
            "colsample_bytree": colsample_bytree,
            "max_bin": max_bin,
        }
        if num_outputs > 1:
            self._options["num_class"] = num_outputs
        self._booster: Any = None
        self._start = torch.zeros(num_outputs, dtype=torch.float64)

    def begin(self, train: Rows, seed: int, done: int = 0, grown: str | None = None) -> None:
        """Every round draws from a seed of its own, so nothing is repeated to go on."""
        self._seed = seed % 2**30
        self._start = self._first_scores(train)
        given: dict[str, Any] = {"base_margin": self._margins(len(train.y)), **self._groups(train)}
        if train.sample_weight is not None:
            given["weight"] = train.sample_weight.numpy()
        self._data = self._library.QuantileDMatrix(
            train.x.numpy(),
            label=train.y.numpy(),
            max_bin=self._options["max_bin"],
            nthread=torch.get_num_threads(),
            **given,
        )
        parameters = {**self._options, **self._own_objective(), "nthread": torch.get_num_threads()}
        self._booster = self._library.Booster(parameters, [self._data])
        if grown is not None:
            self._booster.load_model(bytearray(grown.encode()))
            self._booster.set_param(parameters)

    def grow(self, objective: Objective) -> None:
        done = self.steps
        # What draws columns is made once and goes on drawing. Made anew for every round, from the
        # round's seed, it draws the same whether or not the run was interrupted; XGBoost makes it
        # anew when the tree method has changed.
        self._booster.set_param({"tree_method": "approx"})
        self._booster.save_config()
        self._booster.set_param({"tree_method": "hist", "seed": self._seed + done})
        gradient = (lambda scores, _: self._slope(objective, scores)) if self.takes_loss else None
        self._booster.update(self._data, done, gradient)

    def _slope(self, objective: Objective, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raw = torch.from_numpy(scores.astype(np.float64)).view(-1, self.num_outputs)
        found = objective(raw)
        shape = scores.shape
        return found.gradient.numpy().reshape(shape), found.curvature.numpy().reshape(shape)

    def _first_scores(self, train: Rows) -> Tensor:
        return log_odds(train.y, self.num_outputs, train.sample_weight)

    def _margins(self, rows: int) -> np.ndarray:
        first = np.tile(self._start.numpy().astype(np.float32), (rows, 1))
        return first[:, 0] if self.num_outputs == 1 else first

    def _groups(self, train: Rows) -> dict[str, Any]:
        return {}

    def _own_objective(self) -> dict[str, Any]:
        if self.takes_loss or self.num_outputs > 1:
            own = {} if self.takes_loss else {"objective": "multi:softprob"}
            return {**own, "base_score": 0.0}
        return {"objective": "binary:logistic", "base_score": 0.5}  # log-odds of 0

    def last_step(self, x: Tensor) -> Tensor | None:
        return self._predicted(x, (self.steps - 1, self.steps))

    @property
    def start(self) -> Tensor:
        return self._start

    @property
    def steps(self) -> int:
        return 0 if self._booster is None else self._booster.num_boosted_rounds()

    def text(self) -> str:
        return self._booster.save_raw("json").decode()

    def keep(self, steps: int) -> None:
        self._booster = self._booster[:steps]
        self._data = None

    def scores(self, x: Tensor) -> Tensor:
        if self._booster is None:
            raise RarelabError("model xgboost: scores were requested before the fit")
        check_input(x, model="xgboost", input_ndim=2, in_features=self.in_features)
        return (self._start + self._predicted(x, (0, 0))).float()

    def _predicted(self, x: Tensor, rounds: tuple[int, int]) -> Tensor:
        """The sum of the trees of these rounds, (0, 0) for all, float64 [N, C]."""
        if not len(x):
            return torch.zeros(0, self.num_outputs, dtype=torch.float64)
        self._booster.set_param({"nthread": torch.get_num_threads()})
        raw = self._booster.inplace_predict(
            x.detach().cpu().numpy(), iteration_range=rounds, predict_type="margin"
        )
        return torch.from_numpy(np.asarray(raw, dtype=np.float64)).view(-1, self.num_outputs)

    def state(self) -> dict[str, np.ndarray]:
        """XGBoost's own JSON, which holds no code, as bytes; and the start."""
        text = np.frombuffer(self.text().encode(), dtype=np.uint8)
        return {"text": text, "start": self._start.numpy()}

    def load_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Raises ValueError for trees that do not belong to this model."""
        text, self._start = self._checked(arrays)
        booster = self._library.Booster()
        booster.load_model(bytearray(text.encode()))
        outputs = int(booster.inplace_predict(self._nothing(), predict_type="margin").size)
        if (booster.num_features(), outputs) != (self.in_features, self.num_outputs):
            raise ValueError(
                f"the trees read {booster.num_features()} features and give {outputs} scores, not "
                f"{self.in_features} and {self.num_outputs}"
            )
        self._booster = booster

"""LightGBM, grown on any loss or on its own log-loss."""

from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor

from rarelab.boosting.boosted import Boosted, Objective
from rarelab.boosting.gradient import log_odds
from rarelab.errors import RarelabError, RequestError
from rarelab.models.estimator import Rows
from rarelab.models.shapes import check_input, check_sizes


class _LightGBM(Boosted):
    """Everything but the choice of the objective."""

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
    ) -> None:
        check_sizes(
            "lightgbm",
            in_features=in_features,
            num_outputs=num_outputs,
            num_iterations=num_iterations,
            min_data_in_leaf=min_data_in_leaf,
        )
        if early_stopping_round is not None:
            check_sizes("lightgbm", early_stopping_round=early_stopping_round)
        _check("learning_rate", learning_rate, learning_rate > 0, "above 0")
        _check("num_leaves", num_leaves, 2 <= num_leaves <= 131072, "2 to 131072")
        _check("max_bin", max_bin, 2 <= max_bin <= 65535, "2 to 65535")
        for name, least in (
            ("min_sum_hessian_in_leaf", min_sum_hessian_in_leaf),
            ("lambda_l2", lambda_l2),
        ):
            _check(name, least, least >= 0, "at least 0")
        for name, share in (
            ("feature_fraction", feature_fraction),
            ("bagging_fraction", bagging_fraction),
        ):
            _check(name, share, 0 < share <= 1, "in (0, 1]")
        self._library = _lightgbm()
        self.in_features, self.num_outputs = in_features, num_outputs
        self.rounds, self.patience = num_iterations, early_stopping_round
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
        self._booster: Any = None
        self._start = torch.zeros(num_outputs, dtype=torch.float64)
        self._grown_last = False

    def begin(self, train: Rows, seed: int, done: int = 0, grown: str | None = None) -> None:
        """Its own objective starts again where its draws cannot be skipped: the bits are equal."""
        labels = train.y.numpy()
        weight = None if train.sample_weight is None else train.sample_weight.numpy()
        self._data = self._library.Dataset(train.x.numpy(), label=labels, weight=weight)
        self._parameters = {**self._options, "seed": seed % 2**31, **self._own_objective()}
        self._parameters["num_threads"] = torch.get_num_threads()
        if self.takes_loss:
            self._start = log_odds(train.y, self.num_outputs, train.sample_weight)
        self._booster, self._first = None, None
        if grown is not None and (self.takes_loss or not self._sampled):
            self._first = self._library.Booster(model_str=grown)
        for _ in range(done if self._sampled else 0):
            self._update(_flat)

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
        grown = torch.from_numpy(np.ascontiguousarray(scores)).view(-1, self.num_outputs)
        found = objective(grown + self._start)
        shape = scores.shape
        return found.gradient.numpy().reshape(shape), found.curvature.numpy().reshape(shape)

    def _own_objective(self) -> dict[str, Any]:
        classes = {} if self.num_outputs == 1 else {"num_class": self.num_outputs}
        own = "binary" if self.num_outputs == 1 else "multiclass"
        return classes if self.takes_loss else {"objective": own, **classes}

    def last_step(self, x: Tensor) -> Tensor | None:
        if not self._grown_last:
            return None
        return self._predicted(x, start_iteration=self.steps - 1, num_iteration=1)

    @property
    def start(self) -> Tensor:
        return self._start

    @property
    def steps(self) -> int:
        booster = self._first if self._booster is None else self._booster
        return 0 if booster is None else booster.current_iteration()

    def text(self) -> str:
        return self._booster.model_to_string(num_iteration=-1)

    def keep(self, steps: int) -> None:
        self._load(self._booster.model_to_string(num_iteration=steps))
        self._data = self._first = None

    def scores(self, x: Tensor) -> Tensor:
        if self._booster is None:
            raise RarelabError("model lightgbm: scores were requested before the fit")
        check_input(x, model="lightgbm", input_ndim=2, in_features=self.in_features)
        return (self._start + self._predicted(x)).float()

    def _predicted(self, x: Tensor, **which: int) -> Tensor:
        """The sum of the trees, float64 [N, C]."""
        if not len(x):
            return torch.zeros(0, self.num_outputs, dtype=torch.float64)
        threads = torch.get_num_threads()
        raw = self._booster.predict(
            x.detach().cpu().numpy(), raw_score=True, num_threads=threads, **which
        )
        return torch.from_numpy(np.ascontiguousarray(raw)).view(-1, self.num_outputs)

    def state(self) -> dict[str, np.ndarray]:
        """LightGBM's own text format, which holds no code, as bytes; and the start."""
        text = np.frombuffer(self._booster.model_to_string().encode(), dtype=np.uint8)
        return {"text": text, "start": self._start.numpy()}

    def load_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Raises ValueError for trees that do not belong to this model."""
        text, start = arrays["text"], arrays["start"]
        if text.dtype != np.uint8 or text.ndim != 1:
            raise ValueError(f"the trees' text is {text.dtype} {list(text.shape)}, expected bytes")
        if start.dtype != np.float64 or start.shape != (self.num_outputs,):
            raise ValueError(f"the start has shape {list(start.shape)}, not [{self.num_outputs}]")
        if not np.isfinite(start).all():
            raise ValueError("the start is NaN or infinite")
        self._load(text.tobytes().decode())
        self._start = torch.from_numpy(start.copy())

    def onnx_graph(self) -> Any:
        """The start and the trees as an ONNX model, from ``features`` [N, F] to ``scores``
        [N, C]."""
        from rarelab.boosting.text_trees import text_trees
        from rarelab.models.tree_graph import tree_graph

        if self._booster is None:
            raise RarelabError("model lightgbm: a graph was requested before the fit")
        start = self._start.numpy()
        outputs = [[(column, 1.0)] for column in range(self.num_outputs)]
        return tree_graph(text_trees(self._booster.model_to_string(), start), outputs, start)

    def _load(self, text: str) -> None:
        booster = self._library.Booster(model_str=text)
        found = booster.num_feature(), booster.num_model_per_iteration()
        if found != (self.in_features, self.num_outputs):
            raise ValueError(
                f"the trees read {found[0]} features and give {found[1]} scores, not "
                f"{self.in_features} and {self.num_outputs}"
            )
        self._booster = booster


@final
class LightGBM(_LightGBM):
    """LightGBM on the gradient of any loss, over all training rows in every round.

    in_features: F; num_outputs: 1 for two classes, else C; num_iterations: the most rounds;
    early_stopping_round: rounds without a better ``trainer.select_by``, among those that may be
    selected (None: never); the others as in LightGBM, bagging in every round. The scores start at
    the log-odds of the training rows, which LightGBM's own file does not hold. Uses torch's thread
    count; ``deterministic`` and ``force_row_wise`` are always set.

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


def _check(name: str, value: object, valid: bool, expected: str) -> None:
    if not valid:
        raise RequestError(f"model lightgbm: {name} must be {expected}, found {value!r}")

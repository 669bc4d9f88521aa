"""The mean of fitted models: an ensemble of recorded runs, which trains nothing itself."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rarelab.errors import RarelabError, RequestError
from rarelab.models.classifier import adapted
from rarelab.models.estimator import Portable, Rows, raw_scores
from rarelab.models.members import of_mean_probability
from rarelab.models.shapes import check_sizes

Average = Literal["probability", "rank"]
_ROWS = 8192
"""Rows that a network scores at once."""


class Ensemble:
    """The mean of the members' probabilities, or of their ranks.

    With ``probability`` the score is the logit of the mean probability
    (:func:`~rarelab.models.members.of_mean_probability`). With ``rank`` a member's score first
    becomes its place among the member's own scores of the validation rows, in (0, 1), and the score
    is the logit of the mean place: for scores that are no log-odds. Two classes only.

    num_outputs: 1 for two classes, else C. Which runs: either runs: their ids, prefixes of them or
    the names of their folders; or experiment and arm: all finished runs of the experiment on the
    same data and split whose parameters have these values, of which an ensemble with seed s takes
    the s-th ``size`` in the order of their seeds (null: all, whatever the seed). average: null is
    ``rank`` if a member has a ranking objective of its own or gives margins, else ``probability``.
    members: filled in, the ids of the runs; models: the members themselves, once they are read.

    Satisfies ``Estimator`` and ``Portable``. Raises RequestError for members that cannot be
    averaged, RarelabError for scores before there are members.
    """

    def __init__(
        self,
        num_outputs: int,
        runs: list[str] | None = None,
        experiment: str | None = None,
        arm: dict[str, str | int | float | bool | None] | None = None,
        size: int | None = None,
        average: Average | None = None,
        members: list[str] | None = None,
        models: Sequence[Any] = (),
    ) -> None:
        check_choice(runs, experiment, arm, size)
        self.num_outputs, self.average = num_outputs, average
        self.models = [adapted(model, num_outputs) for model in models]
        self.leaves: list[Mapping[str, Any]] = []
        self._orders: list[NDArray[np.float64]] = []

    def take(self, models: Sequence[Any], leaves: Sequence[Mapping[str, Any]]) -> None:
        """Take fitted models as members; ``leaves`` are their configurations."""
        self.models, self.leaves = [*models], [*leaves]

    def fit(self, train: Rows, val: Rows, seed: int) -> None:
        """Choose how to average; for ranks, keep the members' validation scores in order."""
        if self.average is None:
            odds = all(getattr(model, "gives_log_odds", True) for model in self.models)
            self.average = "probability" if odds else "rank"
        if self.average == "probability":
            return
        if self.num_outputs > 1:
            raise RequestError(
                "model.average=rank: ranks are of two classes; use model.average=probability"
            )
        scores = self._of_members(val.x)[:, :, 0].double()
        self._orders = [_order(column.numpy()) for column in scores.T]
        constant = [place for place, order in enumerate(self._orders) if order.shape[1] < 2]
        if constant:
            raise RequestError(
                f"model ensemble: member {constant[0]} gives all validation rows one score, "
                "so it has no ranks; leave it out"
            )

    def scores(self, x: Tensor) -> Tensor:
        """Raw scores [N, num_outputs], float32."""
        if not self.models or self.average is None:
            raise RarelabError("model ensemble: scores were requested before it had its members")
        scores = self._of_members(x)
        if self.average == "probability":
            return of_mean_probability(scores)
        columns = scores[:, :, 0].double().numpy().T
        placed = [_places(s, order) for s, order in zip(columns, self._orders, strict=True)]
        return torch.from_numpy(np.mean(placed, axis=0)).logit().float()[:, None]

    def state(self) -> dict[str, NDArray]:
        """The members' states, each below its number, and what ranks are taken among."""
        arrays = {f"{i}/order": order for i, order in enumerate(self._orders)}
        for number, model in enumerate(self.models):
            if isinstance(model, nn.Module):
                parts = {key: value.cpu().numpy() for key, value in model.state_dict().items()}
            elif isinstance(model, Portable):
                parts = model.state()
            else:
                raise RarelabError(f"its member {type(model).__name__} has no state of arrays")
            arrays |= {f"{number}/model/{key}": value for key, value in parts.items()}
        return arrays

    def load_state(self, arrays: dict[str, NDArray]) -> None:
        """Load what :meth:`state` returned into the members of :meth:`__init__`.

        Raises ValueError for a state that does not belong to them."""
        if not self.models or self.average not in get_args(Average):
            raise ValueError("the ensemble has no members, or no way to average them")
        for number, model in enumerate(self.models):
            parts = _below(f"{number}/model/", arrays)
            if isinstance(model, nn.Module):
                if not all(np.isfinite(value).all() for value in parts.values()):
                    raise ValueError(f"member {number} holds NaN or infinite weights")
                model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in parts.items()})
            else:
                model.load_state(parts)
        if self.average == "rank":
            self._orders = [arrays[f"{number}/order"] for number in range(len(self.models))]
            if not all(_is_an_order(order) for order in self._orders):
                raise ValueError("the scores that ranks are taken among are not in order")

    def _of_members(self, x: Tensor) -> Tensor:
        """The members' scores, float32 [N, k, C]."""
        return torch.stack([self._scores(model, x) for model in self.models], dim=1)

    def _scores(self, model: Any, x: Tensor) -> Tensor:
        if not isinstance(model, nn.Module):
            return raw_scores(model, x, self.num_outputs)
        model.cpu().eval()
        with torch.no_grad():
            parts = [model(rows).float() for rows in x.split(_ROWS)]
        return torch.cat(parts).view(len(x), self.num_outputs)


def check_choice(runs: Any, experiment: Any, arm: Any, size: int | None) -> None:
    """Raises RequestError unless the parameters of an ensemble name its members in one way."""
    if (not runs) == (not experiment):
        raise RequestError(
            "model ensemble: expected its members, either model.runs=[RUN,...] or "
            "model.experiment=NAME with model.arm"
        )
    if runs and (arm or size is not None):
        raise RequestError(
            "model ensemble: model.arm and model.size choose from an experiment; "
            "name it with model.experiment"
        )
    if size is not None:
        check_sizes("ensemble", size=size)


def _order(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distinct values of N scores and their places, [2, M]: the mean rank / (N + 1)."""
    values, rows = np.unique(scores, return_counts=True)
    last = rows.cumsum()
    return np.stack([values, (last - (rows - 1) / 2) / (len(scores) + 1)])


def _places(scores: NDArray[np.float64], order: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places of scores in an order, in (0, 1), rising strictly with the score.

    Between two of its values in proportion, beyond them ever closer to 0 or 1, so that rows above
    all validation rows keep their order.
    """
    values, places = order
    scale = (values[-1] - values[0]) / (len(values) - 1)
    above = np.clip(scores - values[-1], 0, None) / scale
    below = np.clip(values[0] - scores, 0, None) / scale
    inside = np.interp(scores, values, places)
    return inside + (1 - places[-1]) * above / (1 + above) - places[0] * below / (1 + below)


def _is_an_order(order: NDArray) -> bool:
    if order.ndim != 2 or order.shape[0] != 2 or order.shape[1] < 2 or order.dtype != np.float64:
        return False
    rises = bool(np.isfinite(order).all()) and bool((np.diff(order) > 0).all())
    return rises and order[1, 0] > 0 and order[1, -1] < 1


def _below(prefix: str, arrays: Mapping[str, NDArray]) -> dict[str, NDArray]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

"""A loss as the objective of LightGBM or XGBoost, without the rest of this framework."""

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any, NamedTuple, Self, final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from rarelab import losses
from rarelab.boosting.gradient import Slopes, log_odds, ranks
from rarelab.errors import nearest

MIX, WARMUP = 0.5, 50


class _Choice(NamedTuple):
    make: Callable[..., nn.Module]
    tau: float | None = None  # the default temperature, None where there is none


_CHOICES = {
    "bce": _Choice(losses.BinaryCrossEntropy),
    "weighted_bce": _Choice(losses.WeightedBinaryCrossEntropy),
    "hard_negative_bce": _Choice(losses.HardNegativeBinaryCrossEntropy),
    "sigmoid_focal": _Choice(losses.SigmoidFocalLoss),
    "all_pairs_squared_hinge": _Choice(partial(losses.AllPairsSquaredHingeLoss, 1, queue_size=0)),
    "smooth_ap": _Choice(partial(losses.SmoothAPLoss, 1, queue_size=0), tau=0.5),
    "recall_at_quantile": _Choice(partial(losses.RecallAtQuantileLoss, 1, queue_size=0), tau=0.5),
    "pauc_at_budget": _Choice(partial(losses.PAUCAtBudgetLoss, 1, queue_size=0), tau=0.1),
}


def objective(
    loss: str,
    *,
    tau: float | None = None,
    mix: float | None = None,
    warmup: int | None = None,
    **options: Any,
) -> "Objective":
    """A loss over all training rows, as ``objective`` of ``lightgbm.LGBMClassifier``.

    ::

        g = (1 − w) (p − y) + w c d,    c = ‖p − y‖₁ / ‖d‖₁,    h = max(p (1 − p), 1e-6)

    with w = 0 in the first ``warmup`` rounds, then ``mix``; d is the exact gradient of the ranking
    loss over the whole table. For ``mix=1`` h is also at least |g|. A loss that is a mean over rows
    (bce, weighted_bce, hard_negative_bce, sigmoid_focal) needs no blend: it is trained alone from
    the first round, and takes neither ``mix`` nor ``warmup``.

    Scores that start out all equal, as those of a custom objective do, are taken to start at the
    log-odds of the (weighted) rate of positives: add :func:`rarelab.boosting.prior` to the raw
    scores for log-odds. Also for ``lightgbm.train`` and, with ``obj=``, ``xgboost.train``. Two
    classes. A copy (pickle, scikit-learn's ``clone``) starts a fit of its own.

    Args:
        loss: bce, weighted_bce, hard_negative_bce, sigmoid_focal, all_pairs_squared_hinge,
            smooth_ap, recall_at_quantile or pauc_at_budget.
        tau: temperature; None: 0.5 (in log-odds), for pauc_at_budget 0.1 (in units of the spread).
        mix: w after the warmup, in (0, 1]; None: 0.5.
        warmup: rounds on log-loss alone; None: 50.
        options: further parameters of the loss (``quantile=0.01``).

    Raises:
        ValueError: there is no such loss, or an argument is out of range or not one of the loss's.
    """
    if loss not in _CHOICES:
        raise ValueError(f"objective: there is no loss {loss!r}; {nearest(loss, _CHOICES)}")
    given = {"tau": tau, "mix": mix, "warmup": warmup}
    made = {**options, **_temperature(loss, tau)}
    try:
        main = _CHOICES[loss].make(**made)
    except TypeError as error:
        known = {*signature(_CHOICES[loss].make).parameters, *given} - {"temperature"}
        wrong = next((name for name in options if name not in known), None)
        told = error if wrong is None else f"there is no {wrong!r}; {nearest(wrong, known)}"
        raise ValueError(f"objective: {loss}: {told}") from None
    if not ranks(main):
        for name in ("mix", "warmup"):
            if given[name] is not None:
                raise ValueError(
                    f"objective: {name} is {given[name]}, but {loss} is a mean over rows and is "
                    "not blended"
                )
        mix, warmup = 1.0, 0
    mix = MIX if mix is None else mix
    warmup = WARMUP if warmup is None else warmup
    if not 0 < mix <= 1:
        raise ValueError(f"objective: mix is {mix}, expected a number in (0, 1]")
    if warmup < 0:
        raise ValueError(f"objective: warmup is {warmup}, expected a number of rounds, at least 0")
    given = {name: value for name, value in given.items() if value is not None}
    return Objective(main, mix, warmup, (loss, {**given, **options}))


def prior(labels: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """The log-odds of the (weighted) rate of positives among ``labels`` in {0, 1}, [N]."""
    return log_odds(_labels(labels), 1, _weights(sample_weight)).item()


@final
class Objective:
    """Made by :func:`objective`; counts the rounds of one fit at a time.

    A fit begins when all scores are equal or the number of rows changes.
    """

    def __init__(
        self, loss: nn.Module, mix: float, warmup: int, made_by: tuple[str, dict[str, Any]]
    ) -> None:
        self._loss, self._mix, self._warmup, self._made_by = loss, mix, warmup, made_by
        self._warm = losses.BinaryCrossEntropy()
        self._round, self._start = 0, 0.0
        self._raw = torch.empty(0, 1, dtype=torch.float64)

    def __call__(self, first: Any, second: Any, sample_weight: Any = None) -> tuple[NDArray, ...]:
        """Gradient and curvature of ``(labels, scores)`` or, as the libraries' own ``train``
        functions call it, of ``(scores, data)``; float32, as both libraries keep them."""
        labels, scores = first, second
        if hasattr(second, "get_label"):
            scores, labels, sample_weight = first, second.get_label(), second.get_weight()
        scores = np.asarray(scores)
        if scores.ndim != 1 and scores.shape[1:] != (1,):
            raise ValueError(
                f"objective: two classes are expected, found scores of shape {scores.shape}"
            )
        if scores.size != self._raw.numel() or _equal(scores.ravel()):
            self._begin(scores, labels, sample_weight)
        elif not self._given.holds(labels, sample_weight):
            self._read(labels, sample_weight)
        share = self._mix if self._round >= self._warmup else 0.0
        blend = [(1 - share, self._warm), (share, self._loss)]
        self._round += 1
        self._raw.copy_(torch.from_numpy(scores).view(-1, 1)).add_(self._start)
        found = self._slopes.at(self._raw, [part for part in blend if part[0] > 0])
        return tuple(
            side.float().numpy().reshape(scores.shape) for side in (found.gradient, found.curvature)
        )

    def _begin(self, scores: NDArray, labels: Any, sample_weight: Any) -> None:
        targets, weight = self._read(labels, sample_weight)
        self._round, self._start = 0, 0.0
        self._raw = torch.empty(scores.size, 1, dtype=torch.float64)
        if _equal(scores.ravel()):
            self._start = log_odds(targets, 1, weight).item() - float(scores.flat[0])

    def _read(self, labels: Any, sample_weight: Any) -> tuple[Tensor, Tensor | None]:
        targets, weight = _labels(labels), _weights(sample_weight)
        self._given = _Given.of(labels, sample_weight)
        self._slopes = Slopes(targets, weight)
        return targets, weight

    def __reduce__(self) -> tuple[Any, ...]:
        name, given = self._made_by
        return partial(objective, name, **given), ()

    def __repr__(self) -> str:
        name, given = self._made_by
        return f"objective({', '.join([repr(name), *(f'{k}={v!r}' for k, v in given.items())])})"


class _Given(NamedTuple):
    """The labels and weights of the last round, as they were handed over."""

    labels: NDArray
    weight: NDArray | None

    @classmethod
    def of(cls, labels: ArrayLike, weight: ArrayLike | None) -> Self:
        return cls(np.array(labels), None if weight is None else np.array(weight))

    def holds(self, labels: ArrayLike, weight: ArrayLike | None) -> bool:
        if weight is None or self.weight is None:
            same = weight is None and self.weight is None
        else:
            same = np.array_equal(weight, self.weight)
        return same and np.array_equal(labels, self.labels)


def _equal(scores: NDArray) -> bool:
    """Whether all are; the first few nearly always say that they are not."""
    return all(bool((part == scores[0]).all()) for part in (scores[:1000], scores))


def _temperature(loss: str, tau: float | None) -> dict[str, float]:
    default = _CHOICES[loss].tau
    if default is not None:
        return {"temperature": default if tau is None else tau}
    if tau is not None:
        raise ValueError(f"objective: tau is {tau}, but {loss} has no temperature")
    return {}


def _labels(labels: ArrayLike) -> Tensor:
    given = np.asarray(labels)
    found = given.astype(np.int64)
    if given.ndim != 1 or (found != given).any() or ((found != 0) & (found != 1)).any():
        raise ValueError("objective: labels must be a list of 0 and 1")
    return torch.from_numpy(found)


def _weights(sample_weight: ArrayLike | None) -> Tensor | None:
    if sample_weight is None or not np.size(sample_weight):  # XGBoost: an empty list for no weights
        return None
    return torch.from_numpy(np.asarray(sample_weight, dtype=np.float64))

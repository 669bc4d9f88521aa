"""From scores to probabilities: Platt scaling or isotonic regression, fitted on validation rows.

Both preserve the order of the scores (isotonic regression may merge neighbours into ties), so
ranking metrics use the raw scores. The fit is stored as plain numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rarelab.metrics.exact import one_vs_rest

Method = Literal["none", "platt", "isotonic"]

FEWEST = 10


@dataclass(frozen=True)
class Curve:
    """One class's probability as a function of its score: piecewise linear, or a sigmoid.

    platt: p = σ(slope · s + intercept). isotonic: linear between knots (x, y), constant outside.
    """

    slope: float = 1.0
    intercept: float = 0.0
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()

    def __call__(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.x:
            return np.interp(scores, self.x, self.y)
        z = self.slope * scores + self.intercept
        return np.exp(-np.logaddexp(0.0, -z))


@dataclass(frozen=True)
class Calibrator:
    """Fitted curves, one per column of the logits."""

    method: Method
    curves: tuple[Curve, ...]

    def __call__(self, logits: Tensor) -> Tensor:
        """Probabilities [N, C] (C = 1: of class 1) for logits [N, C], float64.

        With several classes, the one-vs-rest probabilities are divided by their sum (Zadrozny &
        Elkan 2002); where all are 0, they become 1/C.
        """
        scores = logits.detach().cpu().double().numpy()
        found = np.stack([curve(scores[:, c]) for c, curve in enumerate(self.curves)], axis=1)
        if len(self.curves) > 1:
            total = found.sum(axis=1, keepdims=True)
            found = np.where(total > 0, found / np.where(total > 0, total, 1), 1 / found.shape[1])
        return torch.from_numpy(found)

    def state(self) -> dict[str, Any]:
        """Plain numbers, ready for JSON."""
        return {"method": self.method, "curves": [dict(vars(curve)) for curve in self.curves]}


def restored(state: Mapping[str, Any]) -> Calibrator:
    """The calibrator that returned this ``state()``."""
    curves = [
        Curve(c["slope"], c["intercept"], tuple(c["x"]), tuple(c["y"])) for c in state["curves"]
    ]
    return Calibrator(state["method"], tuple(curves))


def fit(method: Method, logits: Tensor, targets: Tensor) -> Calibrator:
    """Fit on scores [N, C] and class indices [N] of rows that did not train the model.

    A class without a positive or a negative there gets a constant p, its rate.

    Raises:
        ValueError: ``method`` is neither 'platt' nor 'isotonic'.
    """
    if method not in ("platt", "isotonic"):
        raise ValueError(f"calibration is {method!r}, expected platt or isotonic")
    one_curve = _platt if method == "platt" else _isotonic
    scores, positives = one_vs_rest(logits, targets)
    columns = zip(scores.double().numpy().T, positives.numpy().T, strict=True)
    return Calibrator(method, tuple(_constant(y) or one_curve(s, y) for s, y in columns))


def scarce(targets: Tensor, classes: Sequence[str]) -> list[str]:
    """The classes with fewer than `FEWEST` rows, too few for more than a noisy fit."""
    counts = torch.bincount(targets, minlength=len(classes)).tolist()
    return [name for name, count in zip(classes, counts, strict=True) if count < FEWEST]


def _constant(positives: NDArray[np.bool_]) -> Curve | None:
    if 0 < positives.sum() < len(positives):
        return None
    rate = float(positives.mean()) if len(positives) else 0.0
    return Curve(x=(0.0,), y=(rate,))


def _platt(scores: NDArray[np.float64], positives: NDArray[np.bool_]) -> Curve:
    """Platt 1999: logistic regression on the score, with targets pulled in from 0 and 1."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    n_positives = int(positives.sum())
    high = (n_positives + 1) / (n_positives + 2)
    low = 1 / (len(positives) - n_positives + 2)
    goal = np.where(positives, high, low)
    # The optimiser needs scores of order one; a soft target becomes one weighted row of each class.
    centre, spread = scores.mean(), scores.std() or 1.0
    x = ((scores - centre) / spread)[:, None]
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", max_iter=200)
    # The last bits of sums over rows depend on the number of threads, which the shell may set.
    with threadpool_limits(1, user_api="blas"):
        model.fit(
            np.concatenate([x, x]),
            np.repeat([1, 0], len(x)),
            sample_weight=np.concatenate([goal, 1 - goal]),
        )
    slope = np.ravel(model.coef_)[0] / spread
    return Curve(float(slope), float(np.ravel(model.intercept_)[0] - slope * centre))


def _isotonic(scores: NDArray[np.float64], positives: NDArray[np.bool_]) -> Curve:
    """Zadrozny & Elkan 2002: the non-decreasing step function with least squared error."""
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    model.fit(scores, positives.astype(np.float64))
    return Curve(x=tuple(model.X_thresholds_.tolist()), y=tuple(model.y_thresholds_.tolist()))

"""Any scikit-learn classifier as an estimator."""

import inspect
import logging
import math
import re
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rarelab.errors import RarelabError, RequestError
from rarelab.models.estimator import Rows

log = logging.getLogger("rarelab")

# A class without training rows gets this margin where the classifier gives margins.
_ABSENT = -30.0
# The largest probability that a probability of zero may stand for.
_FLOOR = math.exp(-10)
_COMPARED = 1000
_SHAPE = "decision_function_shape"


def is_classifier(made: Any) -> bool:
    """Whether this is a classifier of scikit-learn's interface, or a class of them."""
    base = sys.modules.get("sklearn.base")  # not loaded: nothing can derive from it
    if base is None:
        return False
    if inspect.isclass(made):
        return issubclass(made, base.ClassifierMixin)
    return isinstance(made, base.BaseEstimator) and base.is_classifier(made)


def wrong_option(target: Any, options: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first option that a classifier's own rules refuse, and what they expect, if any."""
    from sklearn.utils._param_validation import (
        InvalidParameterError,
        validate_parameter_constraints,
    )

    rules = getattr(target, "_parameter_constraints", {})
    for name, value in options.items():
        try:
            validate_parameter_constraints(rules, {name: value}, caller_name=target.__name__)
        except InvalidParameterError as error:
            found = re.search(r"must be (.*)\. Got ", " ".join(str(error).split()))
            return name, found.group(1) if found else str(error)
    return None


class Classifier:
    """A scikit-learn classifier, fitted on the training rows; validation changes no fit.

    ``scores`` are log-odds [N, 1] for two classes and logarithms of probabilities (or unnormalised
    ones) [N, C] for more: ``decision_function``, if the classifier's probabilities are its sigmoid
    or softmax, else the logarithms of ``predict_proba``, where a probability of 0 counts as half
    the smallest one on the validation rows, and at most e⁻¹⁰. A classifier without probabilities
    gives the margins of its ``decision_function``.

    Rows of any shape are flattened. Every ``random_state`` that is None, of inner estimators too,
    becomes the run's seed. Computes with torch's number of threads.

    Satisfies ``Estimator``, ``Refittable`` and ``Portable``: the state is scikit-learn's own
    attributes in the format of skops, which holds no pickle.

    Raises RequestError if the classifier gives neither scores nor probabilities, or is to use row
    weights that it does not take; RarelabError if it cannot be fitted, or stored.
    """

    def __init__(self, classifier: Any, num_outputs: int) -> None:
        self.classifier, self.num_outputs = classifier, num_outputs
        self.name = type(classifier).__name__
        self._fitted, self._margins, self._floor = False, True, _FLOOR
        self._chosen = False

    @property
    def gives_log_odds(self) -> bool:
        """Whether the scores are those of probabilities, and not mere margins."""
        return hasattr(self.classifier, "predict_proba")

    def fit(self, train: Rows, val: Rows, seed: int) -> None:
        """Fit on train. ``seed`` fixes the random draws."""
        from sklearn.utils.validation import has_fit_parameter

        weights = {}
        if train.sample_weight is not None:
            if not has_fit_parameter(self.classifier, "sample_weight"):
                raise RequestError(
                    f"model {self.name} takes no row weights: use a data set without "
                    "sample_weight, or another model"
                )
            weights = {"sample_weight": train.sample_weight.numpy()}
        options = self.classifier.get_params()
        unset = [name for name, value in options.items() if value is None]
        seeds = {name: seed for name in unset if name.rpartition("__")[2] == "random_state"}
        self.classifier.set_params(**seeds)
        with _threads(), warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                self.classifier.fit(_flat(train.x), train.y.numpy(), **weights)
                if not self._chosen:
                    self._choose_scores(val.x)
                self._fitted = True
            except RequestError:
                raise
            except (ValueError, TypeError) as error:
                raise RarelabError(
                    f"model {self.name} cannot be fitted: {_first_line(error)}"
                ) from error
        for text in dict.fromkeys(_first_line(warning.message) for warning in said):
            log.warning("note: %s: %s", self.name, text)

    def scores(self, x: Tensor) -> Tensor:
        """Raw scores [N, num_outputs], float32."""
        if not self._fitted:
            raise RarelabError(f"model {self.name}: scores were requested before the fit")
        with _threads():
            raw = self._margin(_flat(x)) if self._margins else self._logs(_flat(x))
        return torch.from_numpy(self._columns(raw).astype(np.float32))

    def kept(self) -> dict[str, Any]:
        """Nothing: a classifier that stops early holds out training rows for it, and does so again;
        the validation rows are not asked."""
        return {}

    def score_as(self, earlier: "Classifier") -> None:
        """Fit without validation rows, making the scores as an earlier fit did: from margins or
        probabilities, and with the same one for a probability of 0."""
        self._margins, self._floor, self._chosen = earlier._margins, earlier._floor, True

    def state(self) -> dict[str, NDArray]:
        """The fitted classifier as bytes of skops, and how its scores are made."""
        from rarelab.models.stored import stored

        choice = np.array([self._margins, self._floor], dtype=np.float64)
        return {"classifier": stored(self.classifier), "scores": choice}

    def load_state(self, arrays: dict[str, NDArray]) -> None:
        """Load what :meth:`state` returned; the scores are the same, bit for bit.

        Raises ValueError for a state that does not belong to this model."""
        from rarelab.models.stored import restored

        fitted = restored(arrays["classifier"], type(self.classifier))
        margins, floor = arrays["scores"].astype(np.float64).tolist()
        if not set(np.asarray(fitted.classes_).tolist()) <= set(range(max(2, self.num_outputs))):
            raise ValueError(f"the classifier knows the classes {fitted.classes_.tolist()[:9]}")
        if not 0 < floor <= _FLOOR:
            raise ValueError(f"the smallest probability is {floor}")
        self.classifier, self._fitted = fitted, True
        self._margins, self._floor = bool(margins), floor

    def _choose_scores(self, val: Tensor) -> None:
        known = len(self.classifier.classes_)
        if known < 2:
            raise ValueError("the training rows are all of one class")
        if not hasattr(self.classifier, "predict_proba"):
            if not hasattr(self.classifier, "decision_function"):
                raise RequestError(
                    f"model {self.name} has neither predict_proba nor decision_function: it only "
                    "decides and cannot rank rows"
                )
            self._margins = True
            shapes = {k: v for k, v in self.classifier.get_params().items() if k.endswith(_SHAPE)}
            if known > 2 and "ovo" in shapes.values():
                raise RequestError(
                    f"model {self.name} gives a margin for every pair of classes, expected one for "
                    f"every class: {_SHAPE}=ovr"
                )
            return
        rows = _flat(val)
        found = self.classifier.predict_proba(rows)
        self._margins = self._is_linked(rows[:_COMPARED], found[:_COMPARED])
        positive = found[found > 0]
        # Log-odds must not fall where the probability rises, so zero lies below all others.
        self._floor = min(_FLOOR, float(positive.min()) / 2) or _FLOOR

    def _is_linked(self, rows: NDArray, probabilities: NDArray) -> bool:
        """Whether the probabilities are the sigmoid or softmax of the decision function. It is more
        precise: a probability next to 1 rounds to 1, and such rows would tie."""
        if not hasattr(self.classifier, "decision_function"):
            return False
        margin = torch.from_numpy(self._margin(rows))
        if margin.shape[1] not in (1, probabilities.shape[1]):
            return False
        linked = margin.sigmoid() if margin.shape[1] == 1 else margin.softmax(dim=1)
        expected = probabilities[:, 1:] if margin.shape[1] == 1 else probabilities
        return np.allclose(linked.numpy(), expected, rtol=0, atol=1e-4)

    def _margin(self, rows: NDArray) -> NDArray:
        """The decision function, float64: [N, 1] for two known classes, else [N, K]."""
        raw = np.asarray(self.classifier.decision_function(rows), dtype=np.float64)
        return raw.reshape(len(rows), -1)

    def _logs(self, rows: NDArray) -> NDArray:
        """Log-odds [N, 1] for two known classes, else logs of the probabilities [N, K]."""
        found = np.asarray(self.classifier.predict_proba(rows), dtype=np.float64)
        logs = np.log(np.clip(found, self._floor, None))
        return logs[:, 1:] - logs[:, :1] if found.shape[1] == 2 else logs

    def _columns(self, raw: NDArray) -> NDArray:
        if self.num_outputs == 1:
            return raw
        if raw.shape[1] == 1:
            raw = np.concatenate([-raw / 2, raw / 2], axis=1)
        absent = _ABSENT if self._margins else math.log(self._floor)
        full = np.full((len(raw), self.num_outputs), absent)
        full[:, self.classifier.classes_] = raw
        return full


def adapted(made: Any, num_outputs: int) -> Any:
    """A classifier of scikit-learn's interface as an estimator; anything else unchanged."""
    return Classifier(made, num_outputs) if is_classifier(made) else made


def _flat(x: Tensor) -> NDArray[np.float64]:
    return x.detach().cpu().flatten(1).double().numpy()


def _threads() -> Any:
    from threadpoolctl import threadpool_limits

    return threadpool_limits(torch.get_num_threads())


def _first_line(error: object) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(":")

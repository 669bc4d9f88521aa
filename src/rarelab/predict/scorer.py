"""A trained model with its preprocessing: from a raw frame to raw scores."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rarelab.config.build import Model
from rarelab.data.tables.preprocess import Preprocessor
from rarelab.errors import RequestError
from rarelab.functional.threads import limited_threads
from rarelab.metrics.thresholds import AlertRule, Threshold, chosen
from rarelab.models import Estimator, raw_scores
from rarelab.predict.arrays import ArrayRows
from rarelab.predict.rules import Rules
from rarelab.training import Trainer


@dataclass(frozen=True)
class Scorer:
    """Scores frames of raw columns, or arrays of rows if the run's data set had no columns, the way
    the run scored its own test rows.

    ``validation`` holds the scores [N] and the positives [N] of the run's validation rows, None
    for more than two classes; ``baseline`` the mean features [F] of the training rows, None for
    models that are no network. Threads, batch size and precision are the trainer's, so the test
    split in its original order gets the recorded scores bit for bit; in another batch the last bits
    of a matrix product can differ.
    """

    model: Model
    trainer: Trainer
    preprocessor: Preprocessor | ArrayRows
    classes: tuple[str, ...]
    validation: tuple[NDArray[np.float32], NDArray[np.bool_]] | None
    rules: Rules = field(default_factory=Rules)
    baseline: NDArray[np.float32] | None = None

    def scores(self, frame: pd.DataFrame | NDArray) -> Tensor:
        """Raw scores, float32: [N, 1] for two classes, else [N, C].

        Raises:
            RequestError: a column is missing, or not of the type it had in training; or the rows
                are not of the shape they had.
        """
        return self.scores_of(self.features(frame))

    def features(self, frame: pd.DataFrame | NDArray) -> Tensor:
        """The features [N, F] that the model scores, float32; raises as :meth:`scores`."""
        rows: Any = frame  # the preprocessor refuses what it does not take
        return torch.from_numpy(self.preprocessor.transform(rows))

    def scores_of(self, x: Tensor) -> Tensor:
        """Raw scores of rows [N, F] that are preprocessed already."""
        with limited_threads(self.trainer.threads):
            if isinstance(self.model, nn.Module):
                return self.trainer.scores(self.model, x)
            if isinstance(self.model, Estimator):
                return raw_scores(self.model, x, len(score_columns(self.classes)))
            return self.model.scores(x)

    def table(
        self, frame: pd.DataFrame | NDArray, rule: float | AlertRule | None = None
    ) -> pd.DataFrame:
        """A row per row of the frame or array: ``score`` (or ``score/<class>``), the columns of the
        run's :class:`Rules` and, with a rule (a number is a budget), ``alert``: whether it reaches
        :meth:`threshold`.
        """
        threshold = None if rule is None else self.threshold(rule)
        raw = self.scores(frame)
        scores = raw.numpy()
        columns = {name: scores[:, i] for i, name in enumerate(score_columns(self.classes))}
        columns |= self.rules.columns(raw, self.classes)
        if threshold is not None:
            columns["alert"] = scores[:, 0] >= threshold.value
        return pd.DataFrame(columns)

    def threshold(self, rule: float | AlertRule) -> Threshold:
        """The threshold that the rule chooses on the validation rows (:class:`AlertRule`). A number
        is a budget: the lowest score that at most ⌈budget · N⌉ of the N validation rows reach.

        Tied rows all alert, or none does.

        Raises:
            RequestError: the rule asks for what no threshold reaches, or there are more than two
                classes.
        """
        asked = rule if isinstance(rule, AlertRule) else AlertRule(budget=rule)
        if self.validation is None:
            raise RequestError(
                f"{asked}: alerts need two classes, this run has {len(self.classes)}"
            )
        known = {"cheapest": self.rules.threshold, "days": self.rules.days}
        return chosen(asked, *self.validation, self.classes, **known)


def score_columns(classes: Sequence[str]) -> list[str]:
    """The names of the score columns, as in ``predictions.parquet``."""
    return ["score"] if len(classes) == 2 else [f"score/{name}" for name in classes]

"""A trained model with its preprocessing: from a raw frame to raw scores."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rarelab.config.build import Model
from rarelab.data.arguments import between
from rarelab.data.tables.preprocess import Preprocessor
from rarelab.errors import RequestError
from rarelab.metrics.tie_groups import top_size
from rarelab.models import Estimator, raw_scores
from rarelab.predict.arrays import ArrayRows
from rarelab.predict.rules import Rules
from rarelab.training import Trainer
from rarelab.training.threads import limited_threads


@dataclass(frozen=True)
class Threshold:
    """The lowest score that raises an alert, chosen on validation for an alert budget.

    On validation, ``alerts`` of ``rows`` rows reach it, ``hits`` of ``positives`` among them.
    ``value`` is infinite if more rows than the budget tie for the top score.
    """

    budget: float
    value: float
    rows: int
    alerts: int
    positives: int
    hits: int


@dataclass(frozen=True)
class Scorer:
    """Scores frames of raw columns, or arrays of rows if the run's data set had no columns, the way
    the run scored its own test rows.

    ``validation`` holds the scores [N] and the positives [N] of the run's validation rows, None
    for more than two classes. Threads, batch size and precision are the trainer's, so the test
    split in its original order gets the recorded scores bit for bit; in another batch the last bits
    of a matrix product can differ.
    """

    model: Model
    trainer: Trainer
    preprocessor: Preprocessor | ArrayRows
    classes: tuple[str, ...]
    validation: tuple[NDArray[np.float32], NDArray[np.bool_]] | None
    rules: Rules = field(default_factory=Rules)

    def scores(self, frame: pd.DataFrame | NDArray) -> Tensor:
        """Raw scores, float32: [N, 1] for two classes, else [N, C].

        Raises:
            RequestError: a column is missing, or not of the type it had in training; or the rows
                are not of the shape they had.
        """
        rows: Any = frame  # the preprocessor refuses what it does not take
        return self.scores_of(torch.from_numpy(self.preprocessor.transform(rows)))

    def scores_of(self, x: Tensor) -> Tensor:
        """Raw scores of rows [N, F] that are preprocessed already."""
        with limited_threads(self.trainer.threads):
            if isinstance(self.model, nn.Module):
                return self.trainer.scores(self.model, x)
            if isinstance(self.model, Estimator):
                return raw_scores(self.model, x, len(score_columns(self.classes)))
            return self.model.scores(x)

    def table(self, frame: pd.DataFrame | NDArray, budget: float | None = None) -> pd.DataFrame:
        """A row per row of the frame or array: ``score`` (or ``score/<class>``), the columns of the
        run's :class:`Rules` and, with a budget, ``alert``: whether it reaches :meth:`threshold`.
        """
        threshold = None if budget is None else self.threshold(budget)
        raw = self.scores(frame)
        scores = raw.numpy()
        columns = {name: scores[:, i] for i, name in enumerate(score_columns(self.classes))}
        columns |= self.rules.columns(raw, self.classes)
        if threshold is not None:
            columns["alert"] = scores[:, 0] >= threshold.value
        return pd.DataFrame(columns)

    def threshold(self, budget: float) -> Threshold:
        """The lowest validation score that at most ⌈budget · N⌉ of the N validation rows reach.

        Tied rows all alert, or none does.

        Raises:
            RequestError: the budget is not in (0, 1), or there are more than two classes.
        """
        between("budget", budget, 0, 1)
        if self.validation is None:
            raise RequestError(
                f"budget={budget:g}: alerts need two classes, this run has {len(self.classes)}"
            )
        scores, positives = self.validation
        value = top_threshold(scores, top_size(budget, len(scores)))
        alerts = scores >= value
        return Threshold(
            budget=budget,
            value=value,
            rows=len(scores),
            alerts=int(alerts.sum()),
            positives=int(positives.sum()),
            hits=int((alerts & positives).sum()),
        )


def score_columns(classes: Sequence[str]) -> list[str]:
    """The names of the score columns, as in ``predictions.parquet``."""
    return ["score"] if len(classes) == 2 else [f"score/{name}" for name in classes]


def top_threshold(scores: NDArray[np.float32], size: int) -> float:
    """The lowest score that at most ``size`` of these reach; infinite if more tie for the top."""
    ordered = np.sort(scores)[::-1]
    lowest = ordered[size - 1]
    if size < len(ordered) and ordered[size] == lowest:
        above = ordered[ordered > lowest]
        return float(above[-1]) if len(above) else math.inf
    return float(lowest)

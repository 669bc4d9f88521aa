"""A trained model with its preprocessing: a raw frame in, raw scores out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rarelab.data.arguments import between
from rarelab.data.tables.preprocess import Preprocessor
from rarelab.errors import RequestError
from rarelab.metrics.tie_groups import top_size
from rarelab.models import Estimator
from rarelab.predict.rules import Rules
from rarelab.training import Trainer
from rarelab.training.threads import limited_threads


@dataclass(frozen=True)
class Threshold:
    """The score from which a row alerts, chosen on validation for a budget of alerts.

    ``alerts`` of ``rows`` validation rows score that much or more, ``hits`` of its ``positives``
    among them. ``value`` is infinite where more rows than the budget tie at the top.
    """

    budget: float
    value: float
    rows: int
    alerts: int
    positives: int
    hits: int


@dataclass(frozen=True)
class Scorer:
    """Scores frames of raw columns as the run scored its own test rows.

    ``validation`` holds the scores [N] and the positives [N] of the run's validation rows, None
    for more than two classes. Threads, batch size and precision are the trainer's, so the rows of
    the test split, in their order, get the recorded scores bit for bit; other rows beside them can
    move the last bits of a matrix product.
    """

    model: nn.Module | Estimator
    trainer: Trainer
    preprocessor: Preprocessor
    classes: tuple[str, ...]
    validation: tuple[NDArray[np.float32], NDArray[np.bool_]] | None
    rules: Rules = field(default_factory=Rules)

    def scores(self, frame: pd.DataFrame) -> Tensor:
        """Raw scores [N, 1] of two classes, else [N, C], float32.

        Raises:
            RequestError: a column is missing or holds what training did not.
        """
        x = torch.from_numpy(self.preprocessor.transform(frame))
        with limited_threads(self.trainer.threads):
            if isinstance(self.model, Estimator):
                return self.model.scores(x)
            return self.trainer.scores(self.model, x)

    def table(self, frame: pd.DataFrame, budget: float | None = None) -> pd.DataFrame:
        """One row for each of the frame's: ``score`` (or ``score/<class>``), what the run's
        :class:`Rules` say, and with a budget ``alert``: whether it reaches :meth:`threshold`.
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

        Tied rows alert together or not at all.

        Raises:
            RequestError: the budget is no share, or there are more than two classes.
        """
        between("budget", budget, 0, 1)
        if self.validation is None:
            raise RequestError(
                f"budget={budget:g}: an alert needs two classes, this run has {len(self.classes)}"
            )
        scores, positives = self.validation
        value = _cut(scores, top_size(budget, len(scores)))
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
    """The names of the score columns: those of ``predictions.parquet``."""
    return ["score"] if len(classes) == 2 else [f"score/{name}" for name in classes]


def _cut(scores: NDArray[np.float32], size: int) -> float:
    ordered = np.sort(scores)[::-1]
    lowest = ordered[size - 1]
    if size < len(ordered) and ordered[size] == lowest:
        above = ordered[ordered > lowest]
        return float(above[-1]) if len(above) else math.inf
    return float(lowest)

"""A recorded run's model in Python: a frame or a file of raw rows in, a frame of scores out."""

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rarelab.data.reading import find, opened, read_like
from rarelab.data.tables.preprocess import Preprocessor
from rarelab.errors import RequestError
from rarelab.metrics.thresholds import AlertRule, Threshold, rule_of
from rarelab.predict.arrays import ArrayRows
from rarelab.predict.bundle import FOLDER, read_model
from rarelab.predict.columns import check_columns
from rarelab.predict.facts import FACTS, read_facts
from rarelab.predict.reasons import Reasons
from rarelab.predict.scorer import Scorer
from rarelab.records.find import fetch_model, find_run


@dataclass(frozen=True)
class LoadedRun:
    """A run's model with its preprocessing; ``run`` is the name of the run's folder."""

    run: str
    scorer: Scorer = field(repr=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; of two, the second is the positive one."""
        return self.scorer.classes

    @property
    def columns(self) -> dict[str, str]:
        """The raw columns that it needs, each with its kind: number, text or code; none for a run
        trained on arrays."""
        fitted = self.scorer.preprocessor
        return {} if isinstance(fitted, ArrayRows) else dict(fitted.columns)

    @property
    def budget(self) -> float | Mapping[str, Any] | None:
        """The budget that the run was trained at, as :meth:`score` takes it; None without one."""
        recorded = self.scorer.rules.budget
        return None if recorded is None else recorded.value

    def score(
        self,
        rows: pd.DataFrame | NDArray | str | os.PathLike[str],
        budget: float | Mapping[str, Any] | None = None,
        drop: Sequence[str] = (),
        *,
        precision: float | None = None,
        recall: float | None = None,
        cost: bool = False,
        costs: Sequence[Sequence[float]] | None = None,
    ) -> pd.DataFrame:
        """Scores, with the run's own probability and decision, as ``rarelab predict`` names them: a
        row per row, under the index of a frame.

        Args:
            rows: a frame of raw columns (an array, for a run trained on arrays), or the path of a
                file as for ``rarelab predict``.
            budget: share of rows that may alert, or ``{"alerts": 37, "per": "10000 rows"}``; adds
                ``alert``. The run's own is :attr:`budget`.
            drop: columns that are known not to have been in the training data; others that were
                not are ignored too.
            precision: instead of a budget, the least share of positives among the alerts.
            recall: instead of a budget, the least share of the positives that alert.
            cost: instead of a budget, alert where the run's own costs are lowest.
            costs: the same by these, ``costs[true class][decision]``.

        Raises:
            RequestError: the file cannot be read, a column does not match training, or the rule for
                alerts is invalid or not reached on validation.
        """
        rule = rule_of(budget, precision, recall, cost, costs)
        fitted = self.scorer.preprocessor
        if isinstance(fitted, ArrayRows):
            given = isinstance(rows, str | os.PathLike)
            array = fitted.read(find(str(rows), key="rows")) if given else np.asarray(rows)
            return self.scorer.table(array, rule)
        frame = _checked(rows, fitted, drop)
        return self.scorer.table(frame, rule).set_axis(frame.index)

    def reasons(
        self,
        rows: pd.DataFrame | str | os.PathLike[str],
        n: int = 3,
        drop: Sequence[str] = (),
    ) -> pd.DataFrame:
        """The raw columns that raised each row's score most, as by ``rarelab predict reasons=3``:
        ``reason_1``, ``reason_1_effect`` and so on, under the index of a frame.

        Args:
            rows: a frame of raw columns, or the path of a file as for ``rarelab predict``.
            n: how many. A column that lowered the score or left it is no reason, so a row can
                have fewer.
            drop: as in :meth:`score`.

        Effects are in units of the raw score. What the features of one column add is summed.
        Boosters give the Shapley values of their trees, compared with the trees' mean score;
        networks integrated gradients, compared with the mean training row.

        Raises:
            RequestError: the run is not one of two classes on a table, its model gives no reasons,
                or what :meth:`score` refuses.
        """
        explained = Reasons.of(self.scorer, n)
        frame = _checked(rows, explained.fitted, drop)
        top = explained.top(self.scorer.features(frame))
        return pd.DataFrame(explained.columns(top), index=frame.index)

    def threshold(
        self,
        budget: float | Mapping[str, Any] | None = None,
        *,
        precision: float | None = None,
        recall: float | None = None,
        cost: bool = False,
        costs: Sequence[Sequence[float]] | None = None,
    ) -> Threshold:
        """The score from which a row alerts, chosen on validation by one of these (as in
        :meth:`score`), and what it gave there, with exact intervals."""
        return self.scorer.threshold(AlertRule(budget, precision, recall, cost, costs))


def _checked(rows: Any, fitted: Preprocessor, drop: Sequence[str]) -> pd.DataFrame:
    """The raw rows as a frame, with the columns of training."""
    if isinstance(rows, str | os.PathLike):
        frame = read_like(opened(str(rows), key="rows"), fitted)
    elif isinstance(rows, pd.DataFrame):
        frame = rows
    else:
        raise RequestError(f"rows: expected a DataFrame or a path, got {type(rows).__name__}")
    check_columns(frame, fitted, drop)
    return frame


def load_run(
    run: str | os.PathLike[str], home: Path, uri: str | None = None, allow: Sequence[str] = ()
) -> LoadedRun:
    """The model of the run that :func:`model_folder` finds.

    Raises:
        RequestError: there is no such run, it left no model, or its class is not allowed.
    """
    if allow and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # find the user's modules in the working directory
    with tempfile.TemporaryDirectory() as scratch:
        folder = model_folder(run, home, uri, Path(scratch))
        return LoadedRun(read_facts(folder)["run"], read_model(folder, allow))


def model_folder(run: str | os.PathLike[str], home: Path, uri: str | None, scratch: Path) -> Path:
    """The ``model/`` of a run, downloaded into ``scratch`` if it is only in MLflow.

    ``run`` is an MLflow id, a prefix of it, a folder's name, or the path of a run's folder or of a
    model's.
    """
    for path in (Path(run), Path(run) / FOLDER):
        if (path / FACTS).is_file():
            return path
    directory = find_run(home, str(run))
    return fetch_model(home, uri, str(run), scratch) if directory is None else directory / FOLDER

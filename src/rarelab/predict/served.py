"""A run's model as an MLflow ``pyfunc``, which looks up :func:`_load_pyfunc` by name."""

import os
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from rarelab.errors import RequestError
from rarelab.predict.arrays import ArrayRows
from rarelab.predict.bundle import read_model
from rarelab.predict.scorer import Scorer

ALLOW = "RARELAB_ALLOW_TARGETS"
"""The environment variable that lists the user's own modules, separated by commas."""


class ServedModel:
    """``predict(frame, params)``: :meth:`Scorer.table`; the param ``budget`` adds alerts."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    def predict(
        self, frame: pd.DataFrame | NDArray, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Score rows that have the columns of training; other columns are ignored. A run trained on
        arrays takes an array of rows.

        Raises:
            RequestError: the input has no named columns, or they do not match training.
        """
        arrays = isinstance(self.scorer.preprocessor, ArrayRows)
        if not arrays and not isinstance(frame, pd.DataFrame):
            raise RequestError(f"expected a table with named columns, got {type(frame).__name__}")
        budget = (params or {}).get("budget")
        return self.scorer.table(frame, float(budget) if budget else None)


def _load_pyfunc(path: str) -> ServedModel:
    allow = [name for name in os.environ.get(ALLOW, "").split(",") if name]
    if allow and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return ServedModel(read_model(Path(path), allow))

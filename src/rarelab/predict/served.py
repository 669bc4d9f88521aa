"""A run's model behind MLflow's ``pyfunc``, which finds :func:`_load_pyfunc` by that name."""

import os
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from rarelab.errors import RequestError
from rarelab.predict.bundle import read_model
from rarelab.predict.scorer import Scorer

ALLOW = "RARELAB_ALLOW_TARGETS"
"""The environment variable that names the user's own modules, with commas between them."""


class ServedModel:
    """``predict(frame, params)``: the columns of :meth:`Scorer.table`, with ``budget`` an alert."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    def predict(self, frame: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Scores of rows whose columns are those of training; the other columns are not looked at.

        Raises:
            RequestError: the input has no named columns, or they do not fit.
        """
        if not isinstance(frame, pd.DataFrame):
            raise RequestError(f"expected a table with named columns, got {type(frame).__name__}")
        budget = (params or {}).get("budget")
        return self.scorer.table(frame, float(budget) if budget else None)


def _load_pyfunc(path: str) -> ServedModel:
    allow = [name for name in os.environ.get(ALLOW, "").split(",") if name]
    if allow and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return ServedModel(read_model(Path(path), allow))

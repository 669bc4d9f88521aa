"""The scores of a model in use: columns to compare the trained models with, never features."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rarelab.data.source import Roles
from rarelab.errors import RequestError


def scores_in_use(frame: pd.DataFrame, roles: Roles) -> dict[str, NDArray[np.float64]]:
    """The columns of ``dataset.scores`` as numbers [N], by name.

    Raises:
        RequestError: a value is missing, infinite or not a number.
    """
    return {name: _numbers(frame[name], name) for name in roles.scores}


def refuse_scores(frame: pd.DataFrame, roles: Roles, classes: Sequence[str]) -> None:
    """Refuse scores that are no finite numbers, or that several classes would have to share.

    Raises:
        RequestError: as said.
    """
    if roles.scores and len(classes) != 2:
        raise RequestError(
            f"dataset.scores={_list(roles.scores)}: target {roles.target!r} has {len(classes)}"
            " classes, but a score tells two apart: name the positive one with"
            " dataset.positive_label"
        )
    if roles.target in roles.scores:
        raise RequestError(f"dataset.scores={_list(roles.scores)}: {roles.target} is the target")
    scores_in_use(frame, roles)


def _numbers(column: Any, name: str) -> NDArray[np.float64]:
    numbers: Any = pd.to_numeric(column, errors="coerce")
    values = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    bad = ~np.isfinite(values)
    if bad.any():
        first = int(bad.argmax())
        raise RequestError(
            f"dataset.scores=[{name}]: not a finite number in {int(bad.sum()):,} of"
            f" {len(values):,} rows (the first is {str(column.iloc[first])!r} in row"
            f" {column.index[first] + 1:,}); expected a number in every row, higher = more"
            " suspicious"
        )
    return values


def _list(names: Sequence[str]) -> str:
    return f"[{','.join(names)}]"

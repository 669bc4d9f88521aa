"""What the rows weigh and are worth: the columns of ``sample_weight`` and ``amount``."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from rarelab.data.given import AMOUNT
from rarelab.data.splits import Table
from rarelab.errors import RequestError


def refuse_zero_weights(tables: Sequence[Table], classes: Sequence[str], name: str | None) -> None:
    """Refuse weights that leave a split, or a class of the training rows, without any weight."""
    for where, table in zip(("train", "validation", "test"), tables, strict=True):
        weight = table.sample_weight
        if weight is None:
            return
        weighed = torch.bincount(table.y, weights=weight, minlength=len(classes)) > 0
        if not weighed.any():
            raise RequestError(
                f"dataset.sample_weight={name}: every weight in {where} is 0; expected some above 0"
            )
        if where == "train" and not weighed.all():
            lost = classes[int(weighed.int().argmin())]
            raise RequestError(
                f"dataset.sample_weight={name}: every row of class {lost!r} in train weighs 0, so"
                " training would never see it; expected some above 0"
            )


def amounts(
    frame: pd.DataFrame, classes: Sequence[str], name: str | None
) -> NDArray[np.float64] | None:
    """What each row is worth, [N]; None if no column says so."""
    if name is None:
        return None
    if len(classes) > 2:
        raise RequestError(
            f"dataset.amount={name}: the target has {len(classes)} classes; value-weighted "
            "recall needs two, so choose the positive ones with dataset.positive_label"
        )
    return weights(frame, "amount", name)


def refuse_worthless(tables: Sequence[Table], name: str | None) -> None:
    """Refuse amounts of which the positives of validation or of test have none."""
    for where, table in zip(("validation", "test"), tables[1:], strict=True):
        if name is not None and table.origin is not None:
            worth = table.origin[AMOUNT][table.y.numpy() == 1]
            if not worth.any():
                raise RequestError(
                    f"dataset.amount={name}: every positive in {where} is worth 0; expected some "
                    "above 0"
                )


def weights(frame: pd.DataFrame, key: str, name: str, dtype: Any = np.float64) -> NDArray[Any]:
    """A column of numbers of at least 0, named by ``dataset.<key>``."""
    column: Any = pd.to_numeric(frame[name], errors="coerce")
    if column.isna().all():
        raise RequestError(
            f"dataset.{key}={name}: no value in this column is a number; expected finite numbers of"
            " at least 0"
        )
    values = column.to_numpy(dtype=dtype, na_value=np.nan)
    bad = int((~np.isfinite(values) | (values < 0)).sum())
    if bad:
        raise RequestError(
            f"dataset.{key}={name}: {bad} values are missing, negative or infinite;"
            " expected finite numbers of at least 0"
        )
    return values

"""The preprocessing that a recipe asks for, before its fit: which columns are dates, which free
text."""

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rarelab.data.source import Roles
from rarelab.data.tables.dates import date_columns
from rarelab.data.tables.free_text import is_free_text
from rarelab.data.tables.preprocess import Preprocessor
from rarelab.data.tables.recipe import Recipe
from rarelab.errors import RequestError, nearest


def unfitted(
    features: pd.DataFrame, train: NDArray[np.int64], roles: Roles, recipe: Recipe
) -> Preprocessor:
    """The preprocessor for the columns of ``features``, of which the rows ``train`` will fit it.

    Raises:
        RequestError: a column of ``text_columns`` is no feature.
    """
    other = {*roles.categorical, *(recipe.text_columns or ())}
    dates = date_columns(features, other) if recipe.dates != "levels" else []
    return Preprocessor(
        recipe.numeric,
        recipe.max_categories,
        roles.categorical,
        recipe.high_cardinality,
        dates,
        cyclic=recipe.dates == "cyclic",
        hash_buckets=recipe.hash_buckets,
        free_text=_free_text(features, train, recipe, {*roles.categorical, *dates}),
        text_components=recipe.text_components,
    )


def alike(groups: Any) -> NDArray[np.int64]:
    """The number of the group of each row of a group column; a row without one is alone."""
    codes, _ = pd.factorize(groups)
    return np.where(codes < 0, len(codes) + np.arange(len(codes)), codes)


def _free_text(
    features: pd.DataFrame, train: NDArray[np.int64], recipe: Recipe, others: Collection[str]
) -> list[str]:
    """The columns of free text: those that are named, or that the training rows show to be so."""
    names = [str(name) for name in features.columns]
    for column in recipe.text_columns or ():
        if column not in names:
            raise RequestError(
                f"dataset.text_columns={column} is not a feature: {nearest(column, names)}"
            )
    if recipe.text == "levels":
        return []
    if recipe.text_columns is not None:
        return [*dict.fromkeys(recipe.text_columns)]
    return [n for n in names if n not in others and is_free_text(features[n].iloc[train])]

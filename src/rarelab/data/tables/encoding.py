"""Target encoding of a text column with many levels, cross-fitted on the training rows."""

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import TargetEncoder

from rarelab.data.tables.numbers import NumberColumns
from rarelab.data.tables.recipe import Numeric
from rarelab.errors import RequestError

FOLDS = 5


def target_encoded(
    codes: NDArray[np.int64], labels: NDArray[np.int64], levels: int, numeric: Numeric
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The features of the training rows [N, K], and those of each level [levels + 1, K], of which
    the last row is for unseen levels.

    A level becomes its share of positives in training, shrunk towards the share of all rows
    (Micci-Barreca 2001, SIGKDD Explorations 3(1), with scikit-learn's empirical Bayes weight): K is
    1, or the number of classes if there are more than two. Training rows get the shares of the
    other folds of a cross-validation, so that no row sees its own label; the values are those of
    ``TargetEncoder(cv=5, shuffle=True, random_state=0).fit_transform``. Unseen levels get the share
    of all rows. The result is scaled as a number is.

    Args:
        codes: the level of each training row [N], below ``levels``.
        labels: the class of each [N].
        levels: how many levels there are.
        numeric: how numbers are scaled.

    Raises:
        RequestError: a class has one training row only.
    """
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        raise RequestError(
            "dataset.high_cardinality=target: a class has one training row, expected at least 2;"
            " use dataset.high_cardinality=onehot or add rows of the class"
        )
    kind = "binary" if len(classes) == 2 else "multiclass"
    column = codes[:, None]
    # TargetEncoder's own cross-fitting takes its folds in one way up to scikit-learn 1.8, and in
    # another from 1.9 on.
    folds = StratifiedKFold(min(FOLDS, int(counts.min())), shuffle=True, random_state=0)
    width = 1 if len(classes) == 2 else len(classes)
    crossed = np.empty((len(codes), width))
    for rest, fold in folds.split(column, labels):
        encoder = TargetEncoder(target_type=kind).fit(column[rest], labels[rest])
        crossed[fold] = encoder.transform(column[fold])
    encoder = TargetEncoder(target_type=kind).fit(column, labels)
    of_levels = encoder.transform(np.arange(levels + 1)[:, None])
    scaler = NumberColumns(numeric)
    scaled, _ = scaler.fit_transform(crossed)
    return scaled.astype(np.float32), scaler.transform(of_levels)[0].astype(np.float32)

"""Splits of a table of pixels as images, with a long tail of classes in the training rows."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rarelab.data.arguments import at_least
from rarelab.errors import RequestError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rarelab.data.splits import Splits, Table


@dataclass(frozen=True)
class Images:
    """How the rows of a table are images.

    shape: [C, H, W] of one, whose columns are its pixels, line by line. white: the largest value of
    a pixel, by which all are divided. imbalance: how many times as frequent the first class is as
    the last one among the training rows, of which the others are left out
    (:func:`rarelab.data.tables.divide.thinned`).

    Validation and test keep their shares of the classes, as in the long-tailed CIFAR of Cui et al.
    2019: a tenth of what few images there are of a class would leave one or two to be tested.
    """

    shape: tuple[int, int, int]
    white: float
    imbalance: float = 1.0

    def __post_init__(self) -> None:
        at_least("dataset.imbalance", self.imbalance, 1)

    def of(self, splits: "Splits", seed: int) -> "Splits":
        """The splits with images for rows. They have no preprocessor: what is scored later are
        arrays of images, from 0 to 1.

        Raises:
            RequestError: a class is left without a training row.
        """
        from rarelab.data.splits import digest

        rows = self._kept(splits, seed)
        train, val, test = (
            replace(table, x=table.x.view(-1, *self.shape) / self.white)
            for table in (_only(splits.train, rows), splits.val, splits.test)
        )
        images = {"train": train, "val": val, "test": test, "digest": digest(train, val, test)}
        return replace(splits, **images, features=(), preprocessor=None)

    def _kept(self, splits: "Splits", seed: int) -> "NDArray":
        from rarelab.data.tables.divide import TooSmall, thinned

        classes = splits.classes
        try:
            return thinned(
                splits.train.y, classes=len(classes), imbalance=self.imbalance, seed=seed
            )
        except TooSmall as error:
            raise RequestError(
                f"dataset.imbalance={self.imbalance:g} leaves none of the {error.rows} training"
                f" rows of class {classes[error.label]!r}: lower it"
            ) from error


def _only(table: "Table", rows: "NDArray") -> "Table":
    """Some rows of a table."""
    import numpy as np

    weight, origin = table.sample_weight, table.origin or {}
    return replace(
        table,
        x=table.x[rows],
        y=table.y[rows],
        sample_weight=None if weight is None else weight[rows],
        origin={name: np.asarray(values)[rows] for name, values in origin.items()},
    )

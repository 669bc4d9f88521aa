"""Categorical columns as a booster takes them itself: a code of the level, not 0/1 features."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Categories = Literal["onehot", "native"]


class Recoded:
    """Rows [N, F] as rows [N, G]: the features that are no levels as they are, then a code for each
    categorical column, NaN for a level that training had not.

    Args:
        in_features: F.
        one_hot: the features that are the levels of a column, of each such column; all zeros is an
            unseen level.
        codes: [feature, how many codes] of each column that has codes already; the next higher
            number is an unseen level.
    """

    def __init__(
        self, in_features: int, one_hot: Sequence[Sequence[int]], codes: Sequence[Sequence[int]]
    ) -> None:
        self._blocks = [[*block] for block in one_hot]
        self._codes = [(feature, count) for feature, count in codes]
        levels = {place for block in self._blocks for place in block}
        levels |= {feature for feature, _ in self._codes}
        if not levels <= {*range(in_features)}:
            raise ValueError(f"levels of features beyond the {in_features} that there are")
        self._others = [place for place in range(in_features) if place not in levels]
        self.in_features = in_features

    @property
    def width(self) -> int:
        """G."""
        return len(self._others) + len(self.categories)

    @property
    def categories(self) -> list[int]:
        """Which of the G columns are codes."""
        count = len(self._blocks) + len(self._codes)
        return [*range(len(self._others), len(self._others) + count)]

    def rows(self, x: Tensor) -> NDArray[np.float32]:
        """The rows [N, G], float32."""
        x = x.detach().cpu()
        made = torch.empty(len(x), self.width)
        count = len(self._others)
        made[:, :count] = x[:, self._others]
        for place, block in enumerate(self._blocks, count):
            highest, code = x[:, block].max(dim=1)
            made[:, place] = torch.where(highest > 0.5, code.float(), torch.nan)
        for place, (feature, known) in enumerate(self._codes, count + len(self._blocks)):
            code = x[:, feature]
            made[:, place] = torch.where((code >= 0) & (code < known), code, torch.nan)
        return made.numpy()

    def spread(self, values: Tensor) -> Tensor:
        """What the G columns add, [N, G], by feature, [N, F]: a column of levels at its first."""
        firsts = [block[0] for block in self._blocks] + [feature for feature, _ in self._codes]
        made = values.new_zeros(len(values), self.in_features)
        made[:, [*self._others, *firsts]] = values
        return made


def recoded(
    in_features: int,
    categories: Categories,
    one_hot: Sequence[Sequence[int]] | None,
    codes: Sequence[Sequence[int]] | None,
) -> Recoded | None:
    """How a booster's rows are recoded; None if they are taken as they are."""
    if categories == "onehot":
        return None
    return Recoded(in_features, one_hot or [], codes or [])

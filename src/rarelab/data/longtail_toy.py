"""A multi-class toy with a long tail: class rates fall geometrically."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from rarelab.data.arguments import at_least, label_of
from rarelab.data.splits import Splits
from rarelab.data.tables.divide import long_tail


@dataclass(frozen=True)
class LongtailToy:
    """One Gaussian per class; the commonest class is ``imbalance`` times as frequent as the rarest.

    Class c of C has rate p_c proportional to imbalance^(-c / (C - 1)), the long tail of Cui et al.
    2019 (CVPR, section 5.1), and round(n_samples * p_c) rows. Its features are N(m_c, I), with m_c
    of length ``separation`` in a random direction. The default rates are 65.5, 22.7, 7.9, 2.7, 0.94
    and 0.33 %. Split 60 / 15 / 25 by class, standardised on train; the seed given to ``splits``
    sets the directions, the rows and the split.
    """

    n_samples: int = 40_000
    n_classes: int = 6
    n_features: int = 20
    imbalance: float = 200.0
    separation: float = 3.0

    def __post_init__(self) -> None:
        at_least("dataset.n_classes", self.n_classes, 3)
        at_least("dataset.n_features", self.n_features, 2)
        at_least("dataset.imbalance", self.imbalance, 1)
        rarest = float(self.rates()[-1])
        at_least(
            "dataset.n_samples", self.n_samples, round(4 / rarest), "4 rows of the rarest class"
        )

    def rates(self) -> NDArray[np.float64]:
        """The class rates p_c, float64 [C], commonest first."""
        weights = long_tail(self.n_classes, self.imbalance)
        return weights / weights.sum()

    def identity(self) -> str:
        return label_of("longtail_toy", asdict(self))

    def splits(self, seed: int) -> Splits:
        from rarelab.data.generated import stratified_draw, tabular_splits

        x, y = self.draw(np.random.default_rng(seed))
        names = [f"c{c}" for c in range(self.n_classes)]
        return tabular_splits(
            stratified_draw(x, y, seed), name="longtail_toy", classes=names, numeric="standard"
        )

    def draw(self, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
        """Features [N, F] and class indices [N], rows in random order."""
        directions = rng.standard_normal((self.n_classes, self.n_features))
        means = self.separation * directions / np.linalg.norm(directions, axis=1, keepdims=True)
        counts = np.round(self.n_samples * self.rates()).astype(np.int64)
        y = rng.permutation(np.repeat(np.arange(self.n_classes), counts))
        return means[y] + rng.standard_normal((len(y), self.n_features)), y

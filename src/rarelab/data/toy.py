"""The toy problem: Gaussian clusters on a hypercube, with one very rare class."""

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from rarelab.data.arguments import at_least, between, label_of
from rarelab.data.splits import Splits


@dataclass(frozen=True)
class Toy:
    """Binary toy problem from scikit-learn's ``make_classification`` (after Guyon 2003, NIPS).

    One draw of ``n_samples`` rows: clusters of unit Gaussians around vertices of a hypercube of
    side 2 * class_sep in ``n_informative`` dimensions, ``n_redundant`` linear combinations of them,
    and noise in the remaining ``n_features`` columns. A share ``pos_rate`` is positive and a share
    ``flip_y`` gets a random label. Split 60 / 15 / 25 by class, standardised on train. The seed
    given to ``splits`` sets the clusters, the rows and the split.

    Of the P training positives, round(``label_noise`` * P) are labelled negative, like positives
    that were never detected. Validation and test keep the true labels. The flips are nested: a
    larger share includes those of a smaller one.
    """

    n_samples: int = 40_000
    n_features: int = 20
    n_informative: int = 10
    n_redundant: int = 5
    n_clusters_per_class: int = 2
    class_sep: float = 1.0
    flip_y: float = 0.0
    pos_rate: float = 0.005
    label_noise: float = 0.0

    def __post_init__(self) -> None:
        between("dataset.pos_rate", self.pos_rate, 0, 1)
        at_least("dataset.n_redundant", self.n_redundant, 0)
        at_least("dataset.n_clusters_per_class", self.n_clusters_per_class, 1)
        vertices = math.ceil(math.log2(2 * self.n_clusters_per_class))
        at_least("dataset.n_informative", self.n_informative, vertices, "one vertex per cluster")
        at_least("dataset.n_features", self.n_features, self.n_informative + self.n_redundant)
        between("dataset.flip_y", self.flip_y, 0, 1, include_low=True)
        between("dataset.label_noise", self.label_noise, 0, 1, include_low=True)
        rarest = min(self.pos_rate, 1 - self.pos_rate)
        at_least("dataset.n_samples", self.n_samples, round(4 / rarest), "4 rows of the rare class")

    def identity(self) -> str:
        return label_of("toy", asdict(self))

    def splits(self, seed: int) -> Splits:
        from sklearn.datasets import make_classification

        from rarelab.data.generated import stratified_draw, tabular_splits

        x, y = make_classification(
            n_samples=self.n_samples,
            n_features=self.n_features,
            n_informative=self.n_informative,
            n_redundant=self.n_redundant,
            n_clusters_per_class=self.n_clusters_per_class,
            class_sep=self.class_sep,
            flip_y=self.flip_y,
            weights=[1 - self.pos_rate, self.pos_rate],
            random_state=seed,
        )
        (x_train, y_train), *others = stratified_draw(np.asarray(x), np.asarray(y), seed)
        train = (x_train, self._overlooked(y_train, seed))
        return tabular_splits([train, *others], name="toy", numeric="standard")

    def _overlooked(self, y: NDArray, seed: int) -> NDArray:
        """The targets [N] with a share ``label_noise`` of the positives labelled negative."""
        # A separate random stream, so the draw and the split do not depend on label_noise.
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
        positives = rng.permutation(np.flatnonzero(y == 1))
        noisy = y.copy()
        noisy[positives[: round(self.label_noise * len(positives))]] = 0
        return noisy

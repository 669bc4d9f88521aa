"""The contested top: rare positives among decoys that look just as suspicious."""

from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rarelab.data.arguments import at_least, between, label_of, one_of
from rarelab.data.splits import Splits

Cue = Literal["linear", "product", "radial"]

N_FEATURES = 20
SHARED = slice(0, 3)
CUED = slice(5, 7)


@dataclass(frozen=True)
class ContestedTop:
    """A binary problem in which decoys compete with the positives for the top ranks.

    Distribution of a row: x ~ N(0, I) in 20 dimensions; y = 1 with probability ``pos_rate``; a
    negative is a decoy with probability ``decoy_rate``. Positives and decoys are shifted by
    ``shift`` on features 0, 1 and 2. Only positives get the cue s * ``magnitude`` on features 5
    and 6. The signs s are (+, +) for cue "linear"; (r, r) with one fair random sign r for
    "product", where only the product of the two features is informative; (r, q) with independent
    fair signs for "radial", where only their distance from the origin is. The three tables are
    independent draws; nothing is rescaled.
    """

    cue: Cue = "linear"
    n_train: int = 150_000
    n_val: int = 50_000
    n_test: int = 300_000
    pos_rate: float = 0.0015
    decoy_rate: float = 0.012
    shift: float = 2.5
    magnitude: float = 1.7

    def __post_init__(self) -> None:
        one_of("dataset.cue", self.cue, get_args(Cue))
        between("dataset.pos_rate", self.pos_rate, 0, 1)
        between("dataset.decoy_rate", self.decoy_rate, 0, 1, include_low=True)
        for key in ("n_train", "n_val", "n_test"):
            smallest = round(10 / self.pos_rate)
            at_least(f"dataset.{key}", getattr(self, key), smallest, "10 positives expected")

    def identity(self) -> str:
        return label_of("contested_top", asdict(self))

    def splits(self, seed: int) -> Splits:
        from rarelab.data.generated import tabular_splits

        streams = np.random.SeedSequence(seed).spawn(3)
        sizes = (self.n_train, self.n_val, self.n_test)
        draws = [
            self.draw(n, np.random.default_rng(s)) for n, s in zip(sizes, streams, strict=True)
        ]
        return tabular_splits([(x, y) for x, y, _ in draws], name="contested_top")

    def draw(self, n: int, rng: np.random.Generator) -> tuple[NDArray, NDArray, NDArray]:
        """n independent rows: features [n, 20], targets [n] and a decoy mask [n]."""
        x = rng.standard_normal((n, N_FEATURES), dtype=np.float32)
        positive = rng.random(n) < self.pos_rate
        decoy = ~positive & (rng.random(n) < self.decoy_rate)
        x[positive | decoy, SHARED] += self.shift
        x[positive, CUED] += self.magnitude * self._signs(int(positive.sum()), rng)
        return x, positive.astype(np.int64), decoy

    def _signs(self, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """The signs of the cue on its two features, float32 [n, 2]."""
        if self.cue == "linear":
            return np.ones((n, 2), dtype=np.float32)
        columns = 1 if self.cue == "product" else 2
        signs = 2 * rng.integers(0, 2, size=(n, columns)) - 1
        return np.broadcast_to(signs, (n, 2)).astype(np.float32)

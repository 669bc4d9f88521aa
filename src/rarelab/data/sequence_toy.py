"""A toy of padded sequences of unequal length, with a rare positive label at each step."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from rarelab.data.arguments import at_least, between, label_of
from rarelab.data.splits import IGNORE_INDEX, Splits
from rarelab.errors import RequestError


@dataclass(frozen=True)
class SequenceToy:
    """A per-step binary problem that needs memory: a trigger counts only if armed shortly before.

    The length of a sequence is uniform on {min_length, …, max_length}. At every step an arming
    event (probability ``arm_rate``) and a trigger (``trigger_rate``) occur independently. A step is
    positive if it has a trigger and one of the ``memory`` steps before it has an arming event, so
    the rate at step t (from 0) is trigger_rate * (1 - (1 - arm_rate)^min(t, memory)). Features are
    N(0, I), plus ``pulse`` on feature 0 where armed and on feature 1 where triggered. Padding has
    features 0 and target -100. The three tables are independent draws of 60, 15 and 25 % of
    ``n_sequences``.
    """

    n_sequences: int = 3_000
    min_length: int = 10
    max_length: int = 40
    n_features: int = 6
    memory: int = 5
    arm_rate: float = 0.04
    trigger_rate: float = 0.04
    pulse: float = 5.0

    def __post_init__(self) -> None:
        at_least("dataset.n_sequences", self.n_sequences, 20)
        at_least("dataset.min_length", self.min_length, 1)
        at_least("dataset.max_length", self.max_length, self.min_length, "dataset.min_length")
        at_least("dataset.n_features", self.n_features, 2)
        at_least("dataset.memory", self.memory, 1)
        between("dataset.arm_rate", self.arm_rate, 0, 1)
        between("dataset.trigger_rate", self.trigger_rate, 0, 1)

    def identity(self) -> str:
        return label_of("sequence_toy", asdict(self))

    def splits(self, seed: int) -> Splits:
        from rarelab.data.generated import sequence_splits
        from rarelab.data.tables.divide import TEST_SHARE, VAL_SHARE

        n_val, n_test = round(VAL_SHARE * self.n_sequences), round(TEST_SHARE * self.n_sequences)
        sizes = (self.n_sequences - n_val - n_test, n_val, n_test)
        streams = np.random.SeedSequence(seed).spawn(3)
        draws = [
            self.draw(n, np.random.default_rng(s)) for n, s in zip(sizes, streams, strict=True)
        ]
        if not all((y == 1).any() for _, y in draws):
            raise RequestError(
                "dataset=sequence_toy drew a split without a positive step: raise"
                " dataset.n_sequences, dataset.arm_rate or dataset.trigger_rate"
            )
        return sequence_splits(draws, name="sequence_toy")

    def draw(self, n: int, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
        """n independent sequences: features [n, max_length, F] and targets [n, max_length]."""
        shape = (n, self.max_length)
        lengths = rng.integers(self.min_length, self.max_length + 1, size=n)
        armed, triggered = rng.random(shape) < self.arm_rate, rng.random(shape) < self.trigger_rate
        x = rng.standard_normal((*shape, self.n_features), dtype=np.float32)
        x[..., 0] += self.pulse * armed
        x[..., 1] += self.pulse * triggered
        y = (triggered & self._recently(armed)).astype(np.int64)
        padding = np.arange(self.max_length) >= lengths[:, None]
        x[padding] = 0.0
        y[padding] = IGNORE_INDEX
        return x, y

    def _recently(self, armed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether any of the ``memory`` steps before each step was armed, bool [n, T]."""
        total = np.cumsum(armed, axis=1)
        before = np.pad(total, ((0, 0), (1, 0)))[:, :-1]
        earlier = np.pad(total, ((0, 0), (self.memory + 1, 0)))[:, : -self.memory - 1]
        return before > earlier

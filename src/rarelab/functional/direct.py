"""Soft sums of one list over all pairs at once, for lists too small for anything cleverer."""

import torch
from torch import Tensor

from rarelab.functional.ranking import Lists


class Direct:
    """The sums of ``lists``, which must hold a single list."""

    def __init__(self, lists: Lists) -> None:
        self.score, self.tau = lists.scores.flatten().to(lists.tau), lists.tau
        self.present = lists.present

    def everyone(self) -> "_Sources":
        mass = torch.ones_like(self.score) if self.present is None else self.present.flatten()
        return _Sources(self, self.score, mass.to(self.score)[None])

    def sources(self, point: Tensor, mass: Tensor) -> "_Sources":
        return _Sources(self, self.score.index_select(0, point), mass)


class _Sources:
    """Scores [n] with masses [q, n]."""

    def __init__(self, direct: Direct, score: Tensor, mass: Tensor) -> None:
        self.direct, self.score, self.mass = direct, score, mass

    def steps(self, at: Tensor) -> Tensor:
        return self.mass @ self._step(at)

    def bumps(self, at: Tensor) -> Tensor:
        step = self._step(at)
        return self.mass @ step.addcmul_(step, step, value=-1)  # σ' = σ − σ²

    def _step(self, at: Tensor) -> Tensor:
        centre = self.direct.score.index_select(0, at)
        return (self.score[:, None] - centre).div_(self.direct.tau).sigmoid_()

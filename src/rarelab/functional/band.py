"""The band of false-positive rates within a budget, as thresholds on the scores."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rarelab.functional.order import masked_quantiles

SCALES = ("iqr", "band")
BASES = ("fpr", "population")
LEAST_SCALE = 1e-12  # a spread at or below this cannot set a temperature


class Band(NamedTuple):
    """Where each list's band lies. All [...], except ``knots`` [..., K], from the upper edge down.

    ``tau`` is the temperature in units of the scores; ``spread`` is false where the reference
    scores have no spread to derive it from.
    """

    knots: Tensor
    tau: Tensor
    spread: Tensor

    @property
    def upper(self) -> Tensor:
        """t_α, the (1 − α) quantile of the reference scores."""
        return self.knots[..., 0]

    @property
    def lower(self) -> Tensor:
        """t_β, the (1 − β) quantile."""
        return self.knots[..., -1]


def band(
    scores: Tensor,
    positives: Tensor,
    *,
    alpha: float,
    beta: float,
    tau: float,
    n_knots: int,
    scale: str,
    basis: str,
    iid: Tensor | None,
    interpolation: str,
) -> Band:
    """The band of each list [..., M], without gradient; options as in ``pauc_at_budget``."""
    negatives = ~positives & (scores != -torch.inf)
    if iid is not None:
        negatives = negatives & iid
    reference = negatives
    if basis == "population":
        reference = negatives | (positives if iid is None else positives & iid)
    levels = [1.0 - f for f in np.linspace(alpha, beta, n_knots).tolist()]
    quartiles = [0.75, 0.25] if scale == "iqr" else []
    values = masked_quantiles(scores, reference, levels + quartiles, interpolation=interpolation)
    knots = values[..., :n_knots]
    spread = values[..., -2] - values[..., -1] if quartiles else knots[..., 0] - knots[..., -1]
    enough = negatives.any(-1) & ~(spread <= LEAST_SCALE)  # NaN does not count as lack of spread
    return Band(knots, torch.where(enough, tau * spread, 1.0), enough)

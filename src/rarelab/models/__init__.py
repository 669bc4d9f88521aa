"""Models: torch modules that map inputs to raw logits, and estimators with their own fit."""

from rarelab.models.boosting import HistGradientBoosting
from rarelab.models.estimator import Estimator, Portable
from rarelab.models.gru import GRU
from rarelab.models.mlp import MLP, Linear
from rarelab.models.prior import set_output_prior
from rarelab.models.tabular import FTTransformer, TabularResNet

__all__ = [
    "GRU",
    "MLP",
    "Estimator",
    "FTTransformer",
    "HistGradientBoosting",
    "Linear",
    "Portable",
    "TabularResNet",
    "set_output_prior",
]

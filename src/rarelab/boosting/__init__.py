"""Gradient boosting on any loss: the objective alone, and models grown in rounds."""

from rarelab.boosting.lightgbm import LightGBM, LightGBMLogLoss
from rarelab.boosting.objective import objective, prior

__all__ = [
    "LightGBM",  # LightGBM on any loss
    "LightGBMLogLoss",  # LightGBM on its own log-loss, as a reference
    "objective",  # a loss as the objective of LightGBM or XGBoost
    "prior",  # the log-odds that an objective's raw scores start from
]

"""Gradient boosting on any loss: the objective alone, and models grown in rounds."""

from rarelab.boosting.catboost import CatBoost, CatBoostYetiRank
from rarelab.boosting.lightgbm import LightGBM, LightGBMLambdaRank, LightGBMLogLoss
from rarelab.boosting.objective import objective, prior
from rarelab.boosting.xgboost import XGBoost, XGBoostLogLoss, XGBoostRanking

__all__ = [
    "CatBoost",  # CatBoost on its own log-loss, as a reference
    "CatBoostYetiRank",  # CatBoost on its own ranking objective, as a reference
    "LightGBM",  # LightGBM on any loss
    "LightGBMLambdaRank",  # LightGBM on its own ranking objective, as a reference
    "LightGBMLogLoss",  # LightGBM on its own log-loss, as a reference
    "XGBoost",  # XGBoost on any loss
    "XGBoostLogLoss",  # XGBoost on its own log-loss, as a reference
    "XGBoostRanking",  # XGBoost on a ranking objective of its own, as a reference
    "objective",  # a loss as the objective of LightGBM or XGBoost
    "prior",  # the log-odds that an objective's raw scores start from
]

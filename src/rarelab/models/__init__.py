"""Models: torch modules that map inputs to raw logits, and estimators with their own fit."""

from rarelab.models.boosting import HistGradientBoosting
from rarelab.models.classifier import Classifier, adapted, is_classifier
from rarelab.models.cnn import CNN
from rarelab.models.ensemble import Ensemble
from rarelab.models.estimator import (
    Estimator,
    Explained,
    Exportable,
    Portable,
    Refittable,
    raw_scores,
)
from rarelab.models.gradients import integrated_gradients
from rarelab.models.gru import GRU
from rarelab.models.members import Members
from rarelab.models.mlp import MLP, Linear
from rarelab.models.prior import set_output_prior
from rarelab.models.tabm import TabM
from rarelab.models.tabular import FTTransformer, TabularResNet

__all__ = [
    "CNN",
    "GRU",
    "MLP",
    "Classifier",
    "Ensemble",
    "Estimator",
    "Explained",
    "Exportable",
    "FTTransformer",
    "HistGradientBoosting",
    "Linear",
    "Members",
    "Portable",
    "Refittable",
    "TabM",
    "TabularResNet",
    "adapted",
    "integrated_gradients",
    "is_classifier",
    "raw_scores",
    "set_output_prior",
]

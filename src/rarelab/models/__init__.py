"""Models: torch modules from inputs to raw logits, and estimators that fit themselves."""

from rarelab.models.mlp import MLP, Linear
from rarelab.models.prior import set_output_prior

__all__ = ["MLP", "Linear", "set_output_prior"]

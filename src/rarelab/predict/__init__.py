"""Score new rows with a recorded run's model and preprocessing."""

from rarelab.predict.bundle import read_model, write_model
from rarelab.predict.scorer import Scorer
from rarelab.predict.thresholds import Threshold

__all__ = ["Scorer", "Threshold", "read_model", "write_model"]

"""Score new rows with a recorded run's model and preprocessing."""

from rarelab.metrics.thresholds import Threshold
from rarelab.predict.bundle import read_model, write_model
from rarelab.predict.scorer import Scorer

__all__ = ["Scorer", "Threshold", "read_model", "write_model"]

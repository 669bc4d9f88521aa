"""The calibrated probability of a run: its own calibration, or one fitted on its validation."""

from pathlib import Path
from typing import Any

import pandas as pd
import torch

from rarelab.metrics.calibration import Calibrator, fit
from rarelab.predict.scorer import Scorer, score_columns


def calibrator_of(scorer: Scorer, predictions: Path) -> tuple[Calibrator, str] | None:
    """The run's own calibration, else Platt scaling fitted on its validation rows; and in words how
    it was fitted. None if a run of several classes left no ``predictions``, its parquet file."""
    if scorer.rules.calibrator is not None:
        method = scorer.rules.calibrator.method
        return scorer.rules.calibrator, f"{method} calibration of the run"
    if scorer.validation is not None:
        scores = torch.from_numpy(scorer.validation[0])[:, None]
        targets = torch.from_numpy(scorer.validation[1]).long()
        rare = f", {int(targets.sum()):,} positive"
    elif predictions.is_file():
        names = score_columns(scorer.classes)
        rows: Any = pd.read_parquet(predictions, columns=["split", "target", *names])
        rows = rows[rows["split"] == "val"]
        scores = torch.tensor(rows[names].to_numpy(dtype="float32"))
        targets, rare = torch.tensor(rows["target"].to_numpy()), ""
    else:
        return None
    fitted = fit("platt", scores, targets)
    return fitted, f"Platt scaling fitted on the run's {len(targets):,} validation rows{rare}"

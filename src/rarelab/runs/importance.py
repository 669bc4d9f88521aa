"""Permutation importance: how much worse a model ranks when one raw column is shuffled."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from rarelab.data.splits import Splits
from rarelab.data.tables.preprocess import Preprocessor
from rarelab.figures.importance import importance_figure
from rarelab.metrics.recorded import at_budget, validation_metrics
from rarelab.metrics.table import AUCPR
from rarelab.metrics.tie_groups import top_size

log = logging.getLogger("rarelab")

REPEATS = 5
ROWS = 20_000
"""Validation rows that are scored again, at most; of more, so many are drawn."""
WORK = 20_000_000
"""Rows × columns × repeats that are scored, at most."""
SHARE = 0.005
"""The budget of a run without one."""


def write_importance(
    directory: Path, splits: Splits, scores: Callable[[Tensor], Tensor], alerts: int | None
) -> None:
    """Write ``figures/importance.csv`` and ``.png``, from the validation rows; a note where the
    rows have no columns, or it would take too long.

    Args:
        directory: the run's folder.
        splits: its data.
        scores: raw scores [N, C] of features [N, F].
        alerts: how many of the validation rows may alert; None: ⌈:data:`SHARE` · N⌉.
    """
    x, y = splits.val.x, splits.val.y
    fitted = splits.preprocessor
    sources = fitted.sources if isinstance(fitted, Preprocessor) else splits.features
    if y.ndim != 1 or x.ndim != 2 or len(sources) != x.shape[1]:
        log.warning("note: tracking.importance: the rows of %s have no columns", splits.name)
        return
    columns, rows = len({*sources}), min(len(y), ROWS)
    if rows * columns * REPEATS > WORK:
        log.warning(
            "note: tracking.importance: left out, %s rows x %s columns x %s are more than %s",
            *(f"{number:,}" for number in (rows, columns, REPEATS, WORK)),
        )
        return
    share = (top_size(SHARE, len(y)) if alerts is None else alerts) / len(y)
    drawn = np.random.default_rng(0).permutation(len(y))[:rows]
    kept = torch.from_numpy(np.sort(drawn))
    table = permutation_importance(x[kept], y[kept], sources, scores, max(1, round(share * rows)))
    folder = directory / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "importance.csv", index=False)
    importance_figure(table, folder / "importance.png", share)


def permutation_importance(
    x: Tensor,
    y: Tensor,
    sources: Sequence[str],
    scores: Callable[[Tensor], Tensor],
    alerts: int,
    repeats: int = REPEATS,
) -> pd.DataFrame:
    """A row per raw column, the most important first: the mean and the standard deviation, over
    ``repeats`` shuffles, of what shuffling it costs in recall at the budget and in AUCPR.

    Args:
        x: features [N, F]; those of one column are shuffled together, as the column would be.
        y: class indices [N].
        sources: the raw column of each feature, [F].
        scores: raw scores [N, C] of features.
        alerts: how many of the rows may alert.

    Source: Breiman, Random Forests, Machine Learning 2001, section 10.
    """
    draw = np.random.default_rng(0)
    before = _quality(scores(x), y, alerts)
    made = []
    for column in dict.fromkeys(sources):
        places = [place for place, source in enumerate(sources) if source == column]
        drops = []
        for _ in range(repeats):
            shuffled = x.clone()
            order = torch.from_numpy(draw.permutation(len(x)))
            shuffled[:, places] = x[order][:, places]
            drops.append(before - _quality(scores(shuffled), y, alerts))
        (recall, aucpr), (recall_sd, aucpr_sd) = np.mean(drops, axis=0), np.std(drops, axis=0)
        made.append((column, recall, recall_sd, aucpr, aucpr_sd))
    names = ["column", "recall_at_budget", "recall_at_budget_sd", "aucpr", "aucpr_sd"]
    table = pd.DataFrame(made, columns=names)
    return table.sort_values(
        ["recall_at_budget", "aucpr"], ascending=False, kind="stable", ignore_index=True
    )


def _quality(logits: Tensor, y: Tensor, alerts: int) -> np.ndarray:
    """Recall at the budget and AUCPR."""
    found = validation_metrics(logits, y)
    return np.array([at_budget(logits, y, alerts)["recall_at_budget"], found[AUCPR]])

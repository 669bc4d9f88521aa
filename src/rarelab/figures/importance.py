"""The figure of permutation importance: what shuffling a column costs."""

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rarelab.figures.palette import BLUE, GREY, ORANGE

MOST = 15
"""Columns that are drawn."""

_LONGEST = 24


def importance_figure(table: pd.DataFrame, path: Path, share: float) -> None:
    """Draw the first columns of a table of importance as PNG: two bars each, with their standard
    deviations.

    Args:
        table: ``column``, ``recall_at_budget``, ``recall_at_budget_sd``, ``aucpr``, ``aucpr_sd``,
            the most important first.
        path: where to write it.
        share: the budget, as a share of the rows.
    """
    shown = table.head(MOST)
    with matplotlib.rc_context({"text.parse_math": False}):
        figure = Figure(figsize=(6.4, 1.4 + 0.32 * len(shown)), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        places = np.arange(len(shown))
        kinds = {
            "recall_at_budget": (BLUE, f"recall at {100 * share:.3g} % of the rows", -0.2),
            "aucpr": (ORANGE, "AUCPR", 0.2),
        }
        for key, (colour, label, aside) in kinds.items():
            spread = {"xerr": shown[f"{key}_sd"], "ecolor": GREY, "error_kw": {"linewidth": 0.8}}
            axes.barh(places + aside, shown[key], height=0.36, color=colour, label=label, **spread)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(places, [_short(str(name)) for name in shown["column"]], fontsize=8)
        axes.invert_yaxis()
        axes.set_xlabel("lost when the column is shuffled, validation rows")
        more = f" ({MOST} of {len(table)} columns)" if len(table) > MOST else ""
        axes.set_title(f"Permutation importance{more}", loc="left", fontsize=10)
        axes.legend(frameon=False, fontsize=8, loc="lower right")
        figure.savefig(path)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 9]}…{name[-8:]}"

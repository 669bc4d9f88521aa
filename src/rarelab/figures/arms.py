"""Curves of arms with bands over their runs: recall by alert budget, precision by recall."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rarelab.figures.palette import DARK_GREY, GREY
from rarelab.figures.style import MARKERS, legend, new_axes, save, styles

__all__ = ["Curves", "precision_recall", "recall_at_quantile", "save"]

Curves = Mapping[str, Sequence[Mapping[str, Any]]]
"""By arm: the ``curves.json`` of each of its runs."""


def recall_at_quantile(
    arms: Curves, *, title: str = "Recall at an alert budget", budget: float | None = None
) -> Figure:
    """Recall by share of rows flagged: mean over an arm's runs with a band from the lowest to the
    highest run, plus chance and the best that any scorer could reach.

    ``budget``: a share of rows to mark with a vertical line.
    """
    with new_axes(title) as axes:
        for style, (label, runs) in zip(styles(), arms.items(), strict=False):
            x = np.asarray(runs[0]["recall_at_q"]["steps"]) / 100
            _band(axes, x, _values(runs, "recall_at_q", "values"), label, len(runs), style)
        every = [run for runs in arms.values() for run in runs]
        _reference(
            axes, every, "best", color=DARK_GREY, linestyle=(0, (4, 2)), label="best possible"
        )
        _reference(axes, every, "chance", color=GREY, linestyle=(0, (1, 2)), label="chance")
        if budget is not None:
            axes.axvline(100 * budget, color=GREY, linewidth=0.8, zorder=0)
        axes.set(xscale="log", xlabel="alert budget: share of rows flagged (%)", ylabel="recall")
        axes.set_ylim(0, 1.03)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        legend(axes, len(arms))
    return axes.figure  # type: ignore[return-value]


def precision_recall(arms: Curves, *, title: str = "Precision and recall") -> Figure:
    """Precision by recall: mean over an arm's runs with a band from the lowest to the highest run,
    plus chance (the rate of positives)."""
    with new_axes(title) as axes:
        for style, (label, runs) in zip(styles(), arms.items(), strict=False):
            x = np.asarray(runs[0]["precision_at_recall"]["steps"]) / 1000
            _band(axes, x, _values(runs, "precision_at_recall", "values"), label, len(runs), style)
        every = [run for runs in arms.values() for run in runs]
        chance = float(np.mean(_values(every, "precision_at_recall", "chance")))
        axes.axhline(chance, color=GREY, linestyle=(0, (1, 2)), label=f"chance ({chance:.2g})")
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.0), ylim=(0, 1.03))
        legend(axes, len(arms))
    return axes.figure  # type: ignore[return-value]


def _band(
    axes: Axes, x: NDArray, values: NDArray, label: str, runs: int, style: Mapping[str, Any]
) -> None:
    """The mean of ``values`` [runs, points] with a band from the lowest to the highest run."""
    spread = f" ({runs} runs)" if runs > 1 else ""
    axes.fill_between(
        x, values.min(axis=0), values.max(axis=0), color=style["color"], alpha=0.15, linewidth=0
    )
    # As fractions of the axes' diagonal, so markers are evenly spaced on a logarithmic axis too.
    offset = 0.02 + 0.015 * MARKERS.index(style["marker"])
    axes.plot(
        x,
        values.mean(axis=0),
        linewidth=1.7,
        markersize=4.5,
        markevery=(offset, 0.13),
        label=label + spread,
        **style,
    )


def _values(runs: Sequence[Mapping[str, Any]], curve: str, key: str) -> NDArray[np.float64]:
    return np.array([run[curve][key] for run in runs], dtype=float)


def _reference(axes: Axes, runs: Sequence[Mapping[str, Any]], key: str, **style: Any) -> None:
    x = np.asarray(runs[0]["recall_at_q"]["steps"]) / 100
    axes.plot(x, _values(runs, "recall_at_q", key).mean(axis=0), linewidth=1.1, **style)

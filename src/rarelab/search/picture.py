"""The figure of a search: its progress, and which dimensions matter."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rarelab.figures.palette import BLACK, BLUE, GREY, ORANGE, PALE_GREY
from rarelab.search.trials import Trial


def draw(
    trials: Sequence[Trial],
    importance: Mapping[str, float],
    path: Path,
    metric: str = "validation AUCPR",
) -> None:
    """Write the figure as PNG: every trial's value and the best so far, next to the importance of
    each dimension if known."""
    figure = Figure(figsize=(9.0 if importance else 6.4, 3.8), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    widths = [2, 1] if importance else [1]
    history, *beside = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    _history(history, trials, metric)
    for axes in beside:
        _importance(axes, importance)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _history(axes: Axes, trials: Sequence[Trial], metric: str) -> None:
    numbers, values = _points(trials, "done")
    if values:
        axes.scatter(numbers, values, s=24, color=BLUE, label="trained to the end", zorder=3)
        best = np.maximum.accumulate(values)
        axes.step(numbers, best, where="post", color=ORANGE, label="best so far")
    numbers, values = _points(trials, "pruned")
    if values:
        axes.scatter(numbers, values, s=24, marker="x", color=GREY, label="stopped early")
    low = axes.get_xaxis_transform()  # x in trial numbers, y as a fraction of the height
    for place, trial in enumerate(t for t in trials if t.status == "failed"):
        label = "_" if place else "failed"
        axes.plot(trial.number, 0.02, "v", color=BLACK, label=label, transform=low)
    axes.set(xlabel="trial", ylabel=f"{metric}, mean over seeds", title="The search")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color=PALE_GREY, linewidth=0.6)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, loc="best")


def _points(trials: Sequence[Trial], status: str) -> tuple[list[int], list[float]]:
    found = [(t.number, t.value) for t in trials if t.status == status and t.value is not None]
    return [number for number, _ in found], [value for _, value in found]


def _importance(axes: Axes, importance: Mapping[str, float]) -> None:
    names = list(importance)[::-1]
    axes.barh(names, [importance[name] for name in names], color=BLUE, height=0.6)
    axes.set(xlim=(0, 1), xlabel="share of the variance", title="What matters")
    axes.tick_params(axis="y", length=0)

"""Curves of arms with bands over their runs: recall by alert budget, precision by recall."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rarelab.figures.palette import DARK_GREY, GREY
from rarelab.figures.style import MARKERS, legend, new_axes, save, styles

__all__ = [
    "Band",
    "Curves",
    "precision_band",
    "precision_recall",
    "recall_at_quantile",
    "recall_band",
    "reliability",
    "save",
]

Curves = Mapping[str, Sequence[Mapping[str, Any]]]
"""By arm: the ``curves.json`` of each of its runs."""


class Band(NamedTuple):
    """The curve of an arm: its mean over runs at each x, and the interval around it, [P] each."""

    x: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def recall_band(
    arms: Mapping[str, Band],
    *,
    budget: float,
    prevalence: float,
    rows: int,
    size: tuple[float, float],
) -> Figure:
    """Recall by share of rows flagged with its interval, the budget marked, between chance and
    the best that any scorer could reach; the figure has no title.

    Args:
        arms: by name, the baseline first; x is a share of the rows.
        budget: the share to mark, with each arm's recall there.
        prevalence: the rate of positives.
        rows: how many rows there are, of which a share is rounded up.
        size: width and height in inches.
    """
    with new_axes("", size) as axes:
        for place, (style, (name, band)) in enumerate(zip(styles(), arms.items(), strict=False)):
            at = float(np.interp(budget, band.x, band.mean))
            told = f"{name}{' (baseline)' if place == 0 else ''}: {at:.0%}"
            _interval(axes, 100 * band.x, band, told, style)
            axes.plot(
                100 * budget, at, style["marker"], color=style["color"], markersize=9, zorder=5
            )
        x = next(iter(arms.values())).x
        chance = np.ceil(x * rows - 1e-9) / rows
        best = np.minimum(1, chance / prevalence)
        axes.plot(
            100 * x, best, color=DARK_GREY, linestyle=(0, (4, 2)), lw=1, label="best possible"
        )
        axes.plot(100 * x, chance, color=GREY, linestyle=(0, (1, 2)), lw=1, label="chance")
        axes.axvline(100 * budget, color=DARK_GREY, linewidth=1, zorder=0)
        axes.annotate(
            f"budget: {100 * budget:.6g} %", (100 * budget, 1.02), (0, 0),
            textcoords="offset points", ha="center", va="bottom", fontsize=10,
            annotation_clip=False,
        )  # fmt: skip
        axes.set(xscale="log", xlim=(100 * x[0], 100 * x[-1]), ylim=(0, 1.02))
        axes.set_xlabel("share of the rows flagged, highest scores first (%)", fontsize=10)
        axes.set_ylabel("recall: share of the positives caught", fontsize=10)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        title = f"recall at {100 * budget:.6g} %"
        axes.legend(frameon=False, fontsize=10, title=title, title_fontsize=10, alignment="left",
                    loc="upper left", bbox_to_anchor=(1.0, 1.0), handlelength=3.5)  # fmt: skip
    return axes.figure  # type: ignore[return-value]


def precision_band(arms: Mapping[str, Band], *, prevalence: float, title: str) -> Figure:
    """Precision by recall with its interval, plus chance (the rate of positives)."""
    with new_axes(title) as axes:
        for style, (name, band) in zip(styles(), arms.items(), strict=False):
            _interval(axes, band.x, band, name, style)
        axes.axhline(prevalence, color=GREY, linestyle=(0, (1, 2)), label="chance")
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.0), ylim=(0, 1.03))
        legend(axes, len(arms))
    return axes.figure  # type: ignore[return-value]


def reliability(arms: Mapping[str, Mapping[str, Sequence[float]]], *, title: str) -> Figure:
    """Observed rate of positives by predicted probability, with its interval, by arm: the points
    of :func:`rarelab.metrics.reliability.reliability`. On the dotted line a probability of 1 % is
    right 1 % of the time."""
    least, lowest = (
        max(min((v for points in arms.values() for v in points[key] if v > 0), default=0.1), 1e-6)
        for key in ("predicted", "rate")
    )
    with new_axes(title) as axes:
        axes.plot([least, 1], [least, 1], color=GREY, linestyle=(0, (1, 2)), label="calibrated")
        for style, (name, points) in zip(styles(), arms.items(), strict=False):
            x, rate = (np.asarray(points[key]) for key in ("predicted", "rate"))
            band = Band(x, rate, np.asarray(points["low"]), np.asarray(points["high"]))
            _interval(axes, x, band, name, style, markevery=None)
        axes.set(xscale="log", yscale="log", xlim=(least / 1.5, 1.2), ylim=(lowest / 3, 1.2))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set(xlabel="predicted probability", ylabel="observed rate of positives")
        legend(axes, len(arms))
    return axes.figure  # type: ignore[return-value]


def _interval(
    axes: Axes, x: NDArray, band: Band, name: str, style: Mapping[str, Any], **options: Any
) -> None:
    axes.fill_between(x, band.low, band.high, color=style["color"], alpha=0.15, linewidth=0)
    settings: dict[str, Any] = {"linewidth": 1.8, "markersize": 4.5, "label": name, **style}
    offset = 0.02 + 0.015 * MARKERS.index(style["marker"])
    axes.plot(x, band.mean, **{**settings, "markevery": (offset, 0.13), **options})


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

"""Pictures of arms: curves with bands over runs. Readable in grey print and by colour-blind people:
an arm has a colour, a line and a marker of its own."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Okabe and Ito's colours, the dark ones first: they stay apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9", "#7F7F7F")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (3, 1)), (0, (1, 1)), (0, (8, 2)))
MARKERS = "osD^vPX*"
MAX_ARMS = len(COLOURS)
"""More arms than this are left to the table; the picture says how many."""

FORMATS = ("svg", "pdf", "png")
SIZE = (6.8, 4.2)
GREY = "#6B6B6B"

Curves = Mapping[str, Sequence[Mapping[str, Any]]]
"""By arm: the ``curves.json`` of each of its runs."""


def recall_at_quantile(
    arms: Curves, *, title: str = "Recall at an alert budget", budget: float | None = None
) -> Figure:
    """Recall by share of rows flagged: mean over an arm's runs, its band from the lowest to the
    highest run, what chance gives and the best that any scorer could reach.

    ``budget``: a share of rows that is marked.
    """
    with _axes(title) as axes:
        for style, (label, runs) in zip(_styles(), arms.items(), strict=False):
            x = np.asarray(runs[0]["recall_at_q"]["steps"]) / 100
            _band(axes, x, _values(runs, "recall_at_q", "values"), label, len(runs), style)
        every = [run for runs in arms.values() for run in runs]
        _reference(
            axes, every, "best", color="#333333", linestyle=(0, (4, 2)), label="best possible"
        )
        _reference(axes, every, "chance", color=GREY, linestyle=(0, (1, 2)), label="chance")
        if budget is not None:
            axes.axvline(100 * budget, color=GREY, linewidth=0.8, zorder=0)
        axes.set(xscale="log", xlabel="alert budget: share of rows flagged (%)", ylabel="recall")
        axes.set_ylim(0, 1.03)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        _finish(axes, len(arms))
    return axes.figure  # type: ignore[return-value]


def precision_recall(arms: Curves, *, title: str = "Precision and recall") -> Figure:
    """Precision by recall: mean over an arm's runs, its band from the lowest to the highest run,
    and chance (the rate of positives)."""
    with _axes(title) as axes:
        for style, (label, runs) in zip(_styles(), arms.items(), strict=False):
            x = np.asarray(runs[0]["precision_at_recall"]["steps"]) / 1000
            _band(axes, x, _values(runs, "precision_at_recall", "values"), label, len(runs), style)
        every = [run for runs in arms.values() for run in runs]
        chance = float(np.mean(_values(every, "precision_at_recall", "chance")))
        axes.axhline(chance, color=GREY, linestyle=(0, (1, 2)), label=f"chance ({chance:.2g})")
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.0), ylim=(0, 1.03))
        _finish(axes, len(arms))
    return axes.figure  # type: ignore[return-value]


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write the figure as ``folder/name.svg``, ``.pdf`` and ``.png``; the paths.

    The same figure gives the same bytes: no date, and no random names in the SVG.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib.rc_context({"svg.hashsalt": name, "text.parse_math": False}):
        for suffix in FORMATS:
            path = folder / f"{name}.{suffix}"
            undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(suffix)
            figure.savefig(path, dpi=150, metadata=undated)
            written.append(path)
    return written


@contextmanager
def _axes(title: str) -> Iterator[Axes]:
    # No pyplot: no display is looked for. A $ in a name is a character, not mathematics.
    with matplotlib.rc_context({"text.parse_math": False}):
        figure = Figure(figsize=SIZE, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(title, loc="left", fontsize=10)
        yield axes


def _styles() -> Iterator[dict[str, Any]]:
    for colour, line, marker in zip(COLOURS, LINES, MARKERS, strict=True):
        yield {"color": colour, "linestyle": line, "marker": marker}


def _band(
    axes: Axes, x: NDArray, values: NDArray, label: str, runs: int, style: Mapping[str, Any]
) -> None:
    """The mean of ``values`` [runs, points] with a band from the lowest to the highest run."""
    spread = f" ({runs} runs)" if runs > 1 else ""
    axes.fill_between(
        x, values.min(axis=0), values.max(axis=0), color=style["color"], alpha=0.15, linewidth=0
    )
    # In parts of the picture's diagonal: evenly spaced on a logarithmic axis too.
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


def _finish(axes: Axes, arms: int) -> None:
    left_out = arms - MAX_ARMS
    title = f"{left_out} more arms in the table" if left_out > 0 else None
    axes.legend(
        frameon=False,
        fontsize=7.5,
        title=title,
        title_fontsize=7.5,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        handlelength=3.5,
    )

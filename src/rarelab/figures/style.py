"""The style of figures of arms: each arm has its own colour, line and marker, so figures are
readable in greyscale and by colour-blind people."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rarelab.figures.palette import GREY, PALETTE

COLOURS = (*PALETTE, GREY)
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (3, 1)), (0, (1, 1)), (0, (8, 2)))
MARKERS = "osD^vPX*"
MAX_ARMS = len(COLOURS)
"""Arms beyond this number appear only in the table; the legend says how many."""

FORMATS = ("svg", "pdf", "png")
SIZE = (6.8, 4.2)


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write the figure as ``folder/name.svg``, ``.pdf`` and ``.png``; returns the paths.

    The same figure gives the same bytes: no date and no random ids in the SVG.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    settings: Any = {"svg.hashsalt": name, "text.parse_math": False}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # A glyph missing from the font is drawn as a box; the tables show it.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        for suffix in FORMATS:
            path = folder / f"{name}.{suffix}"
            undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(suffix)
            figure.savefig(path, dpi=150, metadata=undated)
            written.append(path)
    return written


@contextmanager
def new_axes(title: str, size: tuple[float, float] = SIZE) -> Iterator[Axes]:
    """The axes of a new figure, without pyplot or a display; a $ in a name is not math."""
    with new_panels([title], size) as panels:
        yield panels[0]


@contextmanager
def new_panels(titles: Sequence[str], size: tuple[float, float]) -> Iterator[list[Axes]]:
    """The axes of a new figure, stacked vertically; otherwise as :func:`new_axes`."""
    with matplotlib.rc_context({"text.parse_math": False}):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        panels = [figure.add_subplot(len(titles), 1, place + 1) for place in range(len(titles))]
        for axes, title in zip(panels, titles, strict=True):
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_title(title, loc="left", fontsize=10)
        yield panels


def styles() -> Iterator[dict[str, Any]]:
    """Colour, line and marker of each arm in turn."""
    for colour, line, marker in zip(COLOURS, LINES, MARKERS, strict=True):
        yield {"color": colour, "linestyle": line, "marker": marker}


def legend(axes: Axes, arms: int) -> None:
    """A legend beside the axes, titled with the number of arms not shown."""
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

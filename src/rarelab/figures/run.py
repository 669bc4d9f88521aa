"""Figures of one run: curves with chance and best lines, training with its phases, scores."""

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import TICKDOWN, TICKLEFT, MarkerStyle
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import NDArray
from torch import Tensor

from rarelab.figures.palette import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PALE_AMBER,
    PALE_GREY,
    PALETTE,
    WHITE,
)

PHASES = {"warmup": PALE_GREY, "blend": PALE_AMBER, "main": WHITE}
MAX_CLASSES = 10
"""Beyond this number only the rarest classes are drawn, since those matter most."""

BUDGETS = (0.1, 0.5, 1.0, 5.0)
"""Alert budgets in per cent whose recall is annotated on the curve."""

# Left, bottom, width, height of the axes. Fixed, since a computed layout draws everything twice.
AREA = (0.1, 0.14, 0.87, 0.76)
WITH_RIGHT_AXIS = (0.1, 0.14, 0.79, 0.76)
WITH_NAMES = (0.18, 0.14, 0.79, 0.76)
NARROW = (0.1, 0.14, 0.66, 0.76)

THIN: dict[str, Any] = {"linewidth": 1.3, "markersize": 4, "elinewidth": 0.8}

Row = Mapping[str, Any]


def run_figures(
    directory: Path,
    rows: Sequence[Row],
    curves: Mapping[str, Any],
    scores: Tensor,
    targets: Tensor,
    classes: Sequence[str],
) -> list[Path]:
    """Draw the figures of a run into ``directory/figures`` as PNG; returns their paths.

    Args:
        directory: the run's folder.
        rows: the history, oldest first.
        curves: those of the test rows (:func:`rarelab.metrics.curves.curves`); under
            ``reliability`` one :func:`rarelab.metrics.reliability.reliability` per kind of
            probability; and under ``at_budget`` the ``share`` of rows and the ``recall`` of each
            of the run's budgets.
        scores: raw test scores [N, C].
        targets: class indices [N].
        classes: class names by index.
    """
    folder = directory / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    values, labels = scores.double().cpu().numpy(), targets.cpu().numpy()
    drawings: dict[str, Callable[[Axes], None]] = {
        "precision_recall": lambda axes: _precision_recall(axes, curves, labels, classes),
        "recall_at_quantile": lambda axes: _recall_at_quantile(axes, curves),
        "reliability": lambda axes: _reliability(axes, curves["reliability"]),
        "training": lambda axes: _training(axes, rows),
        "scores": lambda axes: _scores(axes, values, labels, classes),
    }
    return [_save(folder / f"{name}.png", draw) for name, draw in drawings.items()]


def warm_up() -> None:
    """Load fonts and the label parser, which otherwise slow the first figure of a process."""
    figure = Figure()
    FigureCanvasAgg(figure).figure.add_subplot(xscale="log", xlim=(0.01, 10), title="warm up")
    figure.canvas.draw()


def _save(path: Path, draw: Callable[[Axes], None]) -> Path:
    # No pyplot, so no global state and no display.
    figure = Figure(figsize=(6.4, 3.9), dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.add_axes(AREA)
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes)
    _cheap_minor_ticks(axes)
    # Of little effect on the size of a drawing, and a third of the time.
    figure.savefig(path, pil_kwargs={"compress_level": 1})
    return path


def _cheap_minor_ticks(axes: Axes) -> None:
    """Draw the unlabelled ticks of a logarithmic axis as the markers of one line: matplotlib makes
    six objects of each, which takes a third of the time of a figure."""
    for axis, place, mark in (
        (axes.xaxis, axes.get_xaxis_transform(), TICKDOWN),
        (axes.yaxis, axes.get_yaxis_transform(), TICKLEFT),
    ):
        low, high = sorted(axis.get_view_interval())
        if axis.get_scale() != "log" or not high > 10 * low > 0:
            continue  # on less than a decade these ticks have labels
        at = [value for value in axis.get_minorticklocs() if low <= value <= high]
        axis.set_minor_locator(NullLocator())
        edge = np.zeros(len(at))
        points = (at, edge) if axis is axes.xaxis else (edge, at)
        axes.add_artist(
            Line2D(
                *points,
                linestyle="none",
                marker=MarkerStyle(mark),
                color="black",
                markersize=2,  # as rcParams["xtick.minor.size"] and the width
                markeredgewidth=0.6,
                transform=place,
                clip_on=False,
                zorder=2.01,
            )
        )


def _precision_recall(
    axes: Axes, curves: Mapping[str, Any], labels: NDArray, classes: Sequence[str]
) -> None:
    exact = curves["exact"]
    average = curves["precision_at_recall"]
    if len(exact) == 1:
        [points] = exact.values()
        _operating_points(axes, points, color=BLUE, linewidth=1.8, label="this model")
    else:
        shown = [str(classes[c]) for c in _rarest(labels, classes)]
        for name, style in zip(shown, _styles(), strict=False):
            _operating_points(axes, exact[name], linewidth=1.1, label=_short(name), **style)
        recall = np.asarray(average["steps"]) / 1000
        axes.plot(recall, average["values"], color="black", linewidth=2.4, label="macro average")
    chance = float(np.mean(average["chance"]))
    axes.axhline(chance, color=GREY, linestyle=":", label=f"chance ({chance:.2g})")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    _title(axes, "Precision and recall, test rows")
    _legend(axes, beside=len(exact) > 1)


def _operating_points(axes: Axes, points: Mapping[str, Any], **style: Any) -> None:
    # The curve starts at recall 0 with the precision of the first threshold, if any.
    recall = [0.0, *points["recall"]] if points["recall"] else []
    precision = [*points["precision"][:1], *points["precision"]]
    axes.step(recall, precision, where="pre", **style)


def _recall_at_quantile(axes: Axes, curves: Mapping[str, Any]) -> None:
    curve = curves["recall_at_q"]
    alerts = np.asarray(curve["steps"]) / 100
    recall = np.asarray(curve["values"], dtype=float)
    axes.plot(alerts, curve["best"], color=GREEN, linestyle="--", label="the best possible")
    axes.plot(alerts, recall, color=BLUE, linewidth=1.8, label="this model")
    if (value := curves.get("value_recall_at_q")) is not None:
        by_value: Any = {"color": ORANGE, "linestyle": "-.", "label": "this model, by value"}
        axes.plot(alerts, value["values"], linewidth=1.5, **by_value)
    axes.plot(alerts, curve["chance"], color=GREY, linestyle=":", label="chance")
    for budget in BUDGETS:
        found = recall[np.isclose(alerts, budget)]
        if len(found) and np.isfinite(found[0]):
            axes.plot(budget, found[0], "o", color=BLUE, markersize=5)
            at = (budget, found[0])
            axes.annotate(f"{found[0]:.0%}", at, (4, -11), textcoords="offset points", fontsize=8)
    for point in curves.get("at_budget", ()):
        _mark_budget(axes, 100 * point["share"], point["recall"])
    axes.set(xscale="log", xlabel="alert budget: share of rows flagged (%)", ylabel="recall")
    axes.set_ylim(0, 1.03)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    _title(axes, "Recall at an alert budget, test rows")
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def _mark_budget(axes: Axes, percent: float, recall: float) -> None:
    axes.axvline(percent, color=ORANGE, linewidth=0.8, zorder=0)
    if np.isfinite(recall):
        axes.plot(percent, recall, "D", color=ORANGE, markersize=6, zorder=3)
        text = f"{recall:.1%} at {percent:.3g} %"
        where: dict[str, Any] = {"textcoords": "offset points", "ha": "right"}
        axes.annotate(text, (percent, recall), (-6, 6), fontsize=8, **where)


def _reliability(axes: Axes, kinds: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    least = min((p for points in kinds.values() for p in points["predicted"] if p > 0), default=0.1)
    least = max(least, 1e-6)
    axes.plot([least, 1], [least, 1], color=GREY, linestyle=":", label="calibrated")
    for (name, points), color in zip(kinds.items(), PALETTE, strict=False):
        predicted, rate = np.asarray(points["predicted"]), np.asarray(points["rate"])
        spans = np.abs(np.stack([rate - points["low"], points["high"] - rate]))
        axes.errorbar(predicted, rate, spans, fmt="o-", color=color, label=name, **THIN)
    axes.set(xscale="log", yscale="log", xlim=(least / 2, 1.5))
    axes.set(xlabel="predicted probability", ylabel="observed rate, with 95 % interval")
    _title(axes, "Reliability, test rows")
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def _training(axes: Axes, rows: Sequence[Row]) -> None:
    epochs = [row for row in rows if "val/aucpr" in row["metrics"]]
    if not epochs:
        axes.text(0.5, 0.5, "no epoch was scored", ha="center", va="center")
        return
    steps = [row["step"] + 1 for row in epochs]
    _shade_phases(axes, epochs)
    scores = [row["metrics"]["val/aucpr"] for row in epochs]
    marker = "o" if len(steps) <= 40 else None
    axes.plot(steps, scores, color=BLUE, linewidth=1.8, marker=marker, markersize=3)
    best = [row["metrics"]["best/epoch"] for row in rows if "best/epoch" in row["metrics"]]
    if best and best[-1] + 1 in steps:
        height = scores[steps.index(int(best[-1]) + 1)]
        axes.plot(best[-1] + 1, height, "*", color=BLUE, markersize=13, label="selected epoch")
        axes.legend(frameon=False, fontsize=8, loc="lower right")
    axes.set(xlabel="epoch", ylim=(0, 1.03))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("validation AUCPR", color=BLUE)
    _title(axes, "Training")
    losses = [row["metrics"].get("train/loss", np.nan) for row in epochs]
    if np.isfinite(losses).any():
        _losses(axes, steps, losses)


def _losses(axes: Axes, steps: Sequence[int], losses: Sequence[float]) -> None:
    axes.set_position(WITH_RIGHT_AXIS)
    right = axes.twinx()
    right.plot(steps, losses, color=ORANGE, linestyle="--", linewidth=1.3)
    right.set_ylabel("training loss (scale changes at the switch)", color=ORANGE, fontsize=8)
    right.spines[["top", "left"]].set_visible(False)


def _shade_phases(axes: Axes, epochs: Sequence[Row]) -> None:
    weights = [row["metrics"].get("train/ap_weight", 1.0) for row in epochs]
    final = max(weights)
    names = ["main" if w >= final else "warmup" if w == 0 else "blend" for w in weights]
    first = epochs[0]["step"]
    begin = first + 0.5
    for name, members in groupby(names):
        width = len(list(members))
        axes.axvspan(begin, begin + width, color=PHASES[name], linewidth=0, zorder=0)
        narrow = width < 0.12 * len(names)
        axes.text(
            begin + width / 2,
            1.01,
            name,
            fontsize=7,
            color=GREY,
            ha="center",
            va="top",
            rotation=90 if narrow else 0,
        )
        begin += width
    axes.set_xlim(first + 0.5, begin)


def _scores(axes: Axes, values: NDArray, labels: NDArray, classes: Sequence[str]) -> None:
    if values.shape[1] == 1:
        parts = {str(name): values[labels == c, 0] for c, name in enumerate(classes)}
        _overlaid(axes, parts)
        axes.set_xlabel("score (logit)")
    else:
        margin = _margin(values, labels)
        parts = {str(classes[c]): margin[labels == c] for c in _rarest(labels, classes)}
        _ridges(axes, parts)
        axes.set_xlabel("score of the true class minus the best other (right of 0: correct)")
    _title(axes, "Scores by class, test rows")


def _overlaid(axes: Axes, parts: Mapping[str, NDArray]) -> None:
    bins = _bins(parts)
    for (name, part), color in zip(parts.items(), PALETTE, strict=False):
        shares = _shares(part, bins)
        axes.stairs(shares, bins, fill=True, color=color, alpha=0.3)
        axes.stairs(shares, bins, color=color, label=f"{_short(name)} ({len(part):,} rows)")
    axes.set(ylabel="share of the class", xlim=(bins[0], bins[-1]))
    axes.legend(frameon=False, fontsize=8, title="class", title_fontsize=8)


def _ridges(axes: Axes, parts: Mapping[str, NDArray]) -> None:
    bins = _bins(parts)
    for height, (part, style) in enumerate(zip(parts.values(), _styles(), strict=False)):
        shares = _shares(part, bins)
        scaled = height + 0.85 * shares / max(shares.max(), 1e-12)
        axes.stairs(scaled, bins, baseline=height, fill=True, color=style["color"], alpha=0.6)
    axes.set_position(WITH_NAMES)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(parts)), [_short(name) for name in parts], fontsize=7, va="bottom")
    axes.set(xlim=(bins[0], bins[-1]), ylim=(0, len(parts)))


def _margin(values: NDArray, labels: NDArray) -> NDArray:
    rows = np.arange(len(labels))
    others = values.copy()
    others[rows, labels] = -np.inf
    return values[rows, labels] - others.max(axis=1)


def _bins(parts: Mapping[str, NDArray]) -> NDArray:
    """Bin edges without the lowest 0.05 %, so a few outliers do not stretch them."""
    joined = np.concatenate(list(parts.values()))
    joined = joined[np.isfinite(joined)]
    if not len(joined):
        return np.linspace(0.0, 1.0, 41)
    low, high = np.quantile(joined, [0.0005, 1.0])
    return np.linspace(low, high if high > low else low + 1.0, 41)


def _shares(part: NDArray, bins: NDArray) -> NDArray:
    inside = np.clip(part[np.isfinite(part)], bins[0], bins[-1])
    return np.histogram(inside, bins)[0] / max(len(part), 1)


def _rarest(labels: NDArray, classes: Sequence[str]) -> list[int]:
    counts = np.bincount(labels, minlength=len(classes))
    present = [int(c) for c in np.argsort(counts, kind="stable") if counts[c]]
    return sorted(present[:MAX_CLASSES])


def _styles() -> list[dict[str, Any]]:
    """Ten styles: each colour with a solid line, then again with a dashed one."""
    lines = ["-"] * len(PALETTE) + ["--"] * len(PALETTE)
    return [
        {"color": color, "linestyle": line}
        for color, line in islice(zip(cycle(PALETTE), lines, strict=False), MAX_CLASSES)
    ]


def _short(name: str) -> str:
    return name if len(name) <= 14 else f"{name[:6]}…{name[-7:]}"


def _title(axes: Axes, text: str) -> None:
    # With a height of its own; to find one, matplotlib would lay out all labels once more.
    axes.set_title(text, loc="left", fontsize=10, y=1.0)


def _legend(axes: Axes, *, beside: bool) -> None:
    if beside:
        axes.set_position(NARROW)
        axes.legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    else:
        axes.legend(frameon=False, fontsize=8)

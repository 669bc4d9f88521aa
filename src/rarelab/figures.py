"""Pictures of one run: curves with chance and best lines, training with its phases, scores."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

# Okabe and Ito's colours: told apart by colour-blind readers and in grey print.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#7F7F7F"
PHASES = {"warmup": "#E8E8E8", "blend": "#F3E3C3", "main": "#FFFFFF"}


def run_figures(
    directory: Path,
    rows: Sequence[Mapping[str, Any]],
    curves: Mapping[str, Any],
    scores: Tensor,
    targets: Tensor,
    classes: Sequence[str],
) -> list[Path]:
    """Draw the four pictures of a run into ``directory/figures`` as PNG; returns their paths.

    Args:
        directory: the run's folder.
        rows: the history, oldest first.
        curves: what :func:`rarelab.curves.curves` gave for the test rows.
        scores: raw test scores [N, C].
        targets: class indices [N].
        classes: names by class index.
    """
    folder = directory / "figures"
    folder.mkdir(exist_ok=True)
    drawings: dict[str, Callable[[Axes], None]] = {
        "precision_recall": lambda axes: _precision_recall(axes, curves),
        "recall_at_quantile": lambda axes: _recall_at_quantile(axes, curves["recall_at_q"]),
        "training": lambda axes: _training(axes, rows),
        "scores": lambda axes: _scores(axes, scores, targets, classes),
    }
    return [_save(folder / f"{name}.png", draw) for name, draw in drawings.items()]


def _save(path: Path, draw: Callable[[Axes], None]) -> Path:
    figure = Figure(figsize=(5.6, 3.8), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes)
    figure.savefig(path)
    return path


def _precision_recall(axes: Axes, curves: Mapping[str, Any]) -> None:
    exact = list(curves["exact"].items())
    for name, points in exact[:10]:
        label = name if len(exact) > 1 else "this model"
        recall = [0.0, *points["recall"]]
        precision = [*points["precision"][:1], *points["precision"]]
        axes.step(recall, precision, where="pre", linewidth=1.4, label=label)
    chance = curves["precision_at_recall"]["chance"]
    level = float(np.mean(chance)) if np.ndim(chance) else float(chance)
    axes.axhline(level, color=GREY, linestyle=":", label=f"chance ({level:.2g})")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.set_title("Precision and recall, test rows", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=8)


def _recall_at_quantile(axes: Axes, curve: Mapping[str, Any]) -> None:
    alerts = np.asarray(curve["steps"]) / 100
    axes.plot(alerts, curve["values"], color=BLUE, linewidth=1.8, label="this model")
    axes.plot(alerts, curve["best"], color=GREEN, linestyle="--", label="the best possible")
    axes.plot(alerts, curve["chance"], color=GREY, linestyle=":", label="chance")
    axes.set(xscale="log", xlabel="alert budget: share of rows flagged (%)", ylabel="recall")
    axes.set_ylim(0, 1.03)
    axes.set_title("Recall at an alert budget, test rows", loc="left", fontsize=10)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.legend(frameon=False, fontsize=8)


def _training(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    epochs = [row for row in rows if "val/aucpr" in row["metrics"]]
    steps = [row["step"] + 1 for row in epochs]
    _shade_phases(axes, epochs)
    axes.plot(
        steps, [row["metrics"]["val/aucpr"] for row in epochs], "o-", color=BLUE, markersize=3
    )
    axes.set(xlabel="epoch", ylim=(0, 1.03))
    axes.set_ylabel("validation AUCPR", color=BLUE)
    losses = [row["metrics"].get("train/loss", np.nan) for row in epochs]
    right = axes.twinx()
    right.plot(steps, losses, color=ORANGE, linestyle="--")
    right.set_ylabel("training loss (its scale changes at a switch)", color=ORANGE, fontsize=8)
    right.spines["top"].set_visible(False)
    axes.set_title("Training", loc="left", fontsize=10)


def _shade_phases(axes: Axes, epochs: Sequence[Mapping[str, Any]]) -> None:
    weights = [row["metrics"].get("train/ap_weight", 1.0) for row in epochs]
    final = max(weights, default=1.0)
    names = ["warmup" if w == 0 else "main" if w >= final else "blend" for w in weights]
    for epoch, name in enumerate(names):
        axes.axvspan(epoch + 0.5, epoch + 1.5, color=PHASES[name], linewidth=0, zorder=0)
        if epoch == 0 or names[epoch - 1] != name:
            axes.text(epoch + 0.55, 1.0, name, fontsize=7, color="#555555", va="top")
    axes.set_xlim(0.5, len(names) + 0.5)


def _scores(axes: Axes, scores: Tensor, targets: Tensor, classes: Sequence[str]) -> None:
    values = scores.double().numpy()
    labels = targets.numpy()
    if values.shape[1] == 1:
        parts = {str(name): values[labels == c, 0] for c, name in enumerate(classes)}
        axes.set_xlabel("score (logit)")
    else:
        own = np.take_along_axis(values, labels[:, None], axis=1)[:, 0]
        parts = {str(name): own[labels == c] for c, name in enumerate(classes[:10])}
        axes.set_xlabel("score of the row's own class (logit)")
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    bins = np.linspace(low, high if high > low else low + 1.0, 61)
    for name, part in parts.items():
        if len(part):
            weights = np.full(len(part), 1 / len(part))
            axes.hist(part, bins, weights=weights, histtype="step", linewidth=1.4, label=name)
    axes.set(yscale="log", ylabel="share of the class")
    axes.set_title("Scores by class, test rows", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=8, title="class", title_fontsize=8)

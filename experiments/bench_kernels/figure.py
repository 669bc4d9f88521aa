"""Time and memory against pool size, on logarithmic axes."""

from pathlib import Path

import matplotlib
import pandas as pd

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from rarelab.figures.palette import BLUE, GREY, ORANGE

COLOURS = {"rarelab": BLUE, "imbalanced-losses": ORANGE, "proxy-losses": GREY}
DASHES = {0.005: "-", 0.1: "--"}


def draw(table: pd.DataFrame, path: Path) -> None:
    """Time and memory of Smooth-AP, and time of recall: one class, τ = .01, two rates."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.2), layout="constrained")
    panels = (
        ("smooth_ap", "ms", "Smooth-AP, ms a step"),
        ("smooth_ap", "peak_mb", "Smooth-AP, peak MB above the start"),
        ("recall_at_quantile", "ms", "recall at quantile, ms a step"),
    )
    for ax, (loss, quantity, title) in zip(axes, panels, strict=True):
        for library, colour in COLOURS.items():
            for rate, dash in DASHES.items():
                values = table.xs((loss, 1, rate, 0.01), level=["loss", "classes", "rate", "tau"])
                values = values[quantity, library].dropna()
                batch, queue = (values.index.get_level_values(k) for k in ("batch", "queue"))
                pools = batch + queue
                label = f"{library}, {100 * rate:g} % positive"
                ax.loglog(pools, values.clip(lower=0.1), dash, marker=".", c=colour, label=label)
        ax.set(title=title, xlabel="rows in the pool")
        ax.grid(alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)

"""Figures of a verdict: differences with intervals, the effect of each swept number, training
aligned at the end of the warmup, average ranks over data sets."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from rarelab.compare.contrast import BETTER, WORSE, Finding, by_difference
from rarelab.compare.pairs import SPLITS
from rarelab.figures.palette import DARK_GREY, GREEN, GREY, ORANGE
from rarelab.figures.style import legend, new_axes, new_panels, styles
from rarelab.metrics.table import higher_is_better

MAX_ROWS = 40
_FILLED = {BETTER: GREEN, WORSE: ORANGE}

History = Sequence[Mapping[str, Any]]


def differences(finding: Finding) -> Figure:
    """Each arm's difference from the baseline with the test's interval and a tick per pair.

    A filled mark is a verdict (better or worse), an open one means none was reached. The grey line
    is the interval that includes test-row noise.
    """
    return panels_of_differences([finding])


def panels_of_differences(findings: Sequence[Finding]) -> Figure:
    """:func:`differences` of several data sets, one below the other."""
    titles = [_title(finding) for finding in findings]
    rows = sum(1.6 + 0.42 * min(len(finding.contrasts), MAX_ROWS) for finding in findings)
    with new_panels(titles, (6.8, rows)) as panels:
        for axes, finding in zip(panels, findings, strict=True):
            _draw_differences(axes, finding)
    return panels[0].figure  # type: ignore[return-value]


def _title(finding: Finding) -> str:
    better = "right" if higher_is_better(finding.question.metric) else "left"
    return f"{finding.data} (better is {better} of zero)"


def _draw_differences(axes: Axes, finding: Finding) -> None:
    shown = by_difference(finding.contrasts)[:MAX_ROWS]
    for place, c in enumerate(shown):
        if c.test is None:
            continue
        colour = _FILLED.get(c.verdict, DARK_GREY)
        if c.rows is not None:
            axes.plot([c.rows.low, c.rows.high], [place + 0.22] * 2, color=GREY, linewidth=1.2)
        if math.isfinite(c.test.low):
            axes.plot([c.test.low, c.test.high], [place] * 2, color=colour, linewidth=2.2)
        face = colour if c.verdict in _FILLED else "white"
        marker = {BETTER: "^", WORSE: "v"}.get(c.verdict, "o")
        axes.plot(
            c.test.difference, place, marker, color=colour, markerfacecolor=face, markersize=7
        )
        axes.plot(c.differences, [place - 0.22] * len(c.differences), "|", color=colour, ms=6)
    axes.axvline(0, color="black", linewidth=0.9)
    axes.set_yticks(range(len(shown)), [c.arm.label for c in shown], fontsize=8)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    over = "splits" if finding.varied == SPLITS else "seeds"
    bars = f"bar: interval over {over}, ticks: pairs"
    if any(c.rows for c in shown):
        bars += ", grey: seeds and test rows"
    axes.set_xlabel(f"{finding.question.metric}, arm minus {finding.baseline.label}\n({bars})")


def sensitivity(
    key: str, points: Mapping[str, Mapping[float, Sequence[float]]], metric: str
) -> Figure:
    """A metric against one swept number: mean and range over runs, one line per combination of
    the other settings.

    ``points``: by line and by value of the number, the metric of each run.
    """
    with new_axes(f"What {key} does") as axes:
        for style, (label, by_value) in zip(styles(), points.items(), strict=False):
            x = np.array(sorted(by_value))
            rows = [np.asarray(by_value[value], dtype=float) for value in x]
            mean = np.array([row.mean() for row in rows])
            low, high = (np.array([f(row) for row in rows]) for f in (np.min, np.max))
            axes.errorbar(
                x,
                mean,
                yerr=[mean - low, high - mean],
                capsize=3,
                linewidth=1.5,
                markersize=5,
                label=label or "all runs",
                **style,
            )
        values = sorted({value for by_value in points.values() for value in by_value})
        least = next((value for value in values if value > 0), 0.0)
        if values[0] >= 0 and least and values[-1] / least >= 8:
            # Zero gets its own place, left of the logarithmic part.
            scale = {"linthresh": least, "linscale": 0.4} if values[0] == 0 else {}
            axes.set_xscale("symlog" if scale else "log", **scale)
        axes.set_xticks(values, [f"{value:g}" for value in values], fontsize=8)
        axes.minorticks_off()
        axes.set(xlabel=key, ylabel=f"{metric} (mean, range over runs)")
        legend(axes, len(points))
    return axes.figure  # type: ignore[return-value]


def training(arms: Mapping[str, Sequence[History]], key: str = "val/aucpr") -> Figure:
    """Validation score by epoch, counted from the first epoch in which the main loss has weight:
    mean over an arm's runs, with a band from the lowest to the highest.

    An arm without a warmup is aligned with the start of the others' warmup.
    """
    switches = {label: _switch(runs[0]) for label, runs in arms.items()}
    warmups = Counter(found for found in switches.values() if found)
    usual = warmups.most_common(1)[0][0] if warmups else 0
    with new_axes("Training, aligned at the end of the warmup") as axes:
        for style, (label, runs) in zip(styles(), arms.items(), strict=False):
            epochs, values = _epochs(runs, key)
            if not len(epochs):
                continue
            x = epochs - (switches[label] or usual)
            axes.fill_between(
                x,
                values.min(axis=0),
                values.max(axis=0),
                color=style["color"],
                alpha=0.15,
                linewidth=0,
            )
            axes.plot(
                x,
                values.mean(axis=0),
                label=label,
                linewidth=1.6,
                markersize=4,
                markevery=max(1, len(x) // 10),
                **style,
            )
        if warmups:
            axes.axvline(0, color=GREY, linewidth=0.9, zorder=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="epochs since the main loss first had weight", ylabel=key)
        legend(axes, len(arms))
    return axes.figure  # type: ignore[return-value]


def _switch(history: History) -> int | None:
    """The first epoch in which the main loss has weight; None if that is the very first epoch."""
    for row in history:
        if row["metrics"].get("train/ap_weight", 0.0) > 0:
            return row["step"] or None
    return None


def _epochs(runs: Sequence[History], key: str) -> tuple[NDArray, NDArray]:
    """The epochs [E] that all runs have, and their values [runs, E]."""
    found = [
        {row["step"]: row["metrics"][key] for row in run if key in row["metrics"]} for run in runs
    ]
    shared = sorted(set.intersection(*map(set, found))) if found else []
    values = np.array([[run[epoch] for epoch in shared] for run in found], dtype=float)
    return np.array(shared, dtype=float), values


def critical_difference(ranks: Any, p_values: Any, alpha: float, data_sets: int) -> Figure:
    """Average ranks of the arms (1 is best); a bar joins arms that the post-hoc test does not
    separate (Demšar 2006). Drawn by scikit-posthocs."""
    import scikit_posthocs

    height = 1.6 + 0.28 * len(ranks)
    with new_axes(f"Average rank over {data_sets} data sets (1 is best)", (6.8, height)) as axes:
        scikit_posthocs.critical_difference_diagram(
            ranks, p_values, alpha=alpha, ax=axes, label_props={"fontsize": 8}
        )
    return axes.figure  # type: ignore[return-value]

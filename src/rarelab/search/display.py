"""A search's console output: its plan, a line per trial, and the best one at the end."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rarelab.metrics.table import AUCPR
from rarelab.search.space import Space
from rarelab.search.trials import Trial, best, command


def in_words(metric: str) -> str:
    """The name of a search's metric in a sentence."""
    return "validation AUCPR" if metric == AUCPR else metric


def plan(
    sweep: str,
    space: Space,
    n_trials: int,
    corners: int,
    known: Path | None,
    metric: str = AUCPR,
) -> str:
    """The plan of a search.

    Args:
        sweep: the search's id.
        space: the dimensions to search.
        n_trials: total number of trials.
        corners: number of jobs composed and checked in advance.
        known: the folder of an earlier search to resume.
        metric: what it maximises.
    """
    resumed = "" if known is None else f", resumed in {known}"
    lines = [f"search {sweep}: {n_trials} trials in total{resumed}"]
    if space.fixed:
        lines.append(f"  all with {' '.join(space.fixed)}")
    if metric != AUCPR:
        lines.append(f"  maximises {metric}")
    lines += [f"  {dimension}" for dimension in space.dimensions]
    if space.seeds:
        lines.append(f"  seed {', '.join(space.seeds)}: a trial's value is their mean")
    return "\n".join([*lines, f"  checked {corners} jobs at the corners of the space"])


def trial_line(rows: Sequence[Trial], number: int, of: int) -> str:
    """How a trial ended, and the best so far."""
    row, top = rows[number], best(rows)
    value = "" if row.value is None else f"  {row.value:.4f}"
    so_far = "" if top is None else f"  |  best {top.value:.4f} (trial {top.number})"
    return f"trial {number} of {of}: {row.status}{value}  {' '.join(row.overrides)}{so_far}"


def closing(
    sweep: str, space: Space, rows: Sequence[Trial], folder: Path, metric: str = AUCPR
) -> str:
    """The number of trials by ending, and the best one as a command to copy."""
    counts = Counter(row.status for row in rows)
    told = ", ".join(f"{count} {status}" for status, count in counts.items())
    lines = [f"\nsearch {sweep}: {len(rows)} trials ({told or 'none'}), in {folder}"]
    top = best(rows)
    if top is not None:
        seeds = f", mean of {len(space.seeds)} seeds" if space.seeds else ""
        lines.append(f"best: trial {top.number}, {in_words(metric)} {top.value:.4f}{seeds}")
        lines.append(f"  {command(space, top)}")
    return "\n".join(lines)

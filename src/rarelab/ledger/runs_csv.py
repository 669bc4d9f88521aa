"""Runs as a CSV that can be committed: the parameters that differ, and the metrics.

The same runs give the same bytes: it contains no dates, places or timings. Runs read back compare
like the recorded ones, except for what needs a run's files (predictions, curves).
"""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rarelab.errors import RequestError
from rarelab.metrics.table import in_ledger
from rarelab.records.load import Run
from rarelab.records.names import differences, order
from rarelab.records.searched import TAG

FACTS = ("status", "rows", "data_digest")
"""The first columns that are neither parameters (before them) nor metrics (named with a slash)."""

SEARCHED = "searched"
"""After these, if a contest chose the values of some runs: what it chose them from."""

_ALWAYS = ("dataset", "model", "loss", "dataset.split_seed", "seed")
_TAGS = {"rows": "rarelab.rows", "data_digest": "rarelab.data_digest", SEARCHED: TAG}
_DIGITS = 16


def as_csv(runs: Sequence[Run], parameters: Sequence[str] | None = None) -> str:
    """One line per run, sorted: parameters in which runs differ, status, data, metrics.

    Metrics are written as the shortest text that reads back to the same float64. Per-class metrics
    are left out, and so is precision at a quantile, which follows from recall and prevalence. NaN
    and missing values are empty cells.

    Args:
        runs: the runs of one study.
        parameters: the columns before the facts; None takes those in which the runs differ.
    """
    parameters = parameters or _parameters(runs)
    runs = sorted(runs, key=lambda run: [_sortable(run.params.get(key)) for key in parameters])
    metrics = list(dict.fromkeys(key for run in runs for key in run.metrics if _known(run, key)))
    metrics = [key for key in metrics if in_ledger(key)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    searched = [SEARCHED] if any(run.searched for run in runs) else []
    writer.writerow([*parameters, *FACTS, *searched, *metrics])
    for run in runs:
        facts = [run.status, run.tags.get(_TAGS["rows"], ""), (run.digest or "")[:_DIGITS]]
        facts += [run.tags.get(TAG, "") for _ in searched]
        values = [repr(float(run.metrics[k])) if _known(run, k) else "" for k in metrics]
        writer.writerow([*(run.params.get(key, "") for key in parameters), *facts, *values])
    return text.getvalue()


def read(path: Path) -> list[Run]:
    """Read the runs of a file that :func:`as_csv` wrote.

    Raises:
        RequestError: the file does not exist, or is not a table of runs.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        raise RequestError(f"{path}: there is no such file") from None
    lines = csv.DictReader(text.splitlines())
    if missing := {"seed", *FACTS} - set(lines.fieldnames or ()):
        raise RequestError(f"{path}: expected a table of runs; it has no column {min(missing)!r}")
    return [_run(line, place) for place, line in enumerate(lines)]


def _known(run: Run, metric: str) -> bool:
    return not math.isnan(run.metrics.get(metric, math.nan))


def _run(line: Mapping[str, str], place: int) -> Run:
    filled = {key: value for key, value in line.items() if value}
    return Run(
        run_id=f"line {place + 2}",
        name=f"line {place + 2}",
        experiment="",
        params={k: v for k, v in filled.items() if "/" not in k and k not in (*FACTS, SEARCHED)},
        tags={tag: filled[key] for key, tag in _TAGS.items() if key in filled},
        metrics={key: float(value) for key, value in filled.items() if "/" in key},
        status=line["status"],
        started=place,
    )


def _parameters(runs: Sequence[Run]) -> list[str]:
    """The keys used in the labels of arms and data, with their config groups, so that runs read
    back get the same labels, and the keys that a contest searched."""
    parts: Iterable[list[dict[str, str]]] = ([run.arm for run in runs], [run.data for run in runs])
    named = {key for part in parts for found in differences(part) for key in found}
    named |= {key for run in runs for key, space in run.searched.items() if space is not None}
    named |= {key.partition(".")[0] for key in named} | set(_ALWAYS)
    return sorted((key for key in named if any(key in run.params for run in runs)), key=order)


def _sortable(value: str | None) -> tuple[int, float, str]:
    """Sort key: missing values, then numbers by value, then texts."""
    if value is None:
        return (0, 0.0, "")
    try:
        return (1, float(value), "")
    except ValueError:
        return (2, 0.0, value)

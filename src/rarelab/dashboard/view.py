"""The columns, charts and order of MLflow's experiment page, as one of its saved views.

MLflow (from 3.16) keeps a saved view as an experiment tag ``mlflow.sharedViewState.<key>``: JSON
with a name and the deflated page state; a link with ``viewStateShareKey=<key>`` opens it.
"""

import base64
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlencode

from rarelab.metrics.table import Place, shown
from rarelab.records.names import GROUPS, differences
from rarelab.tracking.writer import PERCENT_OF_ROWS

KEY = "rarelab"
TAG = f"mlflow.sharedViewState.{KEY}"

ARM = "rarelab.arm"
"""The tag by which the table and the charts group runs (:mod:`rarelab.dashboard.arms`)."""

METRIC_COLUMNS = shown(Place.COLUMN)
"""The columns of every experiment."""
ORDER = "test/aucpr"
_CURVE = "curve/"
_BY_BUDGET = "curve/recall_at_q"
_VALUE_BY_BUDGET = "curve/value_recall_at_q"
_BUDGETS = (1, 10)
"""The charts of recall by alert budget end at these, in per cent of the rows."""
_NAME = "attributes.`Run Name`"
_SECTIONS = (
    ("budget", "At the alert budget", 3),
    ("swept", "Swept values and results", 1),
    ("training", "Training", 2),
)
"""Key, title and number of charts per row."""

_SWEPT = "hp/"
_SEED = "seed"
_MAX_AXES = 6
_MAX_CHOICES = 4
_MAX_COLLAPSED = 60  # a tag of an experiment holds 5000 characters
_RUNS = 20


class Recorded(Protocol):
    """What the view needs of a run."""

    @property
    def params(self) -> Mapping[str, str]: ...

    @property
    def metrics(self) -> Mapping[str, float]: ...


def tag_value(runs: Sequence[Recorded], arms: Iterable[str], now: int) -> str:
    """The tag's value for the runs of an experiment; ``now`` in milliseconds since 1970."""
    packed = base64.b64encode(zlib.compress(json.dumps(state(runs, arms)).encode())).decode()
    view = {"name": KEY, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"}
    return json.dumps(view)


def link(experiment_id: str, mode: str = "TABLE") -> str:
    """The page's address below the server's: ``mode`` TABLE or CHART.

    ``workflowType`` keeps the page out of its language-model mode; the experiment's own tag does
    not.
    """
    asked = urlencode(
        {
            "workflowType": "machine_learning",
            "viewStateShareKey": KEY,
            "compareRunsMode": mode,
        }
    )
    return f"#/experiments/{experiment_id}/runs?{asked}"


def state(runs: Sequence[Recorded], arms: Iterable[str]) -> dict[str, Any]:
    """The page's state: runs grouped by arm, best mean first, with columns for differing parameters
    and results, and charts of the curves, the training and the swept values.

    ``arms``: the values of the tag ``ARM`` whose runs are shown on a click.
    """
    results = metric_columns(runs)
    columns = [f"params.`{key}`" for key in choices(runs)]
    columns += [f"tags.`{key}`" for key in results]
    widths = {f"tags.`{key}`": 40 + 7 * len(key) for key in results}
    collapsed = sorted(set(arms), reverse=True)[:_MAX_COLLAPSED]
    drawn = shown(Place.CHART, {key for run in runs for key in run.metrics})
    curves = [key for key in drawn if key.startswith(_CURVE)]
    epochs = [key for key in drawn if key not in curves]
    charts = [
        *(_by_budget(runs, _BY_BUDGET, most) for most in _BUDGETS),
        *(_by_budget(runs, key, _BUDGETS[-1]) for key in curves if key == _VALUE_BY_BUDGET),
        *(_line(key, "budget") for key in curves if key not in (_BY_BUDGET, _VALUE_BY_BUDGET)),
        *_parallel(runs),
        _chart("BAR", ORDER, "swept") | {"metricKey": ORDER},
        *(_line(key, "training") for key in epochs),
    ]
    return {
        "searchFilter": "",
        "orderByKey": f"tags.`{ARM}`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": [_NAME, *columns],
        "columnWidths": {_NAME: 560, **widths},
        "groupBy": {
            "aggregateFunction": "average",
            "groupByKeys": [{"mode": "tag", "groupByData": ARM}],
        },
        "groupsExpanded": {f"tag.{ARM}.{arm}": False for arm in collapsed},
        "useGroupedValuesInCharts": True,
        "runsHiddenMode": f"FIRST_{_RUNS}_RUNS",
        "isAccordionReordered": True,
        "hideEmptyCharts": True,
        "compareRunCharts": charts,
        "compareRunSections": [_section(*section) for section in _SECTIONS],
    }


def metric_columns(runs: Sequence[Recorded]) -> list[str]:
    """The metrics that are columns; those at the budget or of amounts if any run has them."""
    return shown(Place.COLUMN, {key for run in runs for key in run.metrics})


def choices(runs: Sequence[Recorded]) -> list[str]:
    """The parameters in which the runs differ, at most ``_MAX_CHOICES``, without seeds: these are
    in the runs' names, and the page would show an arm's mean of them."""
    differing = {key for item in differences([run.params for run in runs]) for key in item}
    named = [
        key
        for key in differing
        if not key.endswith(_SEED) and any(key in run.params for run in runs)
    ]

    def place(key: str) -> tuple[int, str]:
        group = key.partition(".")[0]
        return (GROUPS.index(group) if group in GROUPS else len(GROUPS), key)

    return sorted(named, key=place)[:_MAX_CHOICES]


def axes(runs: Sequence[Recorded]) -> list[str]:
    """The metrics that are the axes of the parallel coordinates: swept numbers, then the results.

    A line is an arm, of which the page knows the means of numbers. It omits those that lack an
    axis, so an axis must exist for every run with a result. Empty if no number was swept.
    """
    done = [run for run in runs if ORDER in run.metrics]
    keys = {key for run in done for key in run.metrics if key.startswith(_SWEPT)}
    swept = [key for key in sorted(keys) if not key.endswith(_SEED)]
    swept = [key for key in swept if _varies([run.metrics.get(key) for run in done])]
    results = [key for key in ("best/val_aucpr", ORDER) if all(key in run.metrics for run in done)]
    return [*swept[:_MAX_AXES], *results] if swept else []


def _varies(values: Sequence[float | None]) -> bool:
    return None not in values and len(set(values)) > 1


def _by_budget(runs: Sequence[Recorded], key: str, most: int) -> dict[str, Any]:
    """Recall by alert budget, counted or by value, up to ``most`` per cent of the rows.

    Runs recorded before the x axis was have it in hundredths of a per cent, as their step.
    """
    drawn = [run for run in runs if key in run.metrics]
    percent = all(PERCENT_OF_ROWS in run.metrics for run in drawn)
    axis = {"xAxisKey": "metric", "selectedXAxisMetricKey": PERCENT_OF_ROWS} if percent else {}
    return {
        **_line(key, "budget"),
        **axis,
        "uuid": f"{KEY}-LINE-{key}-{most}",
        "range": {"xMin": 0, "xMax": most if percent else 100 * most},
    }


def _line(key: str, section: str) -> dict[str, Any]:
    return _chart("LINE", key, section) | {
        "metricKey": key,
        "selectedMetricKeys": [key],
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "useGlobalXaxisKey": False,
        "lineSmoothness": 0,
    }


def _parallel(runs: Sequence[Recorded]) -> list[dict[str, Any]]:
    shown = axes(runs)
    options = {"selectedParams": [], "selectedMetrics": shown, "showAllRuns": True}
    return [_chart("PARALLEL", "parallel", "swept") | options] if shown else []


def _chart(kind: str, name: str, section: str) -> dict[str, Any]:
    return {
        "uuid": f"{KEY}-{kind}-{name}",
        "type": kind,
        "runsCountToCompare": _RUNS,
        "metricSectionId": f"{KEY}-{section}",
        "deleted": False,
        "isGenerated": False,
    }


def _section(key: str, name: str, columns: int) -> dict[str, Any]:
    return {
        "uuid": f"{KEY}-{key}",
        "name": name,
        "columns": columns,
        "cardHeight": 420,
        "display": True,
        "isReordered": True,
        "deleted": False,
        "isGenerated": False,
    }

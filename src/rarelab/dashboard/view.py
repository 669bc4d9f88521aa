"""The columns, charts and order of MLflow's experiment page, as one of its saved views.

MLflow (from 3.16) keeps a saved view as an experiment tag ``mlflow.sharedViewState.<key>``: JSON
with a name and the deflated page state; a link with ``viewStateShareKey=<key>`` opens it.
"""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlencode

from rarelab.metrics.table import Place, shown
from rarelab.records.names import GROUPS, differences

KEY = "rarelab"
TAG = f"mlflow.sharedViewState.{KEY}"

METRIC_COLUMNS = shown(Place.COLUMN)
ORDER = "test/aucpr"
_CURVE = "curve/"
_LOGARITHMIC = "curve/recall_at_q"
_SECTIONS = (
    ("budget", "At the alert budget", 2),
    ("swept", "Swept values and results", 1),
    ("training", "Training", 2),
)
"""Key, title and number of charts per row."""

_SWEPT = "hp/"
_MAX_AXES = 6
_MAX_CHOICES = 4
_RUNS = 20

# The page truncates tick labels to this length, so longer common prefixes look the same.
_TICK = 9


class Recorded(Protocol):
    """What the view needs of a run."""

    @property
    def params(self) -> Mapping[str, str]: ...

    @property
    def metrics(self) -> Mapping[str, float]: ...


def tag_value(runs: Sequence[Recorded], now: int) -> str:
    """The tag's value for the runs of an experiment; ``now`` in milliseconds since 1970."""
    packed = base64.b64encode(zlib.compress(json.dumps(state(runs)).encode())).decode()
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


def state(runs: Sequence[Recorded]) -> dict[str, Any]:
    """The page's state: columns for differing parameters and results, sorted by test AUCPR, and
    charts of the curves, the training and the swept values."""
    columns = [f"params.`{key}`" for key in choices(runs)]
    columns += [f"metrics.`{key}`" for key in METRIC_COLUMNS]
    drawn = shown(Place.CHART)
    curves = [key for key in drawn if key.startswith(_CURVE)]
    epochs = [key for key in drawn if key not in curves]
    charts = [
        *(_line(key, "budget", logarithmic=key == _LOGARITHMIC) for key in curves),
        _parallel(runs),
        _chart("BAR", ORDER, "swept") | {"metricKey": ORDER},
        *(_line(key, "training") for key in epochs),
    ]
    return {
        "searchFilter": "",
        "orderByKey": f"metrics.`{ORDER}`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {f"metrics.`{key}`": 40 + 7 * len(key) for key in METRIC_COLUMNS},
        "runsHiddenMode": f"FIRST_{_RUNS}_RUNS",
        "isAccordionReordered": True,
        "hideEmptyCharts": True,
        "compareRunCharts": charts,
        "compareRunSections": [_section(*section) for section in _SECTIONS],
    }


def choices(runs: Sequence[Recorded]) -> list[str]:
    """The parameters in which the runs differ, seeds last; at most ``_MAX_CHOICES``."""
    differing = {key for item in differences([run.params for run in runs]) for key in item}
    named = [key for key in differing if any(key in run.params for run in runs)]

    def place(key: str) -> tuple[bool, int, str]:
        group = key.partition(".")[0]
        return (
            key.endswith("seed"),
            GROUPS.index(group) if group in GROUPS else len(GROUPS),
            key,
        )

    return sorted(named, key=place)[:_MAX_CHOICES]


def axes(runs: Sequence[Recorded]) -> tuple[list[str], list[str]]:
    """Parameters and metrics as axes of the parallel coordinates, the result last.

    The page omits runs that lack an axis and truncates long texts. So an axis must exist for every
    run with a result, and hold numbers or texts that differ in their first characters. Swept
    numbers use the ``hp/...`` metrics, which need no parsing.
    """
    done = [run for run in runs if ORDER in run.metrics]
    swept = sorted({key for run in done for key in run.metrics if key.startswith(_SWEPT)})
    swept = [key for key in swept if _varies([run.metrics.get(key) for run in done])]
    as_metric = {key.removeprefix(_SWEPT) for key in swept}
    params = [
        key
        for key in choices(done)
        if key not in as_metric and _distinct([run.params.get(key) for run in done])
    ]
    results = [key for key in ("best/val_aucpr", ORDER) if all(key in run.metrics for run in done)]
    params = params[:_MAX_AXES]
    return params, [*swept[: _MAX_AXES - len(params)], *results]


def _varies(values: Sequence[float | None]) -> bool:
    return None not in values and len(set(values)) > 1


def _distinct(values: Sequence[str | None]) -> bool:
    texts = {value for value in values if value is not None}
    if None in values or len(texts) < 2:
        return False
    return all(map(_is_number, texts)) or len({text[:_TICK] for text in texts}) == len(texts)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _line(key: str, section: str, *, logarithmic: bool = False) -> dict[str, Any]:
    return _chart("LINE", key, section) | {
        "metricKey": key,
        "selectedMetricKeys": [key],
        "xAxisKey": "step",
        "xAxisScaleType": "log" if logarithmic else "linear",
        "scaleType": "linear",
        "useGlobalXaxisKey": False,
        "lineSmoothness": 0,
    }


def _parallel(runs: Sequence[Recorded]) -> dict[str, Any]:
    params, metrics = axes(runs)
    return _chart("PARALLEL", "parallel", "swept") | {
        "selectedParams": params,
        "selectedMetrics": metrics,
        "showAllRuns": True,
    }


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

"""What the dashboard's view shows."""

import base64
import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import rarelab as package
from rarelab.dashboard.colours import colours
from rarelab.dashboard.command import publish, ui
from rarelab.dashboard.view import METRIC_COLUMNS, TAG, axes, choices, link, state, tag_value
from rarelab.errors import RequestError
from rarelab.figures.palette import PALETTE
from rarelab.records.load import Records, Run

RESULT = {"best/val_aucpr": 0.8, "test/aucpr": 0.7}


@dataclass(frozen=True)
class Seen:
    params: dict[str, str]
    metrics: dict[str, float] = field(default_factory=lambda: dict(RESULT))


def seen(**params: object) -> Seen:
    return Seen({key.replace("__", "."): str(value) for key, value in params.items()})


def test_the_tag_is_mlflows_own_envelope_and_fits_its_limit() -> None:
    runs = [seen(loss=loss, seed=seed) for loss in ("bce", "smooth_ap") for seed in range(300)]
    value = tag_value(runs, now=5)
    assert len(value) < 5000
    view = json.loads(value)
    assert (view["name"], view["createdAt"]) == ("rarelab", 5)
    packed = view["state"].removeprefix("deflate;")
    assert json.loads(zlib.decompress(base64.b64decode(packed))) == state(runs)


def test_columns_are_what_differs_then_the_results() -> None:
    runs = [
        seen(seed=s, loss=loss, model="mlp", optimizer__lr=lr)
        for s in (0, 1)
        for loss in ("bce", "smooth_ap")
        for lr in (0.1, 0.01)
    ]
    assert choices(runs) == ["loss", "optimizer.lr", "seed"]
    shown = state(runs)
    assert shown["selectedColumns"] == [
        "params.`loss`",
        "params.`optimizer.lr`",
        "params.`seed`",
        *(f"metrics.`{key}`" for key in METRIC_COLUMNS),
    ]
    assert shown["columnOrder"] == shown["selectedColumns"]
    assert (shown["orderByKey"], shown["orderByAsc"]) == ("metrics.`test/aucpr`", False)


def test_every_chart_is_in_a_section_and_the_budget_axis_is_logarithmic() -> None:
    shown = state([seen(loss="bce"), seen(loss="smooth_ap")])
    sections = [section["uuid"] for section in shown["compareRunSections"]]
    assert {chart["metricSectionId"] for chart in shown["compareRunCharts"]} == set(sections)
    assert len({chart["uuid"] for chart in shown["compareRunCharts"]}) == 8
    first = shown["compareRunCharts"][0]
    assert (first["metricKey"], first["xAxisScaleType"]) == ("curve/recall_at_q", "log")


def test_texts_that_would_look_alike_make_no_axis() -> None:
    apart = [seen(loss="bce"), seen(loss="smooth_ap"), seen(loss="recall_at_quantile")]
    assert axes(apart)[0] == ["loss"]
    alike = [seen(loss="recall_at_quantile"), seen(loss="recall_at_quantile_iqr")]
    assert axes(alike)[0] == []
    assert axes(alike)[1] == ["best/val_aucpr", "test/aucpr"]


def test_numbers_are_axes_even_if_they_share_a_prefix() -> None:
    runs = [seen(loss__temperature=f"0.010000000{i}") for i in range(3)]
    assert axes(runs)[0] == ["loss.temperature"]


def test_swept_numbers_are_taken_once_as_metrics() -> None:
    runs = [
        Seen({"optimizer.lr": str(lr), "seed": "0"}, RESULT | {"hp/optimizer.lr": lr, "hp/seed": 0})
        for lr in (0.1, 0.01)
    ]
    assert axes(runs) == ([], ["hp/optimizer.lr", "best/val_aucpr", "test/aucpr"])


def test_an_axis_that_would_drop_a_run_is_left_out() -> None:
    runs = [
        Seen({"loss": "bce"}),
        Seen({"loss": "smooth_ap"}, RESULT | {"hp/loss.queue_size": 64.0}),
        Seen({"loss": "smooth_ap"}, RESULT | {"hp/loss.queue_size": 128.0}),
    ]
    assert axes(runs) == (["loss"], ["best/val_aucpr", "test/aucpr"])
    failed = [Seen({"loss": "hinge"}, {}), *runs]
    assert axes(failed) == axes(runs)


def test_a_single_run_has_a_view_too() -> None:
    shown = state([seen(loss="bce")])
    assert shown["selectedColumns"] == [f"metrics.`{key}`" for key in METRIC_COLUMNS]


def test_the_link_opens_the_view_in_the_mode_for_training() -> None:
    assert link("7", "CHART") == (
        "#/experiments/7/runs?workflowType=machine_learning"
        "&viewStateShareKey=rarelab&compareRunsMode=CHART"
    )


def test_the_view_is_set_on_the_experiment_asked_for_or_the_newest(home: Path) -> None:
    quick = ["trainer.max_epochs=1", "loss=bce", "dataset.n_samples=2000", "dataset.pos_rate=0.05"]
    for name in ("first", "second"):
        package.train([*quick, f"tracking.experiment={name}"])
    records = Records(home)
    assert publish(records)[0] == "second"
    name, experiment_id = publish(records, "first")
    value = records.client.get_experiment(experiment_id).tags[TAG]
    assert name == "first" and json.loads(value)["name"] == "rarelab"
    with pytest.raises(RequestError, match="did you mean 'second'"):
        publish(records, "secnod")


def test_without_records_no_server_is_started(home: Path) -> None:
    with pytest.raises(RequestError, match="nothing has been recorded"):
        ui(home, None, uri=None, port=0, browser=False)


def test_records_on_a_server_that_does_not_answer_still_have_an_address(
    home: Path, capsys: pytest.CaptureFixture
) -> None:
    assert ui(home, None, uri="http://me:pw@127.0.0.1:9", port=0, browser=False) == 0
    said = capsys.readouterr().out
    assert "the view could not be set" in said and "http://***@127.0.0.1:9/#/experiments" in said
    assert "pw" not in said


def run_of(run_id: str, arm: dict[str, str], colour: str | None = None) -> Run:
    tags = {} if colour is None else {"mlflow.runColor": colour}
    return Run(run_id, run_id, "alerts", arm, tags, {}, "done", 0)


def test_the_runs_of_an_arm_share_a_colour_and_keep_what_they_have() -> None:
    bce, ranking, focal = ({"loss": name} for name in ("bce", "smooth_ap", "focal"))
    fresh = [run_of("a", bce), run_of("b", ranking), run_of("c", bce)]
    assert colours(fresh) == {"a": PALETTE[0], "b": PALETTE[1], "c": PALETTE[0]}
    later = [run_of("a", bce, PALETTE[1]), run_of("b", bce), run_of("c", focal)]
    assert colours(later) == {"b": PALETTE[1], "c": PALETTE[0]}


def test_more_arms_than_colours_keep_mlflows_own() -> None:
    assert colours([run_of(str(i), {"lr": str(i)}) for i in range(len(PALETTE) + 1)]) == {}

"""What the dashboard's view shows."""

import base64
import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import rarelab as package
from rarelab.dashboard.arms import arms, new_tags, sweeps
from rarelab.dashboard.colours import colours
from rarelab.dashboard.command import publish, ui
from rarelab.dashboard.view import ARM, METRIC_COLUMNS, TAG, axes, choices, link, state, tag_value
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
    names = [f"0.{number:04} ± 0.{number * 7:04} lr={number}" for number in range(1000)]
    value = tag_value(runs, names, now=5)
    assert len(value) < 5000
    view = json.loads(value)
    assert (view["name"], view["createdAt"]) == ("rarelab", 5)
    packed = view["state"].removeprefix("deflate;")
    assert json.loads(zlib.decompress(base64.b64decode(packed))) == state(runs, names)


def test_columns_are_what_differs_then_the_results() -> None:
    runs = [
        seen(seed=s, loss=loss, model="mlp", optimizer__lr=lr)
        for s in (0, 1)
        for loss in ("bce", "smooth_ap")
        for lr in (0.1, 0.01)
    ]
    assert choices(runs) == ["loss", "optimizer.lr"]
    shown = state(runs, ["0.7 bce"])
    assert shown["selectedColumns"] == [
        "params.`loss`",
        "params.`optimizer.lr`",
        *(f"tags.`{key}`" for key in METRIC_COLUMNS),
    ]
    assert shown["columnOrder"] == ["attributes.`Run Name`", *shown["selectedColumns"]]


def test_runs_are_grouped_by_arm_and_sorted_by_its_mean_not_by_the_best_run() -> None:
    shown = state([seen(loss="bce")], ["0.7000 bce"])
    assert shown["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": ARM}]
    assert (shown["orderByKey"], shown["orderByAsc"]) == (f"tags.`{ARM}`", False)
    assert shown["groupsExpanded"] == {f"tag.{ARM}.0.7000 bce": False}


def test_every_chart_is_in_a_section_and_the_budget_is_in_per_cent_of_the_rows() -> None:
    curve = {"curve/recall_at_q": 0.5}
    runs = [Seen({"loss": loss}, RESULT | curve) for loss in ("bce", "smooth_ap")]
    shown = state(runs, [])
    sections = [section["uuid"] for section in shown["compareRunSections"]]
    assert {chart["metricSectionId"] for chart in shown["compareRunCharts"]} == set(sections)
    assert len({chart["uuid"] for chart in shown["compareRunCharts"]}) == 8
    earlier = shown["compareRunCharts"][:2]
    assert [(c["metricKey"], c["xAxisKey"], c["range"]["xMax"]) for c in earlier] == [
        ("curve/recall_at_q", "step", 100),
        ("curve/recall_at_q", "step", 1000),
    ]
    with_axis = [Seen(run.params, run.metrics | {"curve/per cent of rows": 10.0}) for run in runs]
    now = state(with_axis, [])["compareRunCharts"][:2]
    axis = "curve/per cent of rows"
    assert [(c["xAxisKey"], c["selectedXAxisMetricKey"], c["range"]["xMax"]) for c in now] == [
        ("metric", axis, 1),
        ("metric", axis, 10),
    ]
    mixed = state([*with_axis, runs[0]], [])["compareRunCharts"][0]
    assert mixed["xAxisKey"] == "step"


def test_swept_numbers_are_axes_but_not_seeds() -> None:
    runs = [
        Seen({"optimizer.lr": str(lr)}, RESULT | {"hp/optimizer.lr": lr, "hp/seed": lr * 10})
        for lr in (0.1, 0.01)
    ]
    assert axes(runs) == ["hp/optimizer.lr", "best/val_aucpr", "test/aucpr"]
    drawn = [chart["type"] for chart in state(runs, [])["compareRunCharts"]]
    assert drawn.count("PARALLEL") == 1


def test_an_axis_that_would_drop_a_run_is_left_out() -> None:
    runs = [
        Seen({"loss": "bce"}),
        Seen({"loss": "smooth_ap"}, RESULT | {"hp/loss.queue_size": 64.0}),
        Seen({"loss": "smooth_ap"}, RESULT | {"hp/loss.queue_size": 128.0}),
    ]
    assert axes(runs) == []
    assert axes(runs[1:])[0] == "hp/loss.queue_size"
    failed = [Seen({"loss": "hinge"}, {}), *runs[1:]]
    assert axes(failed) == axes(runs[1:])
    assert "PARALLEL" not in [chart["type"] for chart in state(runs, [])["compareRunCharts"]]


def test_a_single_run_has_a_view_too() -> None:
    shown = state([seen(loss="bce")], [])
    assert shown["selectedColumns"] == [f"tags.`{key}`" for key in METRIC_COLUMNS]


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
    (run,) = records.runs("first")
    result = f"{run.metrics['test/aucpr']:.4f}"
    assert run.tags[ARM] == f"{result} loss=bce (test AUCPR, 1 run)"
    assert run.tags["test/aucpr"] == result and len(result) == len("0.1234")
    assert new_tags([run], arms([run])) == {}
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


def run_of(run_id: str, arm: dict[str, str], colour: str | None = None, **metrics: float) -> Run:
    tags = {} if colour is None else {"mlflow.runColor": colour}
    found = {key.replace("_", "/", 1): value for key, value in metrics.items()}
    return Run(run_id, run_id, "alerts", arm, tags, found, "done", 0)


def test_an_arm_is_named_by_its_mean_and_spread_over_seeds_and_what_differs() -> None:
    toy = {"dataset": "toy"}
    values = {("bce", 0): 0.9, ("bce", 1): 0.2, ("smooth_ap", 0): 0.6, ("smooth_ap", 1): 0.64}
    runs = [
        run_of(f"{loss}{seed}", toy | {"loss": loss, "seed": str(seed)}, test_aucpr=value)
        for (loss, seed), value in values.items()
    ]
    runs += [run_of("none", toy | {"loss": "focal"})]
    runs += [run_of("other", {"loss": "bce", "dataset": "letter"}, test_aucpr=0.05)]
    found = arms(runs)
    assert len(set(found.values())) == 4
    assert sorted({*found.values(), *sweeps(runs[:1]).values()}, reverse=True) == [
        "verdict: none yet (rarelab compare)",
        "0.6200 ± 0.0283 dataset=toy loss=smooth_ap (test AUCPR, 2 runs)",
        "0.5500 ± 0.4950 dataset=toy loss=bce (test AUCPR, 2 runs)",
        "0.0500 dataset=letter loss=bce (test AUCPR, 1 run)",
        "- dataset=toy loss=focal (no result yet)",
    ]


def test_a_runs_results_have_four_digits_and_are_written_once() -> None:
    run = run_of("a", {"loss": "bce"}, test_aucpr=0.123456, best_epoch=12.0, test_auroc=1.0)
    told = {ARM: "b", "test/aucpr": "0.1235", "best/epoch": "12", "test/auroc": "1.0000"}
    assert new_tags([run], {"a": "b"}) == {"a": told}
    run.tags.update(told)  # type: ignore[attr-defined]
    assert new_tags([run], {"a": "b"}) == {}
    assert new_tags([run], {"a": "c"}) == {"a": {ARM: "c"}}


def test_the_runs_of_an_arm_share_a_colour_and_keep_what_they_have() -> None:
    bce, ranking, focal = ({"loss": name} for name in ("bce", "smooth_ap", "focal"))
    fresh = [run_of("a", bce), run_of("b", ranking), run_of("c", bce)]
    assert colours(fresh) == {"a": PALETTE[0], "b": PALETTE[1], "c": PALETTE[0]}
    later = [run_of("a", bce, PALETTE[1]), run_of("b", bce), run_of("c", focal)]
    assert colours(later) == {"b": PALETTE[1], "c": PALETTE[0]}


def test_more_arms_than_colours_keep_mlflows_own() -> None:
    assert colours([run_of(str(i), {"lr": str(i)}) for i in range(len(PALETTE) + 1)]) == {}

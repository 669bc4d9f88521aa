"""A contest: what is searched for each arm on each split, and which points are tried."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rarelab.config.compose_many import Composer, loader
from rarelab.errors import RequestError
from rarelab.paths import config_root
from rarelab.records.searched import TAG, as_arm, choices, searched
from rarelab.search.cells import Cell, read_cells
from rarelab.search.contest_plan import _tried, plan_contest
from rarelab.search.points import points, stratified
from rarelab.search.space import Choice, Numbers
from rarelab.sweep.job import Result
from rarelab.sweep.overrides import quoted_arms, quoted_space
from rarelab.sweep.plan import Planner
from rarelab.sweep.settings import Search, settings

FOLDER = config_root() / "experiments"
RATE = "optimizer.lr=tag(log,interval(0.001,0.1))"
SPACE = "sweep.search.space={optimizer.lr:tag(log,interval(0.001,0.1))}"


def cells(*typed: str, study: dict[str, str] | None = None) -> list[Cell]:
    lines = [quoted_space(quoted_arms(line)) for line in typed]
    with loader() as found:
        composer = Composer(found)
        chosen = settings(composer.sweep(lines))
        return read_cells(composer.parser, study or {}, lines, chosen)


def described(found: Sequence[Cell]) -> list[tuple[str, dict[str, str]]]:
    return [(" ".join(cell.lines), dict(cell.chosen_from)) for cell in found]


CONTESTS = ["boosting", "linear", "losses", "map", "map_networks", "tabm"]


@pytest.mark.parametrize("study", CONTESTS)
def test_a_study_of_any_table_splits_it_by_the_columns_that_are_given(study: str) -> None:
    with loader() as found:
        cfg, _ = Composer(found).job(
            [f"experiments={study}", "dataset=file", "dataset.path=x.csv", "dataset.target=y"]
        )
    assert cfg.dataset.split == "auto"  # by group or by time, where one is named


def test_these_are_all_studies_of_any_table() -> None:
    texts = {path.stem: path.read_text("utf-8") for path in FOLDER.glob("*.yaml")}
    asked = [name for name, text in texts.items() if f"experiments={name} dataset=file" in text]
    assert sorted(asked) == CONTESTS


@given(st.integers(1, 70), st.integers(0, 9))
def test_points_fall_one_into_each_part_for_every_power_of_two(count: int, draw: int) -> None:
    found = stratified(count, np.random.default_rng(draw))
    assert len(found) == count
    for power in range(count.bit_length()):
        parts = 2**power
        assert sorted((found[:parts] * parts).astype(int)) == list(range(parts))


def test_arms_try_the_same_values_of_a_key_and_more_trials_begin_with_those_of_fewer() -> None:
    rate, gamma = Numbers("lr", 0.001, 0.1, log=True), Numbers("gamma", 0.5, 4.0)
    one, both = points([rate], 8, 7, ["split=0"]), points([gamma, rate], 8, 7, ["split=0"])
    assert [point["lr"] for point in one] == [point["lr"] for point in both]
    assert points([rate], 16, 7, ["split=0"])[:8] == one
    for other in (points([rate], 8, 7, ["split=1"]), points([rate], 8, 8, ["split=0"])):
        assert not {point["lr"] for point in other} & {point["lr"] for point in one}
    logs = np.log10([point["lr"] for point in one])
    assert np.histogram(logs, np.linspace(-3, -1, 9))[0].tolist() == [1] * 8
    assert len(points([Choice("kind", ("a", "b"))], 8, 7, [])) == 2


@given(st.floats(0, 1, exclude_max=True), st.booleans())
def test_a_value_lies_in_its_space(share: float, log: bool) -> None:
    assert Choice("x", ("a", "b", "c")).at(share) == "abc"[int(share * 3)]
    assert 1 <= Numbers("x", 1, 40, log=log).at(share) <= 40
    assert 0.5 <= Numbers("x", 0.5, 2.0, log=log).at(share) <= 2.0 * (1 + 1e-12)
    assert Numbers("x", 3, 9, step=2).at(share) in {3, 5, 7, 9}
    assert Numbers("x", 0.0, 0.3, step=0.1).at(share) in {0.0, 0.1, 0.2, 0.3}


def test_whole_numbers_on_a_logarithmic_scale_are_tried_as_often_as_their_width() -> None:
    space = Numbers("x", 1, 8, log=True)
    found = np.bincount([space.at((k + 0.5) / 10_000) for k in range(10_000)])[1:]
    edges = np.log(np.arange(0.5, 9))
    assert found / 10_000 == pytest.approx(np.diff(edges) / (edges[-1] - edges[0]), abs=2e-4)


def test_each_arm_is_searched_on_each_split_and_trained_with_every_seed() -> None:
    found = cells(
        "sweep.arms=[[loss=bce],[loss=sigmoid_focal,loss.gamma=interval(0.5,4)]]",
        *(SPACE, "dataset=creditcard", "dataset.split_seed=range(2)", "seed=range(3)"),
    )
    rate = {"optimizer.lr": "tag(log,interval(0.001,0.1))"}
    focal = rate | {"loss.gamma": "interval(0.5,4)"}
    where = ["dataset=creditcard dataset.split_seed=0", "dataset=creditcard dataset.split_seed=1"]
    assert described(found) == [
        *((f"loss=bce {split}", rate) for split in where),
        *((f"loss=sigmoid_focal {split}", focal) for split in where),
    ]
    assert {cell.seeds for cell in found} == {("seed=0", "seed=1", "seed=2")}
    assert found[0].data == ("dataset=creditcard", "dataset.split_seed=0")
    assert found[0].arm == found[1].arm != found[2].arm


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["optimizer.lr=0.01"], {"loss.gamma": "1,2"}),  # what is typed is not searched
        (["loss.gamma=2"], {"optimizer.lr": "tag(log,interval(0.001,0.1))"}),
        ([], {"optimizer.lr": "tag(log,interval(0.001,0.1))", "loss.gamma": "1,2"}),
        (["sweep.search.space={optimizer.lr:null}"], {"loss.gamma": "1,2"}),
        (
            ["sweep.arms=[[loss=sigmoid_focal,optimizer.lr=0.02,loss.gamma=choice(3,4)]]"],
            {"loss.gamma": "choice(3,4)"},
        ),
    ],
)
def test_the_nearer_space_counts(typed: list[str], expected: dict[str, str]) -> None:
    with loader() as found:
        composer = Composer(found)
        lines = [quoted_space(quoted_arms(line)) for line in typed]
        cfg = composer.sweep(lines)
        of_some = {"loss=sigmoid_focal": {"loss.gamma": "1,2"}}
        common = {"optimizer.lr": "tag(log,interval(0.001,0.1))"}
        cfg.sweep.search.space = common | of_some | dict(cfg.sweep.search.space or {})
        cfg.sweep.arms = cfg.sweep.arms or [["loss=sigmoid_focal", "loss.gamma=7"]]
        (cell,) = read_cells(composer.parser, {}, lines, settings(cfg))
    assert cell.chosen_from == expected


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        (["sweep.search.space={optimizer.lr:0.1}"], "optimizer.lr=0.1: expected what to choose"),
        (["sweep.search.space={seed:1,2}"], "the seed of the trials is sweep.search.seed"),
        (["sweep.search.space={optimizer.lr:interval(2,1)}"], "expected the lower end first"),
        ([], "sweep.search.space: a contest needs something to choose"),
        (["sweep.search.trials=0", SPACE], "sweep.search.trials=0: expected 1 or more"),
        (["sweep.search.seed=x", SPACE], "sweep.search.seed=x: expected a whole number"),
    ],
)
def test_a_contest_that_cannot_be_is_refused_in_one_line(typed: list[str], answer: str) -> None:
    with pytest.raises(RequestError) as caught:
        cells(*typed, "loss=bce,smooth_ap")
    assert answer in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_setting_or_an_arm_that_does_not_exist_is_named() -> None:
    with pytest.raises(RequestError, match=r"sweep\.search\.trails: no such setting.*trials"):
        Search.of({"trails": 3})
    with loader() as found:
        composer = Composer(found)
        cfg = composer.sweep(["sweep.arms=[['loss=bce'],['loss=smooth_ap']]"])
        cfg.sweep.search.space = {"loss=smoth_ap": {"schedule.temp_end": "0.1,0.2"}}
        with pytest.raises(RequestError, match=r"loss=smoth_ap: no arm has.*'loss=smooth_ap'"):
            read_cells(composer.parser, {}, [], settings(cfg))


def test_the_command_lines_space_needs_no_quotes() -> None:
    typed = "sweep.search.space={a.b: tag(log,interval(1,2)), c: x,y ,d:null,e:'1,2'}"
    assert quoted_space(typed) == (
        '++sweep.search.space={a.b:"tag(log,interval(1,2))",c:"x,y",d:null,e:\'1,2\'}'
    )
    for line in ("sweep.search.space=null", "loss=bce"):
        assert quoted_space(line) == line


def test_the_runs_of_an_arm_are_equal_apart_from_what_was_chosen() -> None:
    chosen_from = {"optimizer.lr": "interval(0,1)", "optimizer": "adam,sgd", "optimizer.m": None}
    tags = {TAG: json.dumps(chosen_from)}
    one = {"loss": "bce", "optimizer": "adam", "optimizer.lr": "0.1"}
    other = {"loss": "bce", "optimizer": "sgd", "optimizer.lr": "0.7", "optimizer.m": "0.9"}
    assert (
        as_arm(one, searched(tags))
        == as_arm(other, searched(tags))
        == {"loss": "bce", "optimizer": "adam,sgd", "optimizer.lr": "interval(0,1)"}
    )
    assert as_arm(one, searched({})) == one
    assert searched({TAG: "{nonsense"}) == {}
    told = choices([one, other, one], chosen_from)
    assert told == {"optimizer.lr": ["0.1", "0.7"], "optimizer": ["adam", "sgd"]}


def test_a_table_is_tried_at_the_same_points_wherever_it_lies() -> None:
    def tried(path: str) -> list[tuple[str, ...]]:
        (cell,) = cells("dataset=file", f"dataset.path={path}", "dataset.target=y", SPACE)
        return _tried(cell, 3, 7)

    assert tried("x.csv") == tried("/a/x.csv") == tried("/b c/x.csv") != tried("y.csv")


def test_arms_that_chose_the_same_values_are_trained_apart(tmp_path: Path) -> None:
    typed = ["sweep.arms=[[loss=sigmoid_focal],[loss=sigmoid_focal,loss.gamma=choice(2,3)]]"]
    typed += ["dataset=toy", "dataset.pos_rate=0.1,0.2", "seed=range(2)", "sweep.search.trials=2"]
    lines = [quoted_space(quoted_arms(line)) for line in typed]
    with loader() as found:
        composer = Composer(found)
        chosen = settings(composer.sweep(lines))
        planner = Planner(composer, str(tmp_path), "contest")
        plan = plan_contest(planner, read_cells(composer.parser, {}, lines, chosen), chosen.contest)
        preferred = {0.1: 2.0, 0.2: 3.0}  # gamma by rate of positives; the default is 2
        results = {
            job.number: Result(job.number, "done", metrics={"best/val_aucpr": float(score)})
            for job in plan.trials
            for data in [job.config["dataset"]]
            for score in [job.config["loss"]["gamma"] == preferred[data["pos_rate"]]]
        }
        runs = plan.chosen(planner, results)
    gammas = [(run.config["dataset"]["pos_rate"], run.config["loss"]["gamma"]) for run in runs]
    assert sorted(gammas) == sorted([(0.1, 2.0), (0.2, 2.0), (0.1, 2.0), (0.2, 3.0)] * 2)
    assert [run.number for run in runs] == list(range(len(plan.trials), len(plan.trials) + 8))

"""A search: its space in Hydra's syntax, and a study that samples, prunes and resumes."""

import math
import pickle
import shlex
from pathlib import Path

import pandas as pd
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from rarelab.errors import Pruned, RequestError
from rarelab.search.method import Asked, Method, StudyAddress, Told, ask, tell, unfinished
from rarelab.search.picture import draw
from rarelab.search.prune import PruneReport
from rarelab.search.space import Choice, Numbers, Space, read_space
from rarelab.search.trials import best, command, importance, trials, write_trials


def space(*overrides: str) -> Space:
    return read_space(OverridesParser.create().parse_overrides(list(overrides)))


@pytest.mark.parametrize(
    ("override", "dimension"),
    [
        ("loss=bce,smooth_ap", Choice("loss", ("bce", "smooth_ap"))),
        ("loss=choice(bce,smooth_ap)", Choice("loss", ("bce", "smooth_ap"))),
        ("+a.b='x y',null,3", Choice("+a.b", ("'x y'", "null", "3"))),
        ("n=range(1,5)", Numbers("n", 1, 4, step=1)),
        ("n=range(9,1,-2)", Numbers("n", 3, 9, step=2)),
        ("x=range(0,1,0.25)", Numbers("x", 0.0, 0.75, step=0.25)),
        ("n=tag(log,range(1,101))", Numbers("n", 1, 100, log=True)),
        ("x=interval(0,1)", Numbers("x", 0.0, 1.0)),
        ("n=int(interval(1,5))", Numbers("n", 1, 5)),
        ("x=tag(log,interval(1e-4,1e-1))", Numbers("x", 1e-4, 1e-1, log=True)),
        ("n=tag(log,int(interval(1,64)))", Numbers("n", 1, 64, log=True)),
    ],
)
def test_a_dimension_is_read_from_hydras_syntax(override: str, dimension: Choice | Numbers) -> None:
    read = space(override, "dataset=toy", "seed=0,1,1,2")  # a repeated seed is one run
    assert read == Space((dimension,), ("0", "1", "2"), ("dataset=toy",))
    assert dimension.key in read.distributions()


@pytest.mark.parametrize(
    ("override", "answer"),
    [
        ("seed=range(3)", "a search needs something to choose"),
        ("seed=interval(0,1)", "seed takes a list"),
        ("x=tag(other,interval(0,1))", "may carry the tag log"),
        ("x=tag(log,choice(1,2))", "may carry the tag log"),
        ("x=tag(log,interval(0,1))", "x=tag(log,interval(0,1)): "),
        ("x=interval(2,1)", "x=interval(2,1): "),
        ("x=range(3,3)", "the range is empty"),
    ],
)
def test_an_invalid_search_space_is_refused_in_one_line(override: str, answer: str) -> None:
    with pytest.raises(RequestError) as caught:
        space(override)
    assert answer in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_choice_and_both_ends_of_every_range_are_among_the_corners() -> None:
    corners = space("loss=a,b,c", "x=interval(0,1)", "n=range(1,5)").corners()
    seen = {override for corner in corners for override in corner}
    assert seen == {"loss=a", "loss=b", "loss=c", "x=0.0", "x=1.0", "n=1", "n=4"}
    assert len(corners) == 5
    assert all(len(corner) == 3 for corner in corners)


def test_the_text_of_a_value_is_short_in_range_and_parses_back() -> None:
    read = space("x=tag(log,interval(1e-7,0.123456))", "n=range(1,5)", "y=range(0,1,0.125)")
    texts = read.overrides({"x": 1.2345678901234567e-05, "n": 3, "y": 0.375})
    assert texts == ["x=1.235e-05", "n=3", "y=0.375"]
    again = OverridesParser.create().parse_overrides(texts)
    assert [override.value() for override in again] == [1.235e-05, 3, 0.375]
    assert read.dimensions[0].override(0.12345599) == "x=0.123456"


def address(folder: Path, **method: object) -> StudyAddress:
    return StudyAddress(str(folder / "study.journal"), "study", Method(**method))  # type: ignore[arg-type]


SPACE = space("x=interval(0,1)", "kind=a,b")


def bowl(asked: Asked) -> Told:
    value = -((asked.values["x"] - 0.3) ** 2) + (0.1 if asked.values["kind"] == "b" else 0.0)
    return Told(asked.number, "done", value)


def searched(at: StudyAddress, trials: int) -> list[dict]:
    for _ in range(trials):
        study = at.open()
        tell(study, bowl(ask(study, at.method, SPACE)))
    return [trial.params for trial in at.open().get_trials()]


def test_a_stopped_search_resumes_as_if_uninterrupted(tmp_path: Path) -> None:
    whole = searched(address(tmp_path / "a", startup_trials=3), 8)
    searched(address(tmp_path / "b", startup_trials=3), 3)
    stopped = address(tmp_path / "b", startup_trials=3)
    asked = ask(stopped.open(), stopped.method, SPACE)  # then the process dies
    assert unfinished(stopped.open()) == [asked]
    tell(stopped.open(), bowl(asked))
    assert searched(stopped, 4) == whole
    assert unfinished(stopped.open()) == []


def test_the_sampler_finds_better_values(tmp_path: Path) -> None:
    at = address(tmp_path, startup_trials=5)
    searched(at, 25)
    best = at.open().best_trial
    assert best.params["kind"] == "b"
    assert abs(best.params["x"] - 0.3) < 0.1


@pytest.mark.parametrize(
    ("told", "state"),
    [
        (Told(0, "done", 0.5), "COMPLETE"),
        (Told(0, "done", math.nan), "FAIL"),
        (Told(0, "done", math.inf), "FAIL"),
        (Told(0, "failed"), "FAIL"),
        (Told(0, "pruned"), "PRUNED"),
    ],
)
def test_only_a_finite_value_completes_a_trial(tmp_path: Path, told: Told, state: str) -> None:
    study = address(tmp_path).open()
    ask(study, Method(), SPACE)
    tell(study, told)
    assert [trial.state.name for trial in study.get_trials()] == [state]


def row(epoch: int, value: float) -> dict:
    return {"step": epoch, "time": 0, "metrics": {"val/aucpr": value, "train/loss": 1.0}}


def test_a_run_below_the_median_is_pruned_after_its_warmup(tmp_path: Path) -> None:
    at = address(tmp_path, startup_trials=2, pruner_warmup=2)
    for value in (0.5, 0.6):
        asked = ask(at.open(), at.method, SPACE)
        report = PruneReport(at, asked.number)
        for epoch in range(4):
            report(row(epoch, value + epoch / 100))
        tell(at.open(), Told(asked.number, "done", value))
    asked = ask(at.open(), at.method, SPACE)
    report = pickle.loads(pickle.dumps(PruneReport(at, asked.number)))
    report(row(0, 0.1))
    report(row(1, 0.1))
    report({"step": 1, "time": 0, "metrics": {"best/epoch": 1.0}})
    with pytest.raises(Pruned, match="after epoch 3"):
        report(row(2, 0.1))


def test_a_resumed_run_may_report_an_epoch_again(tmp_path: Path) -> None:
    at = address(tmp_path)
    asked = ask(at.open(), at.method, SPACE)
    PruneReport(at, asked.number)(row(0, 0.4))
    PruneReport(at, asked.number)(row(0, 0.9))
    assert at.open().get_trials()[0].intermediate_values == {0: 0.4}


def test_losing_the_study_does_not_stop_a_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    report = PruneReport(address(tmp_path / "nowhere"), 3)
    report(row(0, 0.4))
    report(row(1, 0.4))
    assert len(caplog.records) == 1
    assert "this run is not pruned" in caplog.text


def test_an_unreachable_storage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"hydra\.sweeper\.storage"):
        StudyAddress("postgresql+psycopg://x@127.0.0.1:9/none", "study", Method()).open()


def test_the_result_is_a_table_a_command_and_a_figure(tmp_path: Path) -> None:
    at = address(tmp_path, startup_trials=3)
    searched(at, 5)
    study = at.open()
    for status in ("pruned", "failed"):
        asked = ask(study, at.method, SPACE)
        PruneReport(at, asked.number)(row(0, 0.01))
        tell(study, Told(asked.number, status))  # type: ignore[arg-type]
    rows = trials(study, SPACE)
    assert [found.status for found in rows] == ["done"] * 5 + ["pruned", "failed"]
    assert rows[5].value == 0.01
    assert rows[6].value is None
    top = best(rows)
    assert top is not None
    assert top.value == max(found.value for found in rows[:5] if found.value is not None)
    again = command(Space(SPACE.dimensions, ("0", "1"), ("dataset=toy", "+a='b c'")), top)
    assert shlex.split(again)[2:] == ["dataset=toy", "+a='b c'", *top.overrides]
    shares = importance(study)
    assert set(shares) == {"x", "kind"}
    assert sum(shares.values()) == pytest.approx(1)
    write_trials(tmp_path / "trials.csv", rows)
    table = pd.read_csv(tmp_path / "trials.csv")
    assert list(table.columns) == ["trial", "status", "value", "x", "kind"]
    assert table["x"].notna().all()
    draw(rows, shares, tmp_path / "figures" / "search.png")
    draw([], {}, tmp_path / "figures" / "empty.png")
    assert (tmp_path / "figures" / "search.png").stat().st_size > 10_000


def test_importance_from_too_few_trials_is_none(tmp_path: Path) -> None:
    at = address(tmp_path)
    searched(at, 3)
    assert importance(at.open()) == {}

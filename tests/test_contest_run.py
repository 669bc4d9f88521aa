"""Whole contests: with a launcher in this process, with the local one, and killed."""

import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest

import rarelab as package
from rarelab.compare.command import text
from rarelab.compare.study import Options, study
from rarelab.config.compose_many import Composer, loader
from rarelab.errors import RequestError
from rarelab.records.load import Records
from rarelab.records.searched import TAG
from rarelab.search.contest import Contest
from rarelab.sweep.conduct import Sweep
from rarelab.sweep.job import Job, Result
from rarelab.sweep.launcher import JobLauncher, Report
from rarelab.sweep.overrides import quoted_arms, quoted_space
from rarelab.sweep.work import run_job
from recorded import record

SMALL = (
    *("model=linear", "schedule=constant", "dataset.n_samples=400", "dataset.pos_rate=0.2,0.3"),
    *("trainer.max_epochs=1", "tracking.figures=false"),
)
ARMS = "sweep.arms=[[loss=bce],[loss=sigmoid_focal,loss.gamma=interval(0.5,4)]]"
SPACE = "sweep.search.space={optimizer.lr:tag(log,interval(0.001,0.1))}"
CONTEST = (*SMALL, ARMS, SPACE, "sweep.search.trials=2")


class InThisProcess(JobLauncher):
    """Runs the jobs in order with ``run``, after calling ``before``, which may raise, with each."""

    def __init__(
        self,
        run: Callable[[Job], Result],
        before: Callable[[Job], None] = lambda job: None,
    ) -> None:
        self.run, self.before, self.jobs = run, before, list[Job]()

    def run_jobs(self, jobs: Sequence[Job], report: Report) -> list[Result]:
        results = []
        for job in jobs:
            self.jobs.append(job)
            self.before(job)
            results.append(self.run(job))
            if not report(results[-1]):
                break
        return results


def contest(launcher: JobLauncher, *typed: str) -> list[Result]:
    lines = [quoted_space(quoted_arms(line)) for line in typed]
    with loader() as found:
        cfg = Composer(found).sweep(lines)
        launcher.config = cfg
        return Contest(Sweep(cfg, found, launcher), {}, lines).run()


def pretend(job: Job) -> Result:
    """A made-up result: best at a rate of 0.02; a gamma above 3 diverges."""
    rate = job.config["optimizer"]["lr"]
    if job.config["loss"].get("gamma", 0) > 3:
        return Result(job.number, "diverged", error="Diverged", reason="the loss is nan")
    value = 1 / (1 + abs(math.log(rate / 0.02)))
    return Result(job.number, "done", metrics={"best/val_aucpr": value, "test/aucpr": value / 2})


def folder(home: Path) -> Path:
    (found,) = (home / "runs" / "rarelab_contest").glob("sweep-*")
    return found


def tables(home: Path) -> dict[str, bytes]:
    return {
        name: (folder(home) / f"{name}.csv").read_bytes() for name in ("trials", "chosen", "table")
    }


def test_each_arm_is_trained_with_its_best_trial_of_each_split(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    launcher = InThisProcess(pretend)
    arms = ARMS.replace("gamma=interval(0.5,4)", "gamma=tag(log,interval(0.1,9))")
    request = (*SMALL, arms, SPACE, "sweep.search.trials=6", "seed=0,1", "tracking=none")
    results = contest(launcher, *request[:-1], "tracking=none")
    trials = pd.read_csv(folder(home) / "trials.csv")
    chosen = pd.read_csv(folder(home) / "chosen.csv")
    assert len(trials) == 24 and set(trials["status"]) == {"done", "failed"}
    assert (trials["status"].eq("failed") == trials["loss.gamma"].gt(3)).all()
    keys = ["arm", "dataset.pos_rate"]
    best = trials.loc[trials.groupby(keys)["value"].idxmax()].reset_index(drop=True)
    pd.testing.assert_frame_equal(best, chosen)
    rates = trials.pivot(index="trial", columns=keys, values="optimizer.lr")
    assert (rates["loss=bce"] == rates["loss=sigmoid_focal"]).all().all()  # a fair contest
    searching, trained = launcher.jobs[:24], launcher.jobs[24:]
    assert {job.config["seed"] for job in searching} == {1000}
    assert {job.tags["rarelab.kind"] for job in searching} == {"trial"}
    expected = [
        (row.arm.removeprefix("loss="), row["dataset.pos_rate"], row["optimizer.lr"], seed)
        for _, row in chosen.iterrows()
        for seed in (0, 1)
    ]
    found = [
        (job.choices["loss"], c["dataset"]["pos_rate"], c["optimizer"]["lr"], c["seed"])
        for job in trained
        for c in [job.config]
    ]
    assert found == expected
    assert len(results) == 32
    rows = pd.read_csv(folder(home) / "table.csv")
    assert list(rows["arm"]) == [
        f"{arm} pos_rate={rate}"
        for arm, rate, _, s in [(f"loss={loss}", rate, lr, s) for loss, rate, lr, s in expected]
        if s == 0
    ]
    assert (rows["n"] == 2).all()
    said = capsys.readouterr().out
    assert "2 arms on 2 splits: 6 trials each with seed 1000" in said
    assert "then 8 runs with what was chosen, seed=0 seed=1" in said
    assert "8 to follow, about" in said
    assert "chosen by validation AUCPR, best of 6 trials:" in said


def test_a_split_whose_trials_all_fail_trains_nothing_and_says_so(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(job: Job) -> Result:
        if job.choices["loss"] == "bce" and job.config["dataset"]["pos_rate"] == 0.3:
            return Result(job.number, "error", error="ZeroDivisionError", reason="no")
        return pretend(job)

    launcher = InThisProcess(fail)
    contest(launcher, *SMALL, "loss=bce,smooth_ap", SPACE, "sweep.search.trials=3", "tracking=none")
    assert len(launcher.jobs) == 12 + 3
    said = capsys.readouterr().out
    assert "loss=bce on dataset.pos_rate=0.3: every trial failed" in said
    assert "6 jobs: 3 ok, 3 failed, 0 skipped" in said
    assert len(pd.read_csv(folder(home) / "chosen.csv")) == 3


def test_after_the_first_failure_nothing_starts_if_so_asked(home: Path) -> None:
    launcher = InThisProcess(lambda job: Result(job.number, "error", error="E", reason="no"))
    contest(launcher, *CONTEST, "tracking=none", "sweep.on_error=stop")
    assert len(launcher.jobs) == 1
    assert set(pd.read_csv(folder(home) / "trials.csv")["status"]) == {"failed", "waiting"}
    assert not (folder(home) / "chosen.csv").exists()


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        (["seed=999,1000"], "sweep.search.seed=1000: expected none of the study's seeds"),
        (["seed=x"], "seed=x: expected a whole number"),
        (["sweep.search.space={optimizer.rl:interval(0,1)}"], "did you mean 'optimizer.lr'"),
        (["sweep.search.space={trainer.select_by:val/aucpr,val/recall_at_q/0.02}"], "cannot be"),
        (["sweep.search.space={optimizer:adam,adamm}"], "did you mean 'adam'"),
    ],
)
def test_an_impossible_contest_is_refused_before_its_first_job(
    home: Path, typed: list[str], answer: str
) -> None:
    launcher = InThisProcess(pretend)
    with pytest.raises(RequestError) as caught:
        contest(launcher, *CONTEST, *typed)
    assert answer in str(caught.value) and "\n" not in str(caught.value)
    assert launcher.jobs == [] and not home.exists()


def documented() -> tuple[list[str], list[list[str]]]:
    """The small contest of docs/search.md, and the cells of the table that it prints there."""
    page = (Path(__file__).parent.parent / "docs" / "search.md").read_text(encoding="utf-8")
    found = re.search(
        r"```console\n(rarelab train -m model=linear.*)\n```\n\n```text\n(.*?)```", page, re.DOTALL
    )
    assert found is not None
    return shlex.split(found[1])[2:], [line.split() for line in found[2].splitlines()]


@pytest.mark.slow
def test_the_documented_contest_chooses_as_stated_and_is_compared_as_arms(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    request, stated = documented()
    outcomes = package.train([*request, "sweep.n_jobs=2"])
    assert [outcome.status for outcome in outcomes] == ["done"] * 12
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    place = said.index(stated[0])
    block = said[place : place + len(stated)]
    assert block[:2] == stated[:2]
    column = stated[1].index("value")
    for line, expected in zip(block[2:], stated[2:], strict=True):
        assert float(line.pop(column)) == pytest.approx(float(expected.pop(column)), abs=0.01)
        assert line == expected
    assert len(package.train(request)) == 12
    assert "nothing to run\n\nchosen by validation AUCPR" in capsys.readouterr().out

    found = study(Records(home), Options(experiment="rarelab_contest", baseline="bce"))
    assert [len(data.arms) for data in found.data_sets] == [2, 2]
    arms = [arm for data in found.data_sets for arm in data.arms]
    assert {arm.label for arm in arms} == {"loss=bce", "loss=sigmoid_focal"}
    assert {len(arm.runs) for arm in arms} == {1}
    chosen = pd.read_csv(folder(home) / "chosen.csv")
    rate = chosen["optimizer.lr"][0]
    told = f"note: loss=bce: chosen by a search of 2 trials on each split: optimizer.lr {rate}"
    assert told in text(found)
    assert len(json.loads((folder(home) / "arms.json").read_text())) == 4

    # The same configuration as a plain run is another job.
    plain = [line for line in request if not line.startswith(("sweep.", "dataset.pos_rate="))]
    first = ["loss=bce", f"dataset.pos_rate={chosen['dataset.pos_rate'][0]}"]
    first += [f"optimizer.lr={rate}", "tracking.experiment=rarelab_contest"]
    package.train([*plain, *first, "sweep.dry_run=true"])
    assert "1 jobs, 0 done, 1 to run" in capsys.readouterr().out

    # On one of the splits alone, and interrupted twice, it chooses and trains the same.
    def interrupt(job: Job) -> None:
        if len(launcher.jobs) == 3:
            raise KeyboardInterrupt

    other = home.with_name(f"{home.name}-other")
    monkeypatch.setenv("RARELAB_HOME", str(other))
    alone = [line for line in request[1:] if not line.startswith("dataset.pos_rate=")]
    alone += [first[1]]
    for _ in range(2):
        launcher = InThisProcess(run_job, interrupt)
        with pytest.raises(KeyboardInterrupt):
            contest(launcher, *alone)
    contest(InThisProcess(run_job), *alone)
    again = pd.read_csv(folder(other) / "chosen.csv")
    expected = chosen[chosen["dataset.pos_rate"] == chosen["dataset.pos_rate"][0]]
    pd.testing.assert_frame_equal(
        again, expected[again.columns].reset_index(drop=True), check_exact=True
    )
    whole, part = (pd.read_csv(folder(at) / "table.csv").set_index("arm") for at in (home, other))
    for arm in part.index:
        both = part.loc[arm], whole.loc[f"{arm} {first[1].removeprefix('dataset.')}"]
        pd.testing.assert_series_equal(*both, check_exact=True, check_names=False)


def test_runs_with_values_chosen_on_each_split_are_one_arm(home: Path) -> None:
    space = {"optimizer.lr": "interval(0,1)", "search.trials": "8"}
    tags = {TAG: json.dumps(space)}
    for split in range(3):
        data = {"dataset": "x", "dataset.split_seed": str(split)}
        for loss in ("bce", "smooth_ap"):
            arm = {"loss": loss, "optimizer.lr": f"0.{split + 1}"}
            record(home, arm, 0, {"test/aucpr": 0.5 + split / 10}, data=data, tags=tags)
        record(
            home,
            {"loss": "bce"},
            1000,
            {"test/aucpr": 0.9},
            data=data,
            tags={"rarelab.kind": "trial"},
        )
    found = study(Records(home), Options(experiment="study", baseline="bce"))
    (data_set,) = found.data_sets
    assert [(arm.label, len(arm.runs)) for arm in data_set.arms] == [
        ("loss=bce", 3),
        ("loss=smooth_ap", 3),
    ]
    assert "8 trials on each split: optimizer.lr 0.1 | 0.2 | 0.3" in " ".join(data_set.notes)
    record(home, {"loss": "bce", "optimizer.lr": "0.1"}, 0, {"test/aucpr": 0.5}, data=data)
    with pytest.raises(RequestError, match="2 arms match"):
        study(Records(home), Options(experiment="study", baseline="bce"))


THREE = (
    "sweep.arms=[[loss=bce],[loss=weighted_bce,loss.pos_weight=tag(log,interval(1.5,20))],"
    "[loss=smooth_ap,schedule.warmup_epochs=1,schedule.blend_epochs=0,"
    "schedule.temp_end=tag(log,interval(0.02,0.5))]]"
)


@pytest.mark.slow
def test_a_contest_killed_twice_ends_with_the_table_of_an_undisturbed_one(home: Path) -> None:
    """Three arms x three splits x four trials x two seeds; the splits are three rates."""
    request = [
        *("-m", "model=linear", "dataset.n_samples=400", "dataset.pos_rate=0.1,0.2,0.3"),
        *("debug=fast", "seed=0,1", "sweep.n_jobs=2", "sweep.search.trials=4", SPACE, THREE),
        "tracking=none",
    ]
    command = [sys.executable, "-m", "rarelab", "train", *request]
    other = home.with_name(f"{home.name}-killed")
    environment = os.environ | {"RARELAB_HOME": str(other)}
    for ended in (7, 41):  # while it searches, and while it trains
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
        )
        while len(list(other.glob("runs/*/toy-*/status.json"))) < ended:
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for where in (other, home):
        subprocess.run(
            command, env=os.environ | {"RARELAB_HOME": str(where)}, check=True, capture_output=True
        )
    assert tables(other) == tables(home)
    assert len(pd.read_csv(folder(home) / "chosen.csv")) == 9
    assert len(pd.read_csv(folder(home) / "trials.csv")) == 36
    assert (pd.read_csv(folder(home) / "table.csv")["n"] == 2).all()

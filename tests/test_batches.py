"""Sweeps with ``sweep.batch=auto``: which jobs train as one, and records as if each were alone."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import rarelab as package
from rarelab.config.compose_many import Composer, loader
from rarelab.config.signature import signature
from rarelab.runs.reproduce import reproduce
from rarelab.sweep.batches import apart, batches_line, gathered, own_values
from rarelab.sweep.job import Job, Result
from rarelab.sweep.overrides import expand, quoted_arms
from rarelab.sweep.plan import Planner
from rarelab.sweep.settings import settings
from rarelab.tracking.entry import load_entry
from test_sweep_run import FRAGILE, bits, project, runs, statuses, training, wait_for  # noqa: F401

AUTO = "sweep.batch=auto"
SMALL = [
    *("dataset=toy", "dataset.n_samples=1200", "dataset.pos_rate=0.05", "trainer.max_epochs=3"),
    *("trainer.batch_size=256", "schedule.warmup_epochs=1", "schedule.blend_epochs=0"),
    *("tracking=none", "tracking.figures=false"),
]


def plan(*arguments: str) -> list[Job]:
    typed = [quoted_arms(argument) for argument in arguments]
    with loader() as found:
        composer = Composer(found)
        base = composer.sweep(typed)
        lines = expand(composer.parser, {}, typed, settings(base))
        return Planner(composer, "/records", "rarelab", settings(base).batch).jobs(lines)


def test_jobs_that_differ_only_in_the_seed_are_one_batch() -> None:
    jobs = plan("loss=bce,smooth_ap", "seed=range(3)", AUTO)
    assert {job.batch for job in map(_frozen, jobs)} == {'[{"seed": 0}, {"seed": 1}, {"seed": 2}]'}
    sent = gathered(jobs)
    assert [(job.number, [c.number for c in job.companions]) for job in sent] == [
        (0, [1, 2]),
        (3, [4, 5]),
    ]
    assert [own_values(job) for job in jobs] == [{"seed": seed} for seed in (0, 1, 2)] * 2
    assert batches_line(jobs) == "  sweep.batch=auto: 6 jobs in batches (2 of 3)"
    assert pickle.loads(pickle.dumps(sent[0])) == sent[0]
    assert [j.companions for j in gathered(plan("loss=bce", "seed=range(3)"))] == [()] * 3


def _frozen(job: Job) -> Job:
    from dataclasses import replace

    return replace(job, batch=json.dumps(job.batch))  # type: ignore[arg-type]


def test_the_request_alone_decides_the_company_of_a_job() -> None:
    """Of a batch, those that are missing run together and know all of it."""
    jobs = plan("loss=bce", "seed=range(4)", AUTO)
    (sent,) = gathered(jobs[2:])
    assert len(sent.batch) == 4 and [c.number for c in sent.companions] == [3]


def test_a_batch_is_part_of_the_identity_and_its_company_is_not() -> None:
    together, alone = plan("loss=bce", "seed=0,1", AUTO), plan("loss=bce", "seed=0,1")
    assert {job.signature for job in together}.isdisjoint(job.signature for job in alone)
    assert {job.code for job in together}.isdisjoint(job.code for job in alone)
    assert alone[0].signature == signature(alone[0].config)
    (one,) = plan("loss=bce", "seed=1", AUTO)
    assert one.signature == together[1].signature and one.batch == ({"seed": 1},)


def test_large_batches_are_divided_evenly_and_numbers_may_differ_too() -> None:
    jobs = plan("loss=bce", "seed=range(20)", AUTO)
    assert [1 + len(job.companions) for job in gathered(jobs)] == [10, 10]
    jobs = plan("loss=smooth_ap", "seed=0,1", "optimizer.lr=0.001,0.01", AUTO)
    assert [1 + len(job.companions) for job in gathered(jobs)] == [4]
    assert own_values(jobs[1]) == {"seed": 0, "optimizer.lr": 0.01}
    jobs = plan("loss=smooth_ap", "seed=0,1", "trainer.batch_size=128,256", AUTO)
    assert [1 + len(job.companions) for job in gathered(jobs)] == [2, 2]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("model=hist_gradient_boosting", "HistGradientBoosting is not a network that can be"),
        ("model=lightgbm", "LightGBM is not a network that can be stacked"),
        ("model=tabular_resnet", "TabularResNet is not a network that can be stacked"),
        ("trainer.devices=2", "trainer.devices=2"),
        ("trainer.precision=bf16", "trainer.precision=bf16"),
        ("optimizer._target_=torch.optim.Adafactor", "Adafactor does not update every weight"),
    ],
)
def test_other_jobs_run_alone_and_the_plan_says_why(given: str, reason: str) -> None:
    changed = ["~optimizer.betas", "~optimizer.amsgrad", "~optimizer.fused"]
    changed += ["~optimizer.capturable", "~optimizer.differentiable", "~optimizer.eps"]
    changed += ["~optimizer.decoupled_weight_decay"]
    extra = changed if "Adafactor" in given else []
    jobs = plan(given, *extra, "loss=bce", "seed=0,1", AUTO)
    assert [job.companions for job in gathered(jobs)] == [(), ()]
    assert f"2 alone: {reason}" in batches_line(jobs)
    plain = plan(given, *extra, "loss=bce", "seed=0,1")
    assert [job.signature for job in jobs] == [job.signature for job in plain]


def test_the_fate_of_a_killed_process_is_that_of_its_whole_batch() -> None:
    (sent,) = gathered(plan("loss=bce", "seed=range(3)", AUTO))
    killed = Result(0, "killed", "id", "/folder", error="Killed", reason="out of memory")
    each = [*apart(sent, killed)]
    assert [(one.number, one.status, one.directory) for one in each] == [
        (0, "killed", "/folder"),
        (1, "killed", ""),
        (2, "killed", ""),
    ]
    assert all(one.may_be_retried for one in each)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    """The runs of one sweep, alone and in batches."""
    home = tmp_path_factory.mktemp("both")
    request = ["-m", *SMALL, "loss=bce,smooth_ap", "seed=range(3)", f"paths.home={home}"]
    return {"alone": package.train(request), "together": package.train([*request, AUTO])}


@pytest.mark.slow
def test_runs_are_recorded_as_if_each_had_run_alone(both: dict[str, list]) -> None:
    for one, other in zip(both["alone"], both["together"], strict=True):
        assert other.status == "done" and one.directory != other.directory
        assert other.metrics == pytest.approx(one.metrics, abs=0.02, nan_ok=True)
        files = [
            {p.relative_to(run.directory).as_posix() for p in Path(run.directory).rglob("*")}
            for run in (one, other)
        ]
        assert files[0] == files[1]
        logs = [(Path(run.directory) / "train.log").read_text() for run in (one, other)]
        assert logs[0].count(" epoch ") == logs[1].count(" epoch ")
        sizes = [(Path(run.directory) / "checkpoint.pt").stat().st_size for run in (one, other)]
        assert sizes[0] == pytest.approx(sizes[1], rel=0.05)
        entries = [load_entry(Path(run.directory)) for run in (one, other)]
        assert entries[0] and entries[1] and entries[0].params == entries[1].params
        assert json.loads(entries[1].tags["rarelab.batch"]) == [{"seed": s} for s in range(3)]


@pytest.mark.slow
def test_a_run_of_a_batch_predicts_and_is_reproduced_bit_for_bit(both: dict[str, list]) -> None:
    import pandas as pd

    run = both["together"][4]
    folder = Path(run.directory)
    kept = pd.read_parquet(folder / "predictions.parquet")
    scorer = package.load(str(folder))
    assert scorer is not None and len(kept)
    assert reproduce(folder.name, folder.parent.parent.parent) == 0
    assert reproduce(Path(both["alone"][4].directory).name, folder.parent.parent.parent) == 0


@pytest.mark.slow
def test_a_finished_batch_is_recognised_and_a_part_of_it_trained_in_its_company(
    home: Path,
) -> None:
    request = ["-m", *SMALL, "loss=smooth_ap", "seed=range(3)", AUTO]
    first = package.train(request)
    assert [run.directory for run in package.train(request)] == [run.directory for run in first]
    folder = Path(first[1].directory)
    folder.rename(folder.parent.parent.parent / "away")
    again = package.train(request)
    kept = [run.run_id == before.run_id for run, before in zip(again, first, strict=True)]
    assert kept == [True, False, True]
    assert bits(again[1].metrics) == bits(first[1].metrics)


@pytest.mark.slow
def test_a_run_that_diverges_is_one_failed_job_of_the_batch(home: Path) -> None:
    request = ["-m", *SMALL, "optimizer=sgd", "optimizer.lr=1e30,0.01", "loss=bce", "seed=0,1"]
    found = package.train([*request, AUTO, "sweep.retries=1"])
    assert sorted(run.status for run in found) == ["diverged", "diverged", "done", "done"]
    alone = package.train(request)
    assert [run.status for run in alone] == [run.status for run in found]


@pytest.mark.slow
def test_a_killed_batch_is_trained_again_and_ends_with_the_same_bits(
    project: Path,  # noqa: F811
    home: Path,
    rarelab: Callable,
) -> None:
    request = [*FRAGILE, "loss.naps=0.02", "trainer.max_epochs=4", "seed=1,2,3", AUTO]
    command = [sys.executable, "-m", "rarelab", "train", "-m", *request]
    process = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: len(training(home)) == 3, seconds=300)
    (pid,) = set(training(home))
    os.kill(pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1, output
    assert "3 jobs: 0 ok, 3 failed, 0 skipped" in output
    assert statuses(home) == ["interrupted"] * 3
    again = rarelab("train", "-m", *request, cwd=project)
    assert again.returncode == 0, again.stdout
    assert "3 jobs, 0 done, 3 to run" in again.stdout
    assert statuses(home) == ["done"] * 3
    metrics = [_last(run) for run in runs(home)]
    clean = rarelab("train", "-m", *request, "sweep.force=true", cwd=project)
    assert clean.returncode == 0
    fresh = [_last(run) for run in runs(home) if run.name.endswith("-1")]
    assert [bits(one) for one in metrics] == [bits(one) for one in fresh]


def _last(run: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    for line in (run / "history.jsonl").read_text().splitlines():
        found |= json.loads(line)["metrics"]
    return found


@pytest.mark.slow
def test_an_interrupted_batch_closes_every_record(project: Path, home: Path) -> None:  # noqa: F811
    request = [*FRAGILE, "loss.naps=0.05", "trainer.max_epochs=50", "seed=1,2", AUTO]
    command = [sys.executable, "-m", "rarelab", "train", "-m", *request]
    process = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: len(training(home)) == 2, seconds=300)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 143, output
    assert "0 ok, 2 failed, 0 skipped" in output
    assert statuses(home, "*") == ["interrupted"] * 3


@pytest.mark.slow
def test_a_batch_that_fails_gives_every_run_its_record(
    project: Path,  # noqa: F811
    home: Path,
    rarelab: Callable,
) -> None:
    request = [*FRAGILE, "loss.fails=true", "seed=1,2", AUTO, "sweep.retries=1"]
    done = rarelab("train", "-m", *request, cwd=project)
    assert done.returncode == 1
    assert "2 jobs: 0 ok, 2 failed, 0 skipped" in done.stdout
    assert done.stdout.count("will be tried again") == 2
    assert done.stdout.count("ZeroDivisionError: the fifth step is one too many\n") >= 4
    assert statuses(home) == ["error"] * 4

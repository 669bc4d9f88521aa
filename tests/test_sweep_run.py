"""Sweeps used as their users would: jobs that fail, get killed, were done before or are edited."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import rarelab as package
from rarelab.sweep.local import Slots
from rarelab.tracking.entry import load_entry, read_status

LOSS = '''
import time

from torch import nn
from torch.nn import functional


class Fragile(nn.Module):
    """BCE that may give up, or sleep, in the middle of training."""

    def __init__(self, fails: bool = False, naps: float = 0.0):
        super().__init__()
        self.fails, self.naps, self.steps = fails, naps, 0

    def forward(self, logits, targets):
        if len(logits) > 2:  # not when it is tried out
            self.steps += 1
            time.sleep(self.naps)
            if self.fails and self.steps == 5:
                raise ZeroDivisionError("the fifth step is one too many")
        return functional.binary_cross_entropy_with_logits(logits[:, 0], targets.float())
'''
SMALL = [
    "dataset.n_samples=1200",
    "dataset.pos_rate=0.05",
    "trainer.max_epochs=2",
    "trainer.batch_size=256",
    "trainer.select=any",
]
FRAGILE = [
    *("--config-dir", "conf", "allow_targets=[my_losses]"),
    *("loss=fragile", "schedule=constant"),
    *SMALL,
]
FOUR = [*FRAGILE, "loss.fails=true,false", "seed=1,2"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's folder with their own loss."""
    folder = tmp_path / "project"
    (folder / "conf" / "loss").mkdir(parents=True)
    (folder / "my_losses.py").write_text(LOSS, encoding="utf-8")
    leaf = "_target_: my_losses.Fragile\nfails: false\nnaps: 0.0\n"
    (folder / "conf" / "loss" / "fragile.yaml").write_text(leaf, encoding="utf-8")
    return folder


@pytest.fixture
def sweep(rarelab: Callable, project: Path) -> Callable:
    """Run ``rarelab train -m ARGUMENTS`` in the user's folder."""
    return lambda *arguments: rarelab("train", "-m", *arguments, cwd=project)


@pytest.fixture
def started(project: Path) -> Iterator[Callable]:
    """Start ``rarelab train -m ARGUMENTS`` and leave it running."""
    running = []

    def start(*arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "rarelab", "train", "-m", *arguments]
        process = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def runs(home: Path, pattern: str = "toy-*") -> list[Path]:
    return sorted((home / "runs" / "rarelab").glob(pattern))


def statuses(home: Path, pattern: str = "toy-*") -> list[str]:
    return sorted((read_status(run) or {"status": "none"})["status"] for run in runs(home, pattern))


def mlflow_runs(home: Path) -> list:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    experiment = client.get_experiment_by_name("rarelab")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


def training(home: Path) -> list[int]:
    """The process ids of the jobs that are currently training."""
    owners = [run / "owner.json" for run in runs(home) if (run / "history.jsonl").exists()]
    return [json.loads(o.read_text())["pid"] for o in owners if o.exists()]


UNGUARDED = """
import multiprocessing, pathlib
from rarelab.processes.fork import start

with open("ran", "a") as file:
    file.write("once ")
job = multiprocessing.get_context("forkserver").Process(target=pathlib.Path("done").touch)
start(job)
job.join()
"""


def test_a_script_without_a_guard_is_not_run_again_by_its_jobs(tmp_path: Path) -> None:
    (tmp_path / "study.py").write_text(UNGUARDED, encoding="utf-8")
    subprocess.run([sys.executable, "study.py"], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "done").exists()
    assert (tmp_path / "ran").read_text() == "once "


@pytest.mark.slow
def test_failing_jobs_neither_stop_others_nor_hide_their_errors(
    sweep: Callable, home: Path
) -> None:
    done = sweep(*FOUR, "sweep.n_jobs=2")
    assert done.returncode == 1, done.stderr
    assert done.stdout.count("ZeroDivisionError: the fifth step is one too many\n") >= 4
    assert done.stdout.count("in forward") == 2
    assert done.stdout.index("in forward") < done.stdout.index("[1/4]")
    assert "4 jobs: 2 ok, 2 failed, 0 skipped" in done.stdout
    assert statuses(home) == ["done", "done", "error", "error"]
    children = [run for run in mlflow_runs(home) if "rarelab.kind" not in run.data.tags]
    (parent,) = [run for run in mlflow_runs(home) if "rarelab.kind" in run.data.tags]
    by_name = {run.info.run_name: run for run in children}
    assert {name: run.info.status for name, run in by_name.items()} == {
        "fails=True seed=1": "FAILED",
        "fails=True seed=2": "FAILED",
        "fails=False seed=1": "FINISHED",
        "fails=False seed=2": "FINISHED",
    }
    failed = by_name["fails=True seed=1"]
    assert failed.data.tags["rarelab.error"] == "ZeroDivisionError"
    assert by_name["fails=False seed=2"].data.metrics["hp/seed"] == 2.0
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert parent.info.status == "FAILED"
    assert parent.data.metrics["n/fails_False"] == 2
    assert parent.data.metrics["missing/fails_True"] == 2
    assert 0 < parent.data.metrics["test/aucpr/mean/fails_False"] < 1
    (folder,) = runs(home, "sweep-*")
    assert "in forward" in next(iter(runs(home, "*-s1-*"))).parent.joinpath(
        Path(failed.data.tags["rarelab.directory"]), "train.log"
    ).read_text(encoding="utf-8")
    assert (folder / "table.csv").read_text().count("\n") == 3
    assert (folder / "figures" / "recall_at_quantile.svg").is_file()

    again = sweep(*FOUR[:-2], "seed=2,1", "loss.fails=false,true")
    assert again.returncode == 1
    assert "4 jobs, 2 done, 2 to run" in again.stdout
    assert "4 jobs: 0 ok, 2 failed, 2 skipped" in again.stdout
    assert len(runs(home)) == 6
    assert runs(home, "sweep-*") == [folder]


@pytest.mark.slow
def test_a_killed_worker_is_one_failed_job_that_resumes_next_time(
    started: Callable, sweep: Callable, home: Path
) -> None:
    request = [*FRAGILE, "loss.naps=0.2", "trainer.max_epochs=8", "seed=1,2,3"]
    process = started(*request, "sweep.n_jobs=2")
    wait_for(lambda: len(training(home)) == 2)
    os.kill(training(home)[0], signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "killed by signal 9, SIGKILL" in output
    assert "3 jobs: 2 ok, 1 failed, 0 skipped" in output
    assert statuses(home) == ["done", "done", "interrupted"]
    assert sorted(run.info.status for run in mlflow_runs(home)) == [
        "FAILED",  # the sweep's record
        "FINISHED",
        "FINISHED",
        "KILLED",
    ]
    again = sweep(*request)
    assert again.returncode == 0, again.stderr
    assert "3 jobs, 2 done, 1 to run" in again.stdout
    assert statuses(home) == ["done"] * 3


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_sweep_closes_every_record(
    started: Callable, home: Path, sent: int, code: int
) -> None:
    process = started(*FRAGILE, "loss.naps=0.2", "trainer.max_epochs=50", "seed=range(4)")
    wait_for(lambda: len(training(home)) == 1)
    (job,) = training(home)
    process.send_signal(sent)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == code
    assert "0 ok, 1 failed, 3 skipped" in output
    assert statuses(home, "*") == ["interrupted", "interrupted"]
    assert {run.info.status for run in mlflow_runs(home)} == {"KILLED"}
    with pytest.raises(ProcessLookupError):
        os.kill(job, 0)


@pytest.mark.slow
def test_jobs_exit_when_the_sweep_is_killed(started: Callable, home: Path) -> None:
    process = started(*FRAGILE, "loss.naps=0.2", "trainer.max_epochs=50", "seed=1,2")
    wait_for(lambda: len(training(home)) == 1)
    process.kill()
    wait_for(lambda: statuses(home) == ["interrupted"], seconds=60)


@pytest.mark.slow
def test_changed_code_reruns_the_job_and_an_edited_yaml_does_not_affect_a_running_sweep(
    started: Callable, sweep: Callable, home: Path, project: Path
) -> None:
    request = [*FRAGILE, "loss.naps=0.1", "seed=1,2,3"]
    process = started(*request)
    wait_for(lambda: bool(training(home)))
    leaf = project / "conf" / "loss" / "fragile.yaml"
    leaf.write_text(leaf.read_text() + "nonsense: 3\n", encoding="utf-8")
    process.communicate(timeout=300)
    assert process.returncode == 0
    configs = [(run / "config.yaml").read_text() for run in runs(home)]
    assert len(configs) == 3
    assert not any("nonsense" in config for config in configs)

    leaf.write_text(leaf.read_text().replace("nonsense: 3\n", ""), encoding="utf-8")
    assert "3 jobs, 3 done, 0 to run" in sweep(*request, "sweep.dry_run=true").stdout
    source = project / "my_losses.py"
    source.write_text(source.read_text().replace("== 5", "== 6"), encoding="utf-8")
    planned = sweep(*request, "sweep.dry_run=true")
    assert planned.stdout.count("the code changed since: my_losses") == 3
    assert "3 jobs, 0 done, 3 to run, about" in planned.stdout
    again = sweep(*request, "sweep.n_jobs=3")
    assert again.returncode == 0, again.stderr
    assert len(runs(home)) == 6


@pytest.mark.slow
def test_results_are_bit_identical_however_many_jobs_run_at_once(home: Path) -> None:
    request = ["-m", *SMALL, "loss=bce,smooth_ap", "schedule.warmup_epochs=1", "seed=1,2"]
    alone = package.train([*request, "schedule.blend_epochs=0"])
    together = [*request, "schedule.blend_epochs=0", "sweep.n_jobs=4", "sweep.force=true"]
    for one, other in zip(alone, package.train(together), strict=True):
        assert one.status == other.status == "done"
        assert one.directory != other.directory
        assert bits(one.metrics) == bits(other.metrics)
    skipped = package.train([*request, "schedule.blend_epochs=0"])
    assert [bits(run.metrics) for run in skipped] == [bits(run.metrics) for run in alone]
    single = package.train([*SMALL, "loss=bce", "schedule.warmup_epochs=1", "seed=1"])
    assert bits(single.metrics) == bits(alone[0].metrics) - {("hp/seed", (1.0).hex())}


def bits(metrics: dict[str, float]) -> set[tuple[str, str]]:
    """Exact values, with NaN equal to NaN."""
    return {(key, float(value).hex()) for key, value in metrics.items()}


@pytest.mark.slow
def test_eight_sweeps_started_at_once_share_no_folder(home: Path, project: Path) -> None:
    command = [sys.executable, "-m", "rarelab", "train", "-m", *SMALL, "loss=bce", "seed=1,2"]
    processes = [
        subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True) for _ in range(8)
    ]
    outputs = [process.communicate(timeout=500)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, outputs
    ran = sum(output.count("ok       seed=") // 2 for output in outputs)
    assert len(runs(home)) == ran >= 2
    entries = [load_entry(run) for run in [*runs(home), *runs(home, "sweep-*")]]
    assert len({entry.uid for entry in entries if entry}) == len(entries)
    assert statuses(home) == ["done"] * ran


@pytest.mark.slow
def test_stop_starts_no_further_job_and_retries_rerun_failures(sweep: Callable, home: Path) -> None:
    done = sweep(*FOUR, "sweep.on_error=stop")
    assert done.returncode == 1
    assert "4 jobs: 0 ok, 1 failed, 3 skipped" in done.stdout
    assert "not started: sweep.on_error=stop" in done.stdout
    assert len(runs(home)) == 1
    diverging = [*SMALL, "optimizer=sgd", "optimizer.lr=1e30,0.01", "loss=bce"]
    done = sweep(*diverging, "sweep.retries=1")
    assert done.returncode == 1
    assert "1 ok, 1 failed" in done.stdout
    assert "tried again" not in done.stdout
    done = sweep(*FRAGILE, "loss.fails=true", "sweep.retries=1", "tracking=none")
    assert done.stdout.count("in forward") == 2
    assert done.stdout.count("will be tried again") == 1


def test_an_invalid_job_anywhere_exits_with_2_and_writes_nothing(
    sweep: Callable, home: Path
) -> None:
    done = sweep(*SMALL, "loss=bce,smooth_ap", "loss.queue_size=512")
    assert done.returncode == 2, done.stdout
    assert "job loss=bce" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not home.exists()


def test_a_dry_run_shows_what_is_missing_without_side_effects(home: Path) -> None:
    request = [*SMALL, "sweep.arms=[[loss=bce],[loss=smooth_ap]]", "sweep.dry_run=true"]
    assert package.train(request) == []
    assert not home.exists()


def test_the_comparison_that_a_sweep_of_several_models_suggests_works(rarelab: Callable) -> None:
    arms = "[[model=linear,loss=bce],[model=linear,loss=smooth_ap],[loss=bce],[loss=smooth_ap]]"
    ended = rarelab("train", "-m", f"sweep.arms={arms}", "schedule.warmup_epochs=0", *SMALL)
    assert ended.returncode == 0, ended.stderr
    told = next(line for line in ended.stdout.splitlines() if line.startswith("what can be"))
    suggested = shlex.split(told.partition(": rarelab ")[2])
    assert suggested == ["compare", "experiment=rarelab", "within=[model]"]
    compared = rarelab(*suggested)
    assert compared.returncode == 0, compared.stderr


def test_gpus_are_assigned_by_slots() -> None:
    slots = Slots(n_jobs=5, devices=["0", "3"], jobs_per_device=2)
    assert [slots.take() for _ in range(4)] == ["0", "3", "0", "3"]
    assert not slots.free()
    assert slots.free("cpu")
    assert slots.take("cpu") is None
    assert not slots.free("cpu")
    slots.give_back("3")
    assert slots.take() == "3"


def test_a_job_of_several_processes_gets_as_many_gpus() -> None:
    slots = Slots(n_jobs=9, devices=["0", "1", "2"])
    assert slots.take("auto", 2) == "0,1"
    assert not slots.free("auto", 2)
    assert slots.take("auto", 1) == "2"
    assert not slots.free()
    slots.give_back("0,1")
    assert slots.free("cuda", 2)
    # The job itself refuses a request for too many GPUs; the sweep does not wait for more.
    slots.give_back("2")
    assert slots.take("auto", 4) == "0,1,2"

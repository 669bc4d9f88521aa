"""Real sweeps on Ray and submitit, on loopback: two nodes, one MLflow server on PostgreSQL."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from conftest import Command
from rarelab.ledger.contests import TRIALS
from rarelab.ledger.study import RUNS
from ray_nodes import ENVIRONMENT, USERS
from servers import new_database
from studies import CONTEST

pytestmark = pytest.mark.slow

SMALL = ("dataset.n_samples=3000", "dataset.pos_rate=0.05", "trainer.max_epochs=6")
GRID = ("loss=bce,smooth_ap", "seed=0,1", *SMALL)

MODULE = '''\
import os
import signal

from torch import nn


class Mortal(nn.Module):
    """A loss that trains, raises, or takes its process with it."""

    needs_warmup = False

    def __init__(self, ending: str = "none"):
        super().__init__()
        self.ending = ending

    def forward(self, logits, targets):
        if len(targets) > 2 and self.ending == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if len(targets) > 2 and self.ending == "raise":
            raise RuntimeError("a loss of the user's has a mistake")
        return logits.square().mean()
'''
MORTAL = ("--config-dir", "my_conf", "loss=mortal", "allow_targets=[my_mortal]", *SMALL)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray cluster whose nodes do not know the test's home or server."""
    for last in (False, False, True):  # on a busy machine Ray drops nodes that start slowly
        with (
            tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder,
            subprocess.Popen(
                [sys.executable, Path(__file__).with_name("ray_nodes.py"), folder],
                env={**os.environ, "RARELAB_HOME": "/nowhere"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if last else subprocess.DEVNULL,
                text=True,
            ) as process,
        ):
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            if address:
                yield address
                return
    pytest.fail("no Ray cluster came up in three tries")


@pytest.fixture
def ray(cluster: str, tracking_server: str) -> dict[str, Any]:
    """The environment that points the command at the cluster and the server."""
    return {"env": {**ENVIRONMENT, "RAY_ADDRESS": cluster, "MLFLOW_TRACKING_URI": tracking_server}}


@pytest.fixture
def user(tmp_path: Path) -> Path:
    """A folder with a user's own module and config file."""
    folder = tmp_path / "user"
    (folder / "my_conf" / "loss").mkdir(parents=True)
    (folder / "my_mortal.py").write_text(MODULE)
    leaf = "_target_: my_mortal.Mortal\nending: none\n"
    (folder / "my_conf" / "loss" / "mortal.yaml").write_text(leaf)
    return folder


def recorded(server: str, experiment: str, kind: str = "") -> list[Run]:
    """The experiment's runs on the server: the jobs, or the runs of the given kind."""
    client = MlflowClient(server)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = client.search_runs([found.experiment_id])
    return [run for run in runs if run.data.tags.get("rarelab.kind", "") == kind]


def histories(home: Path, experiment: str) -> dict[str, list[dict[str, float]]]:
    """Every recorded number, by job folder."""
    folders = (home / "runs" / experiment).glob("toy-*")
    return {
        folder.name: [
            json.loads(line)["metrics"]
            for line in (folder / "history.jsonl").read_text().splitlines()
        ]
        for folder in folders
    }


@pytest.fixture(scope="module")
def here(tracking_server: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home after training the grid on this machine, one job at a time."""
    home = tmp_path_factory.mktemp("here")
    environment = {"RARELAB_HOME": str(home), "MLFLOW_TRACKING_URI": tracking_server}
    command = [sys.executable, "-m", "rarelab", "train", "-m", "tracking.experiment=here", *GRID]
    subprocess.run(command, env={**os.environ, **environment}, check=True, timeout=300)
    return home


def test_two_ray_nodes_match_one_process_bit_for_bit(
    rarelab: Command, ray: dict[str, Any], tracking_server: str, home: Path, here: Path
) -> None:
    there = rarelab("train", "-m", "hydra/launcher=ray", "tracking.experiment=on-ray", *GRID, **ray)
    assert there.returncode == 0, there.stdout + there.stderr
    ours = histories(here, "here")
    assert len(ours) == 4
    assert histories(home, "on-ray") == ours
    runs = recorded(tracking_server, "on-ray")
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags["mlflow.user"] for run in runs} == set(USERS)
    assert metrics_by_name(runs) == metrics_by_name(recorded(tracking_server, "here"))
    (parent,) = recorded(tracking_server, "on-ray", kind="sweep")
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {parent.info.run_id}
    artifacts = MlflowClient(tracking_server).list_artifacts(runs[0].info.run_id)
    assert "predictions.parquet" in {artifact.path for artifact in artifacts}

    again = rarelab(
        "train", "-m", "hydra/launcher=ray", "tracking.experiment=on-ray", *GRID[::-1], **ray
    )
    assert again.returncode == 0
    assert "4 done, 0 to run" in again.stdout


def metrics_by_name(runs: list[Run]) -> dict[str, dict[str, str]]:
    """Metrics by run name, as text: exact, and NaN equals NaN."""
    return {
        run.info.run_name or "": {key: repr(value) for key, value in run.data.metrics.items()}
        for run in runs
    }


def test_a_study_on_ray_gives_the_same_bytes_as_here(cluster: str, tmp_path: Path) -> None:
    found = []
    for place, more in (("here", ()), ("there", ("--launcher", "ray"))):
        folder = tmp_path / place / "experiments"
        folder.mkdir(parents=True)
        (folder / "mine.yaml").write_text(CONTEST)
        command = [sys.executable, "-m", "rarelab.ledger", "--folder", folder, "run", *more]
        own = {"RAY_ADDRESS": cluster, "RARELAB_HOME": str(tmp_path / place / "home")}
        environment = {**os.environ, **ENVIRONMENT, **own}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        found.append([(folder / "mine" / name).read_bytes() for name in (RUNS, TRIALS)])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "engine",
    [
        ("hydra/launcher=ray", "hydra.launcher.runtime_env={working_dir: .}"),
        ("hydra/launcher=submitit_slurm", "hydra.launcher.cluster=local"),
    ],
    ids=["ray", "submitit"],
)
def test_a_failing_job_and_a_dying_worker_do_not_affect_other_jobs(
    rarelab: Command,
    ray: dict[str, Any],
    tracking_server: str,
    user: Path,
    home: Path,
    engine: tuple[str, str],
) -> None:
    experiment = engine[0].partition("=")[2]
    request = ("train", "-m", *engine, f"tracking.experiment={experiment}", *MORTAL)
    ending = "loss.ending=none,raise,kill"
    done = rarelab(*request, ending, cwd=user, **ray)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "RuntimeError: a loss of the user's has a mistake" in done.stdout
    assert "Traceback" in done.stdout
    assert "3 jobs: 1 ok, 2 failed, 0 skipped" in done.stdout
    runs = {run.info.run_name or "": run for run in recorded(tracking_server, experiment)}
    states = {name: run.info.status for name, run in runs.items()}
    by_ending = {name.partition("ending=")[2]: state for name, state in states.items()}
    assert by_ending == {"none": "FINISHED", "raise": "FAILED", "kill": "KILLED"}

    again = rarelab(*request, ending, cwd=user, **ray)
    assert again.returncode == 1
    assert "1 done, 2 to run" in again.stdout


@pytest.mark.parametrize("engine", ["ray", "submitit"])
def test_sigterm_ends_the_jobs_and_closes_their_records(
    cluster: str, home: Path, engine: str, tmp_path: Path
) -> None:
    engines = {
        "ray": ("hydra/launcher=ray", f"hydra.launcher.address={cluster}"),
        "submitit": ("hydra/launcher=submitit_slurm", "hydra.launcher.cluster=local"),
    }
    long = ("loss=bce", "seed=0,1", "dataset.n_samples=20000", "trainer.max_epochs=5000")
    command = [sys.executable, "-m", "rarelab", "train", "-m", *engines[engine], *long]
    with subprocess.Popen(command, env={**os.environ, **ENVIRONMENT}, cwd=tmp_path) as process:
        deadline = time.monotonic() + 120
        while len(list(home.glob("runs/*/toy-*/last.pt"))) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(90) == 143
    statuses = [json.loads(path.read_text()) for path in home.glob("runs/*/toy-*/status.json")]
    assert [status["status"] for status in statuses] == ["interrupted"] * 2


def test_submitit_matches_one_process_bit_for_bit(
    rarelab: Command, tracking_server: str, home: Path, here: Path
) -> None:
    slurm = ("hydra/launcher=submitit_slurm", "hydra.launcher.cluster=local")
    two = ("hydra.launcher.jobs_at_once=2", "tracking.experiment=array")
    server = {"env": {"MLFLOW_TRACKING_URI": tracking_server}}
    there = rarelab("train", "-m", *slurm, *two, *GRID, **server)
    assert there.returncode == 0, there.stdout + there.stderr
    assert histories(home, "array") == histories(here, "here")


def test_a_search_on_ray_keeps_its_study_in_a_database(
    rarelab: Command, ray: dict[str, Any], tracking_store: str, tracking_server: str
) -> None:
    studies = new_database(tracking_store, "optuna")
    request = (
        "train", "-m", "hydra/sweeper=optuna", "hydra/launcher=ray", "tracking.experiment=search",
        f"hydra.sweeper.storage={studies}", "hydra.sweeper.trials_at_once=2",
        "hydra.sweeper.startup_trials=2", "hydra.sweeper.pruner_warmup=1", "loss=bce",
        "optimizer.lr=tag(log,interval(1e-6,1e-1))", "seed=0,1", *SMALL,
    )  # fmt: skip
    done = rarelab(*request, "hydra.sweeper.n_trials=4", **ray)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "best: trial" in done.stdout
    runs = recorded(tracking_server, "search")
    (parent,) = recorded(tracking_server, "search", kind="sweep")
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {parent.info.run_id}
    best = max(run.data.metrics.get("best/val_aucpr", 0.0) for run in runs)
    assert 0 < parent.data.metrics["search/best"] <= best

    more = rarelab(*request, "hydra.sweeper.n_trials=5", **ray)
    assert more.returncode == 0, more.stdout + more.stderr
    assert "resumed in" in more.stdout
    assert more.stdout.count("\ntrial ") == 1
    (same,) = recorded(tracking_server, "search", kind="sweep")
    assert same.info.run_id == parent.info.run_id

"""Jobs whose processes are on several nodes of a real Ray cluster: two on loopback, a CPU each."""

from pathlib import Path
from typing import Any

import pytest

from conftest import Command
from ray_nodes import ENVIRONMENT, USERS
from test_devices import rows as history
from test_devices import status
from test_engines import cluster

__all__ = ["cluster"]  # a fixture

pytestmark = pytest.mark.slow

NETWORK = ["trainer.devices=2", "dataset.n_samples=3000", "dataset.pos_rate=0.03"]
SMALL = [*NETWORK, "model.num_iterations=20"]
RAY = ["hydra/launcher=ray", "hydra.launcher.spread=true"]
SPREAD = [*RAY, *SMALL, "model=xgboost", "tracking=none"]
MODULE = '''\
import os
import signal
from pathlib import Path

from torch import nn


class Telling(nn.Module):
    """A loss that says where it is evaluated, and may end the process of the second rank."""

    needs_warmup = False

    def __init__(self, folder: str, ending: str = "none"):
        super().__init__()
        self.folder, self.ending = Path(folder), ending
        self.rank = int(os.environ.get("RANK", 0))
        if self.rank == 1 and ending == "unready":
            raise ValueError("this node lacks something")

    def forward(self, logits, targets):
        if len(targets) > 2:
            (self.folder / f"{os.environ['LOGNAME']} {self.rank}").touch()
            if self.rank == 1 and self.ending == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
        return nn.functional.softplus((1 - 2 * targets) * logits.squeeze(1)).mean()
'''


@pytest.fixture
def ray(cluster: str) -> dict[str, Any]:
    return {"env": {**ENVIRONMENT, "RAY_ADDRESS": cluster}}


@pytest.fixture
def telling(tmp_path: Path) -> list[str]:
    """The request for the loss, whose folder is ``told``."""
    (tmp_path / "told").mkdir()
    user = tmp_path / "elsewhere"
    (user / "my_conf" / "loss").mkdir(parents=True, exist_ok=True)
    (user / "my_telling.py").write_text(MODULE)
    leaf = f"_target_: my_telling.Telling\nfolder: {tmp_path / 'told'}\nending: none\n"
    (user / "my_conf" / "loss" / "telling.yaml").write_text(leaf)
    return [
        *("--config-dir", "my_conf", "loss=telling", "allow_targets=[my_telling]"),
        "hydra.launcher.runtime_env={working_dir: .}",
    ]


@pytest.mark.parametrize("model", ["xgboost", "mlp"])
def test_a_job_on_two_nodes_equals_one_on_two_processes(
    rarelab: Command, ray: dict[str, Any], home: Path, tmp_path: Path, model: str
) -> None:
    own = SMALL if model == "xgboost" else NETWORK
    job = [*own, f"model={model}", "loss=smooth_ap", "tracking=none"]
    done = rarelab("train", "-m", *RAY, *job, **ray)
    assert done.returncode == 0, done.stderr
    assert status(home) == "done"
    here = {"env": {"RARELAB_HOME": str(tmp_path / "here")}}
    done = rarelab("train", *job, **here)
    assert done.returncode == 0, done.stderr
    ours = [(step, row) for step, row in history(home) if "hp/seed" not in row]
    assert ours == history(tmp_path / "here")


def test_every_process_has_a_node_of_its_own(
    rarelab: Command, ray: dict[str, Any], telling: list[str], tmp_path: Path
) -> None:
    done = rarelab("train", "-m", *telling, *SPREAD, **ray)
    assert done.returncode == 0, done.stderr
    places = sorted(path.name.split() for path in (tmp_path / "told").iterdir())
    assert [user for user, _ in places] == sorted(USERS)
    assert {rank for _, rank in places} == {"0", "1"}


@pytest.mark.parametrize(
    ("ending", "reason"),
    [("kill", "another process is gone"), ("unready", "this node lacks something")],
)
def test_a_process_that_fails_on_its_node_fails_the_job(
    rarelab: Command,
    ray: dict[str, Any],
    telling: list[str],
    ending: str,
    reason: str,
) -> None:
    done = rarelab("train", "-m", *telling, *SPREAD, f"loss.ending={ending}", **ray)
    assert done.returncode == 1
    assert reason in done.stdout + done.stderr
    # Nothing of it is left: the next job finds both nodes free.
    done = rarelab("train", "-m", *telling, *SPREAD, "seed=1", **ray)
    assert done.returncode == 0, done.stderr


def test_more_processes_than_nodes_are_refused(
    rarelab: Command, ray: dict[str, Any], home: Path
) -> None:
    done = rarelab("train", "-m", *SPREAD, "trainer.devices=3", **ray)
    assert done.returncode == 2
    assert done.stderr.endswith(
        "error: hydra.launcher.spread=true: trainer.devices=3 needs as many nodes with 1 CPU "
        "each; the cluster has 2\n"
    )

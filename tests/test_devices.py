"""A run of several processes, started by rarelab or by torchrun: one record, one outcome."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

import rarelab as package
from rarelab.cli import main
from rarelab.data.shared import FOLDER
from rarelab.errors import Pruned
from rarelab.models import GRU, FTTransformer
from rarelab.models.layers import drawing, mixing_rows
from rarelab.processes.place import Place
from rarelab.processes.start import Starter
from rarelab.tracking.entry import read_status
from rarelab.training.history import read_rows

SHORT = [
    *("dataset.n_samples=3000", "dataset.pos_rate=0.03", "trainer.batch_size=256"),
    *("trainer.max_epochs=4", "schedule.warmup_epochs=1", "schedule.blend_epochs=1"),
]
LONG = [*SHORT, "trainer.max_epochs=5000", "trainer.checkpoint_every=5 steps"]
ITSELF = [sys.executable, "-m", "rarelab", "train", "trainer.devices=2"]
TORCHRUN = [
    *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"),
    *("-m", "rarelab", "train"),
]
WAYS = {"itself": ITSELF, "torchrun": TORCHRUN}


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable]:
    """Start a training command; returns the process once it is training."""
    running: list[subprocess.Popen] = []

    def start(command: list[str], home: Path) -> subprocess.Popen:
        with (tmp_path / "output.txt").open("w") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, preexec_fn=heed)
        running.append(process)
        wait_for(lambda: len(rows(home)) > 1)
        return process

    yield start
    for process in running:
        for pid in [*descendants(process.pid), process.pid]:
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGKILL)
        process.wait()


def heed() -> None:
    """Restore SIGINT, which shells disable for background processes."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"timed out after {seconds} s"
        time.sleep(0.1)


def folders(home: Path) -> list[Path]:
    return sorted((home / "runs" / "rarelab").glob("toy-*"))


def rows(home: Path) -> list[tuple[int, dict[str, float]]]:
    found = [path / "history.jsonl" for path in folders(home)]
    path = next((path for path in found if path.exists()), None)
    return [] if path is None else [(row["step"], row["metrics"]) for row in read_rows(path)]


def status(home: Path) -> str:
    (directory,) = folders(home)
    return (read_status(directory) or {"status": "running"})["status"]


def mlflow_runs(home: Path) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    experiment = client.get_experiment_by_name("rarelab")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def children(pid: int) -> list[int]:
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except OSError:
        return []


def descendants(pid: int) -> list[int]:
    """All descendants of a process, nearest first."""
    found = children(pid)
    for child in found:
        found += children(child)
    return found


def environment(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_text().replace("\0", "\n")
    except OSError:
        return ""


def other(process: subprocess.Popen) -> int:
    """The process of rank 1."""
    if "torch.distributed.run" in process.args:
        (pid,) = [p for p in descendants(process.pid) if "\nRANK=1\n" in f"\n{environment(p)}\n"]
        return pid
    # It is a child of the fork server, itself a child of the first process.
    (pid,) = [below for child in children(process.pid) for below in children(child)]
    return pid


def left(process: subprocess.Popen, family: list[int]) -> bool:
    """Whether the command and all processes that it started have exited."""
    return process.poll() is not None and not any(Path(f"/proc/{pid}").exists() for pid in family)


@pytest.mark.slow
def test_the_record_matches_that_of_one_process(home, monkeypatch, tmp_path) -> None:
    found = {}
    for way, command in {"one": ITSELF[:-1], **WAYS}.items():
        place = tmp_path / way
        variables = {**os.environ, "RARELAB_HOME": str(place)}
        done = subprocess.run(
            [*command, *SHORT], env=variables, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("recorded in") == 1
        (run,) = mlflow_runs(place)
        assert run.info.status == "FINISHED"
        found[way] = (rows(place), run.data.tags["rarelab.signature"], run.data.params)
    (alone, sign, params), (ours, mine, mine_too), torchruns = found.values()
    # Same bits however the processes were started; a different signature from one process.
    assert (ours, mine, mine_too) == torchruns
    assert sign != mine and params.pop("trainer.devices") == "1"
    assert mine_too.pop("trainer.devices") == "2" and mine_too == params
    for (step, one), (also, two) in zip(alone, ours, strict=True):
        assert step == also
        assert two == pytest.approx(one, abs=1e-4, nan_ok=True)
    monkeypatch.setenv("RARELAB_HOME", str(tmp_path / "itself"))
    assert main(["reproduce", folders(tmp_path / "itself")[0].name]) == 0


@pytest.mark.slow
def test_the_toys_final_aucpr_matches_that_of_one_process(home) -> None:
    settings = ["experiments=toy_demo", "tracking=none"]
    one, two, four = (package.train([*settings, f"trainer.devices={n}"]) for n in (1, 2, 4))
    assert one.metrics["val/aucpr"] > 0.1
    for several in (two, four):
        assert several.metrics["val/aucpr"] == pytest.approx(one.metrics["val/aucpr"], abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_process_that_dies_ends_the_run_with_a_message(started, home, way, tmp_path) -> None:
    process = started([*WAYS[way], *LONG], home)
    family = descendants(process.pid)
    os.kill(other(process), signal.SIGKILL)
    wait_for(lambda: left(process, family), seconds=45)
    assert process.returncode == 1
    said = (tmp_path / "output.txt").read_text()
    if way == "itself":
        assert "error: process 1 of 2 (counted from 0) is gone: its process was killed" in said
    else:
        assert "error: another process is gone (" in said
    assert status(home) == "error"
    (run,) = mlflow_runs(home)
    assert (run.info.status, run.data.tags["rarelab.status"]) == ("FAILED", "error")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "sent", "code"),
    [
        ("itself", signal.SIGINT, 130),
        ("itself", signal.SIGTERM, 143),
        ("torchrun", signal.SIGTERM, 143),
    ],
)
def test_an_interrupted_run_stops_all_processes_and_leaves_a_checkpoint(
    started, home, way: str, sent: int, code: int, monkeypatch, tmp_path
) -> None:
    settings = [*LONG, "model.dropout=0.1"]
    process = started([*WAYS[way], *settings], home)
    family = descendants(process.pid)
    process.send_signal(sent)
    wait_for(lambda: left(process, family), seconds=45)
    assert process.returncode == (code if way == "itself" else 1), process.returncode
    assert status(home) == "interrupted"
    (run,) = mlflow_runs(home)
    assert run.info.status == "KILLED"
    (directory,) = folders(home)
    assert (directory / "last.pt").is_file()


@pytest.mark.slow
def test_a_run_whose_first_process_was_killed_resumes_to_the_same_bits(
    started, home, tmp_path, monkeypatch
) -> None:
    settings = [*SHORT, "trainer.max_epochs=40", "model.dropout=0.1"]
    settings += ["trainer.checkpoint_every=5 steps"]
    process = started([*ITSELF, *settings], home)
    family = descendants(process.pid)
    process.kill()
    wait_for(lambda: left(process, family), seconds=45)
    package.train(["trainer.devices=2", *settings])
    ours = rows(home)
    assert len(folders(home)) == 1 and status(home) == "done"
    assert len(mlflow_runs(home)) == 1
    monkeypatch.setenv("RARELAB_HOME", str(tmp_path / "whole"))
    package.train(["trainer.devices=2", *settings])
    assert ours == rows(tmp_path / "whole")


@pytest.mark.slow
def test_what_ends_the_first_process_ends_the_others(home) -> None:
    before = descendants(os.getpid())
    small = ["trainer.devices=3", *SHORT, "tracking=none"]
    diverges = ["optimizer=sgd", "optimizer.lr=1e30", "loss=bce"]
    with pytest.raises(package.training.Diverged):
        package.train([*small, *diverges])
    from rarelab.config.compose import compose_train
    from rarelab.runs.run import run

    def hopeless(row: dict[str, Any]) -> None:
        raise Pruned("not promising")

    with pytest.raises(Pruned):
        run(*compose_train(small), listener=hopeless)
    assert not torch.distributed.is_initialized()
    # The fork server and its helper stay alive for the next run.
    assert len(set(descendants(os.getpid())) - set(before)) <= 2


@pytest.mark.slow
def test_each_job_of_a_sweep_has_its_own_processes(rarelab, home, tmp_path) -> None:
    arguments = ["-m", *SHORT, "seed=0,1", "trainer.devices=1,2", "sweep.n_jobs=2"]
    done = rarelab("train", *arguments)
    assert done.returncode == 0, done.stderr
    found = {path.name: rows_of(path) for path in folders(home)}
    assert len(found) == 4
    parts = {seed: [r for name, r in found.items() if f"s{seed}" in name] for seed in (0, 1)}
    for one, two in parts.values():
        for (step, mine), (also, theirs) in zip(one, two, strict=True):
            assert step == also
            assert mine == pytest.approx(theirs, abs=1e-4, nan_ok=True)


def rows_of(directory: Path) -> list[tuple[int, dict[str, float]]]:
    """The history rows, without those that the sweep adds."""
    found = [(row["step"], row["metrics"]) for row in read_rows(directory / "history.jsonl")]
    return [(step, metrics) for step, metrics in found if "hp/seed" not in metrics]


@pytest.mark.slow
def test_an_error_in_another_process_is_reported(rarelab, home, tmp_path) -> None:
    (tmp_path / "elsewhere" / "my_losses.py").write_text(
        "import os, torch\n"
        "class Fragile(torch.nn.Module):\n"
        "    calls = 0\n"
        "    def forward(self, logits, targets):\n"
        "        self.calls += 1\n"
        "        if self.calls > 9 and torch.distributed.get_rank() == 1:\n"
        "            raise MemoryError('no room left')\n"
        "        return logits.square().mean()\n"
    )
    conf = tmp_path / "elsewhere" / "conf" / "loss"
    conf.mkdir(parents=True)
    (conf / "fragile.yaml").write_text("_target_: my_losses.Fragile\n")
    mine = ["--config-dir", str(conf.parent), "loss=fragile", "allow_targets=[my_losses]"]
    done = rarelab("train", *mine, "trainer.devices=2", *SHORT)
    assert done.returncode == 1
    message = "error: process 1 of 2 (counted from 0) failed: MemoryError: no room left\n"
    assert done.stderr.endswith(message)
    assert status(home) == "error"


def test_layers_that_depend_on_the_process_split_are_named() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.0), nn.Dropout(0.3))
    assert list(mixing_rows(net)) == ["1 (BatchNorm1d)"]
    assert list(drawing(net)) == ["3 (Dropout)"]
    assert list(drawing(GRU(4, 1, num_layers=2, dropout=0.5))) == [
        "body (GRU)",
        "dropout (Dropout)",
    ]
    transformer = FTTransformer(4, 1)
    assert not list(mixing_rows(transformer))
    assert len(list(drawing(transformer))) == 4
    assert not list(mixing_rows(nn.Sequential(nn.LayerNorm(2), nn.InstanceNorm1d(2))))
    assert list(mixing_rows(nn.InstanceNorm1d(2, track_running_stats=True)))
    assert list(mixing_rows(nn.BatchNorm1d(2, track_running_stats=False)))


def test_every_dropout_and_batch_norm_that_torch_ships_is_known() -> None:
    shipped = {name: layer for name, layer in vars(nn).items() if isinstance(layer, type)}
    dropouts = [layer() for name, layer in shipped.items() if "Dropout" in name]
    norms = [layer for name, layer in shipped.items() if "BatchNorm" in name]
    assert len(list(drawing(nn.ModuleList(dropouts)))) == len(dropouts) >= 6
    for norm in norms:
        layer = norm() if "Lazy" in norm.__name__ else norm(2)
        assert bool(list(mixing_rows(layer))) == (norm is not nn.SyncBatchNorm)
    assert len(norms) >= 7


def test_what_the_first_process_reads_is_shared_until_the_others_have_it(monkeypatch) -> None:
    monkeypatch.delenv(FOLDER, raising=False)
    cfg = OmegaConf.create({"trainer": {"devices": 1}})
    with Starter(cfg, 1) as company:
        folder = Path(os.environ[FOLDER])
        assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IRWXU
        company._stop_sharing()
        assert not folder.exists() and FOLDER not in os.environ
    monkeypatch.setenv(FOLDER, "a sweep's own")
    with Starter(cfg, 1):
        assert os.environ[FOLDER] == "a sweep's own"
    assert os.environ[FOLDER] == "a sweep's own"


@pytest.mark.slow
def test_a_table_that_is_mapped_trains_as_one_that_is_read(tmp_path, monkeypatch) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(1500, 6, generator=draw)
    y = (x[:, 0] + 0.5 * torch.randn(1500, generator=draw) > 1.5).int()
    frame = pd.DataFrame(x.numpy(), columns=[f"c{i}" for i in range(6)]).assign(y=y.numpy())
    frame.to_parquet(tmp_path / "rows.parquet")
    settings = [f"dataset.path={tmp_path / 'rows.parquet'}", "dataset.target=y"]
    settings += ["dataset=file", "model=xgboost", "model.subsample=1", "model.num_iterations=20"]
    found = []
    for devices in (1, 2):
        monkeypatch.setenv("RARELAB_HOME", str(tmp_path / str(devices)))
        run = package.train([*settings, "tracking=none", f"trainer.devices={devices}"])
        found.append(run.metrics["test/aucpr"])
    assert found[1] == pytest.approx(found[0], abs=1e-6)


@pytest.fixture
def under_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    for name, value in {**names, "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["-m", "seed=1,2"], "torchrun starts the processes of a single run, but a sweep"),
        (["trainer.devices=3"], "trainer.devices=3: torchrun started 2 processes; leave it"),
        (["model=hist_gradient_boosting"], "trainer.devices=2: HistGradientBoosting fits all rows"),
    ],
)
def test_torchrun_with_an_incompatible_request_is_refused(
    under_torchrun, capsys, home, arguments: list[str], answer: str
) -> None:
    assert Place.of_this_process() == Place(0, 2, 0, 2)
    assert main(["train", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"error: {answer}")
    assert not home.exists()

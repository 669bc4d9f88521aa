"""The whole program, used as its users would."""

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

import rarelab as package
from rarelab import cli
from rarelab.errors import RequestError
from rarelab.runs.run import _last_finite
from rarelab.tracking.naming import experiment_name
from rarelab.tracking.store import ensure_store, sqlite_uri
from rarelab.training import Diverged, Trainer

SMALL = [
    "dataset.n_samples=2000",
    "dataset.pos_rate=0.05",
    "trainer.max_epochs=3",
    "trainer.batch_size=256",
    "schedule.warmup_epochs=1",
    "schedule.blend_epochs=1",
]
FILES = {
    "config.yaml",
    "history.jsonl",
    "checkpoint.pt",
    "predictions.parquet",
    "train.log",
    "curves.json",
    "environment.json",
    "figures",
}
KEYS = {
    *("train/loss", "train/ap_weight", "train/temperature", "train/zero_grad_frac"),
    *("train/no_positive_batch_frac", "train/no_positive_pool_frac"),
    *("val/aucpr", "val/recall_at_q/0.005"),
    *("best/val_aucpr", "best/epoch", "best/warmup_val_aucpr"),
    *("test/aucpr", "test/aucpr_lo", "test/aucpr_hi", "test/auroc", "test/prevalence"),
    *("test/brier", "test/ece"),
    *(
        f"test/{name}_at_{what}/{q}"
        for name, what in (("recall", "q"), ("precision", "q"), ("recall", "fpr"))
        for q in ("0.001", "0.005", "0.01", "0.05")
    ),
    *("test/precision_at_recall/0.8", "test/pauc_at_fpr/0.01"),
    *("curve/recall_at_q", "curve/per cent of rows", "curve/precision_at_recall"),
}
TAGS = {"signature", "code", "data", "status"}


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> None:
    """For commands run in this process: they set ``sys.argv``, which is put back."""
    monkeypatch.setattr(sys, "argv", ["rarelab"])


def client(home: Path) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{home}/mlflow.db")


def runs(home: Path, experiment: str = "rarelab") -> list:
    found = client(home).get_experiment_by_name(experiment)
    assert found is not None
    return list(client(home).search_runs([found.experiment_id]))


def test_the_command_trains_and_records_the_run_that_python_gives(rarelab, home: Path) -> None:
    done = rarelab("train", *SMALL)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("val AUCPR") == 3
    for word in ("warmup", "blend", "main", "AUCPR", "chance", "recall", "rarelab ui"):
        assert word in done.stdout
    (run,) = runs(home)
    assert run.info.status == "FINISHED"
    assert set(run.data.metrics) == KEYS
    assert {f"rarelab.{name}" for name in TAGS} <= set(run.data.tags)
    assert run.data.params["loss.queue_size"] == "1024"
    assert run.data.params["loss"] == "smooth_ap"
    curve = client(home).get_metric_history(run.info.run_id, "curve/recall_at_q")
    assert 50 < len(curve) <= 320
    assert (min(point.step for point in curve), max(point.step for point in curve)) == (1, 1000)
    axis = client(home).get_metric_history(run.info.run_id, "curve/per cent of rows")
    assert [point.value for point in axis] == [point.step / 100 for point in curve]
    (directory,) = (home / "runs" / "rarelab").iterdir()
    assert {path.name for path in directory.iterdir()} >= FILES
    assert len(list((directory / "figures").glob("*.png"))) == 5

    again = package.train([*SMALL, "tracking=none"])
    assert again.status == "done"
    assert again.directory != directory
    assert again.metrics == {key: run.data.metrics[key] for key in again.metrics}
    assert again.metrics["test/aucpr"] > again.metrics["test/prevalence"]


def test_a_run_keeps_its_predictions_and_no_password(home: Path) -> None:
    from sklearn.metrics import average_precision_score

    word = "".join(["s3", "cret"])  # split, as the recorded diff may include this file
    address = f"tracking.uri='http://ann:{word}@127.0.0.1:9'"
    done = package.train([*SMALL, "tracking=none", "tracking.figures=false", address])
    assert not (done.directory / "figures").exists()
    for path in done.directory.iterdir():
        if path.is_file():
            assert word.encode() not in path.read_bytes(), path.name
    rows = pd.read_parquet(done.directory / "predictions.parquet")
    test = rows[rows["split"] == "test"]
    again = average_precision_score(test["target"], test["score"])
    assert again == pytest.approx(done.metrics["test/aucpr"], abs=1e-9)


def test_an_invalid_run_writes_nothing(home: Path, typed: None, capsys) -> None:
    assert cli.main(["train", *SMALL, "schedule.warmup_epochs=9"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    for wrong in (["trainer.max_epoch=5"], ["loss.temperature=abc"], ["schedule.blend_epochs=9"]):
        with pytest.raises(RequestError):
            package.train([*SMALL, *wrong])
    assert not home.exists()


def test_an_arbitrary_csv_trains(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    amount = draw.lognormal(3, 1, 900)
    frame = pd.DataFrame(
        {
            "amount": np.where(draw.random(900) < 0.1, np.nan, amount),
            "country": draw.choice(["DE", "FR", "IT", None], 900),
            "when": pd.date_range("2026-01-01", periods=900, freq="h").astype(str),
            "verdict": np.where(amount > np.quantile(amount, 0.93), "fraud", "fine"),
        }
    )
    frame.to_csv(tmp_path / "my transactions.csv", index=False)
    request = ["dataset=file", f"dataset.path='{tmp_path / 'my transactions.csv'}'"]
    request += ["dataset.target=verdict", "trainer.max_epochs=4", "schedule.warmup_epochs=2"]
    request += ["schedule.blend_epochs=1", "dataset.drop=[when]", "trainer.batch_size=128"]
    request += ["tracking=none", "tracking.figures=false"]
    with pytest.raises(RequestError, match="positive_label"):
        package.train(request)
    done = package.train([*request, "dataset.positive_label=fraud"])
    assert done.metrics["test/aucpr"] > 0.5


@pytest.mark.parametrize(
    "overrides",
    [
        ["dataset=sequence_toy", "dataset.n_sequences=600", "model=gru"],
        ["dataset=digits", "model=cnn", "loss=smooth_ap"],
        ["dataset=longtail_toy", "dataset.n_samples=4000", "loss=smooth_ap"],
        ["dataset=longtail_toy", "dataset.n_samples=4000", "loss=cross_entropy"],
        ["dataset=digits8", "loss=recall_at_quantile", "schedule=hard_switch"],
        ["dataset=digits8", "model=hist_gradient_boosting"],
        ["dataset=digits8", "model=tabular_resnet", "loss=smooth_ap_iqr"],
        ["dataset=digits8", "loss=weighted_bce", "model=linear"],
    ],
    ids=lambda overrides: " ".join(overrides),
)
def test_data_models_and_losses_combine(overrides: list[str]) -> None:
    small = ["trainer.max_epochs=2", "trainer.select=any", "tracking=none"]
    small.append("tracking.figures=false")
    done = package.train([*overrides, *small])
    assert done.status == "done"
    assert 0 < done.metrics["test/aucpr"] <= 1


def test_a_users_own_loss_trains_from_their_folder(rarelab, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "my_losses.py").write_text(
        "from torch import nn\n\n\nclass Hinge(nn.Module):\n"
        "    def __init__(self, margin: float = 1.0):\n"
        "        super().__init__()\n        self.margin = margin\n\n"
        "    def forward(self, logits, targets):\n"
        "        sign = 2.0 * targets.view(-1, 1) - 1.0\n"
        "        return (self.margin - sign * logits).clamp_min(0).mean()\n"
    )
    leaf = folder / "conf" / "loss" / "hinge.yaml"
    leaf.parent.mkdir(parents=True)
    leaf.write_text("_target_: my_losses.Hinge\nmargin: 2.0\n")
    request = ["loss=hinge", "schedule=constant", *SMALL[:4], "tracking=none"]
    with pytest.raises(RequestError, match="allow_targets"):
        package.train(request, [str(folder / "conf")])
    asked = ["train", "--config-dir", "conf", *request, "allow_targets=[my_losses]"]
    done = rarelab(*asked, cwd=folder)
    assert done.returncode == 0, done.stderr


def test_a_diverged_run_is_recorded_as_such(home: Path, typed: None, capsys) -> None:
    assert cli.main(["train", *SMALL, "optimizer=sgd", "optimizer.lr=1e30"]) == 1
    told = capsys.readouterr().err
    assert "at epoch" in told
    assert "Traceback" not in told
    (run,) = runs(home)
    assert run.info.status == "FAILED"
    assert run.data.tags["rarelab.status"] == "diverged"


@pytest.mark.parametrize(
    ("position", "best"),
    [({"epoch": 3, "step": 0}, 2), ({"epoch": 3, "step": 5}, 3), ({"epoch": 3}, 2)],
    ids=["between epochs", "within an epoch", "rounds"],
)
def test_a_diverged_run_without_a_best_epoch_says_how_far_its_checkpoint_had_come(
    position: dict[str, int], best: int
) -> None:
    kept = {"position": position, "model": {}}
    record: Any = SimpleNamespace(history=[], checkpoints=SimpleNamespace(newest=lambda _: kept))
    state, metrics = _last_finite(Diverged("the loss is nan"), record)
    assert state == {} and metrics["best/epoch"] == best


def recorded_as_interrupted(home: Path) -> bool:
    (directory,) = (home / "runs" / "rarelab").iterdir()
    status = json.loads((directory / "status.json").read_text())["status"]
    (run,) = runs(home)
    return (status, run.info.status) == ("interrupted", "KILLED")


def test_a_terminated_run_is_recorded_as_such(
    home: Path, typed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    update, steps = Trainer._update, iter(range(100))

    def terminated(*arguments) -> None:
        if next(steps) == 10:
            signal.raise_signal(signal.SIGTERM)
        update(*arguments)

    monkeypatch.setattr(Trainer, "_update", terminated)
    assert cli.main(["train", *SMALL]) == 143
    assert recorded_as_interrupted(home)


def test_an_interrupted_run_is_recorded_as_such(home: Path) -> None:
    ensure_store(sqlite_uri(home / "mlflow.db"))  # here it takes no time, in a new process seconds
    process = subprocess.Popen(
        [sys.executable, "-m", "rarelab", "train", *SMALL, "trainer.max_epochs=5000"],
        stdout=subprocess.PIPE,
        text=True,
        # Tests run in the background of a shell inherit an ignored SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if "val AUCPR" in line:
                break
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert recorded_as_interrupted(home)


@pytest.mark.slow
@pytest.mark.parametrize("command", [("train", *SMALL, "tracking=none"), ("data", "list")])
def test_a_closed_output_pipe_does_not_end_the_command(
    home: Path, command: tuple[str, ...]
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "rarelab", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert b"rror" not in process.stderr.read()
    assert process.wait(60) == 0
    process.stderr.close()
    if command[0] == "train":
        (directory,) = (home / "runs" / "rarelab").iterdir()
        assert json.loads((directory / "status.json").read_text())["status"] == "done"


def test_help_and_a_mistyped_key_do_not_import_the_heavy_libraries() -> None:
    script = (
        "import sys, rarelab.cli\n"
        "for arguments in (['--help'], ['train', '--help'], ['train', 'trainer.max_epoch=5']):\n"
        "    try:\n        rarelab.cli.main(arguments)\n    except SystemExit:\n        pass\n"
        "    print(sorted({'torch', 'mlflow', 'pandas', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines().count("[]") == 3


GUEST = """
import importlib, logging, os, pathlib, random, signal, sys, threading, warnings
for name in ("hydra", "matplotlib.figure", "mlflow.store.tracking.sqlalchemy_store",
             "mlflow.models", "numpy", "pandas", "pyarrow", "scipy.stats", "sklearn.datasets",
             "torch._dynamo", "torch"):
    importlib.import_module(name)  # what these do when they are first imported is their own affair
import hydra, matplotlib, mlflow, numpy, torch
from hydra.core.global_hydra import GlobalHydra
from mlflow import environment_variables as variables

mlflow.set_tracking_uri(f"sqlite:///{os.getcwd()}/mine.db")
mine = mlflow.start_run()
torch.set_num_threads(2)
os.mkdir("conf")
hydra.initialize_config_dir(os.path.abspath("conf"), version_base="1.3")
known = set(logging.root.manager.loggerDict) | {"rarelab", "alembic", "mlflow.store.db"}
loggers = [logging.getLogger(name) for name in ["", *known] if name != ""] + [logging.root]
registered = []
import atexit
atexit.register = registered.append

def state():
    return {
        "tracking": (mlflow.get_tracking_uri(), mlflow.active_run().info.run_id),
        "time-outs": [getattr(variables, f"MLFLOW_HTTP_REQUEST_{name}").get()
                      for name in ("MAX_RETRIES", "TIMEOUT")],
        "environment": sorted(os.environ.items()),
        "logging": [(x.name, x.level, x.propagate, x.disabled, list(x.handlers)) for x in loggers],
        "signals": [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)],
        "threads": {thread.name for thread in threading.enumerate()},
        "warnings": list(warnings.filters),
        "matplotlib": (matplotlib.get_backend(), dict(matplotlib.rcParams)),
        "hydra": [GlobalHydra.instance().hydra],
        "random": random.getstate(),
        "numpy": str(numpy.random.get_state()),
        "torch": (str(torch.get_rng_state().tolist()), torch.get_num_threads()),
        "streams": (sys.stdout, sys.stderr, sys.excepthook),
        "at exit": [f for f in registered if "rarelab" in str(f.__module__) or "freeze" in str(f)],
    }

before = state()
import rarelab
rarelab.train(sys.argv[1:])
after = state()
for key in before:
    if before[key] != after[key]:
        new = [x for x in after[key] if x not in before[key]]
        print("changed:", key, new, [x for x in before[key] if x not in after[key]])
print("compared")
"""


def test_a_calling_program_finds_its_process_unchanged(home: Path, tmp_path: Path) -> None:
    for database in (home / "mlflow.db", tmp_path / "mine.db"):
        ensure_store(sqlite_uri(database))  # see above
    done = subprocess.run(
        [sys.executable, "-c", GUEST, *SMALL], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "compared"
    assert [line for line in done.stdout.splitlines() if line.startswith("changed:")] == []


def test_threads_of_one_process_take_turns(home: Path) -> None:
    quick = [*SMALL, "model=linear", "tracking=none"]
    with ThreadPoolExecutor(2) as pool:
        seeds = [[*quick, "tracking.figures=false", f"seed={seed}"] for seed in (0, 1)]
        outcomes = list(pool.map(package.train, seeds))
    assert [outcome.status for outcome in outcomes] == ["done", "done"]
    assert [f"-s{seed}-" in outcomes[seed].directory.name for seed in (0, 1)] == [True, True]


@pytest.mark.parametrize(
    "name", ["../../x", "/x", "a//b", "", ".", "a/..", "a\0b", "a\nb", "x" * 300], ids=repr
)
def test_an_experiment_name_cannot_leave_the_home(home: Path, name: str) -> None:
    for sweep in ([], ["seed=0,1"]):
        cfg = f"tracking.experiment={json.dumps(name)}" if name.isprintable() else None
        with pytest.raises(RequestError, match=r"tracking\.experiment=") as refused:
            if cfg is None:
                experiment_name(name)
            else:
                package.train([*SMALL, *sweep, cfg])
        assert "\n" not in str(refused.value)
    assert not home.exists()


def test_python_requests_are_also_refused_before_training() -> None:
    with pytest.raises(RequestError, match=r"trainer\.max_epochs"):
        package.train(["trainer.max_epoch=5"])


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(2))
def test_four_processes_starting_without_a_store_all_finish(home: Path, turn: int) -> None:
    command = [sys.executable, "-m", "rarelab", "train", *SMALL, f"seed={turn}"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
    for process in processes:
        process.communicate(timeout=240)
    assert [process.returncode for process in processes] == [0, 0, 0, 0]
    assert [run.info.status for run in runs(home)] == ["FINISHED"] * 4
    assert len(list((home / "runs" / "rarelab").iterdir())) == 4

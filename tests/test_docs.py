"""The commands and code in the README work as written."""

import importlib.util
import inspect
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

import rarelab as package
from rarelab.cli import main
from rarelab.config.compose import compose_train

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


COMMANDS = sorted(
    {line for block in blocks("console") for line in block.splitlines() if "rarelab train" in line}
)


def console(*starts: str) -> list[str]:
    lines = [line for block in blocks("console") for line in block.splitlines()]
    return [line for line in lines if line.startswith(starts)]


def test_the_readmes_first_examples_from_python_run_as_written(
    home: Path, capsys: pytest.CaptureFixture
) -> None:
    section = README.partition("\n## From Python\n")[2].partition("\n## ")[0]
    examples = [block for block in blocks("python") if block in section]
    assert len(examples) == 2 and sum(len(example.splitlines()) for example in examples) <= 12
    trained, differentiated = ({}, {})
    for code, names in zip(examples, (trained, differentiated), strict=True):
        exec(compile(code, "README.md", "exec"), names)
    run = trained["run"]
    assert run.status == "done" and home in run.directory.parents
    assert capsys.readouterr().out.endswith(f"{run.metrics['test/aucpr']} {run.directory}\n")
    assert differentiated["logits"].grad.abs().sum() > 0


def test_the_readmes_predictions_run_as_written(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ["dataset.n_samples=2000", "dataset.pos_rate=0.05", "trainer.max_epochs=1"]
    run = package.train([*small, "loss=bce", "tracking=none"])
    monkeypatch.chdir(tmp_path)
    names = ",".join(f"f{i}" for i in range(20))
    Path("new.csv").write_text(f"{names}\n{','.join('0' * 20)}\n", encoding="utf-8")
    commands = console("rarelab predict")
    assert len(commands) == 3
    for command in commands:
        assert main(shlex.split(command.replace("RUN_ID", run.directory.name))[1:]) == 0
    assert "reason_3_effect" in Path("reasons.csv").read_text("utf-8")
    assert Path("new.scores.csv").is_file() and Path("alerts.parquet").is_file()


def test_the_readmes_model_from_elsewhere_is_recorded_as_written(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{i},{int(i % 9 == 0)},{(i * 7 % 100) / 100}\n" for i in range(200))
    Path("legacy.csv").write_text(f"id,Class,risk\n{rows}", encoding="utf-8")
    (command,) = console("rarelab record")
    assert main(shlex.split(command)[1:]) == 0
    assert "arm=legacy: 200 test rows, 23 positive" in capsys.readouterr().out
    assert len([*(home / "runs" / "creditcard").iterdir()]) >= 1


def test_the_readmes_dashboard_commands_work_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ui(home: Path, experiment: str | None, **_: object) -> int:
        asked.append(experiment)
        return 0

    monkeypatch.setattr("rarelab.dashboard.command.ui", ui)
    assert [main(shlex.split(command)[1:]) for command in console("rarelab ui")] == [0, 0]
    assert asked == [None, "creditcard"]


def test_the_readmes_own_loss_trains_as_written(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "reader"
    (folder / "my_conf" / "loss").mkdir(parents=True)
    (hinge,) = [block for block in blocks("python") if "class Hinge" in block]
    (leaf,) = blocks("yaml")
    (folder / "my_losses.py").write_text(hinge, encoding="utf-8")
    (folder / "my_conf" / "loss" / "hinge.yaml").write_text(leaf, encoding="utf-8")
    (command,) = [c for c in COMMANDS if "--config-dir" in c]
    small = ["dataset.n_samples=2000", "dataset.pos_rate=0.05", "trainer.max_epochs=1"]
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["rarelab"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert main([*shlex.split(command)[1:], *small, "tracking=none"]) == 0
    del sys.modules["my_losses"]  # for other tests of this worker that have one of that name


def test_the_readmes_loss_is_built_as_written() -> None:
    (code,) = [block for block in blocks("python") if "LossWarmupWrapper(" in block]
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["loss"].in_warmup


def test_the_toy_demos_flags_are_overrides_with_the_stated_defaults() -> None:
    cfg, _ = compose_train(["experiments=toy_demo"])
    rows = re.findall(r"^\| `--[\w-]+` \| `([\w.]+)` \| ([\d.]+) \|$", README, flags=re.MULTILINE)
    assert len(rows) == 10
    for key, default in rows:
        value = cfg
        for part in key.split("."):
            value = value[part]
        assert float(value) == float(default), key


def test_every_option_of_the_configuration_is_in_the_readme() -> None:
    for group in ("dataset", "model", "loss", "schedule", "optimizer", "lr_schedule", "sampler"):
        for leaf in (ROOT / "conf" / group).glob("*.yaml"):
            assert f"`{leaf.stem.removesuffix('_iqr')}`" in README, leaf


def test_files_the_readme_shows_exist() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def script(name: str) -> Any:
    """The module docs/NAME.py."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_page_of_real_data_sets_is_what_its_command_writes() -> None:
    made = script("sets")
    assert made.PAGE.read_text(encoding="utf-8") == made.page(), "run: python docs/sets.py"


def test_the_page_of_the_python_interface_is_what_its_command_writes() -> None:
    made = script("api")
    assert made.PAGE.read_text(encoding="utf-8") == made.page(), "run: python docs/api.py"
    for name in made.PACKAGES:
        public = importlib.import_module(name)
        for each in public.__all__:
            value = getattr(public, each)
            assert not callable(value) or inspect.getdoc(value), f"{name}.{each} has no docstring"

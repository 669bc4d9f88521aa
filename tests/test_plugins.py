"""Our Hydra plug-ins: found, quick to import, and inactive until chosen."""

import subprocess
import sys
from pathlib import Path

import hydra
import pytest
from omegaconf import OmegaConf

from hydra_plugins.rarelab_ray import RayLauncher, _startable
from hydra_plugins.rarelab_submitit import SubmititLauncher
from rarelab.config import hydra_internals
from rarelab.config.check import check_leaf, parameters
from rarelab.config.components import load_target
from rarelab.errors import RarelabError, RequestError
from rarelab.paths import config_root
from test_in_flight import job

PLUGINS = Path(__file__).parent.parent / "src" / "hydra_plugins"
LEAVES = sorted((config_root() / "conf" / "hydra").glob("*/*.yaml"))


def test_importing_the_plugins_imports_no_engine() -> None:
    names = [f"hydra_plugins.{path.stem}" for path in PLUGINS.glob("*.py")]
    heavy = "{'ray', 'submitit', 'optuna', 'torch', 'mlflow', 'pandas'}"
    code = f"import sys, {', '.join(names)}; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_config_in_a_hydra_group_matches_its_plugins_signature(leaf: Path) -> None:
    content = OmegaConf.to_container(OmegaConf.load(leaf))
    assert isinstance(content, dict)
    group = f"hydra.{leaf.parent.name}"
    check_leaf(group, content, allow=[])
    target = load_target("_target_", content.pop("_target_"), group)
    assert {key for key in content if key != "_convert_"} == set(parameters(target))


def test_hydra_is_the_version_whose_internals_are_used(monkeypatch) -> None:
    assert hydra.__version__.startswith(f"{hydra_internals.MADE_FOR}.")
    monkeypatch.delattr(hydra_internals.ConfigLoaderImpl, "_apply_overrides_to_config")
    with pytest.raises(RarelabError, match=r"hydra-core .* pip install 'hydra-core~=1\.3"):
        hydra_internals.set_values(OmegaConf.create({}), [])
    with pytest.raises(RarelabError, match="its loader is a int"):
        hydra_internals.group_exists(1, "loss")  # type: ignore[arg-type]


def test_nothing_else_reaches_into_hydra() -> None:
    for path in PLUGINS.parent.rglob("*.py"):
        if path.name != "hydra_internals.py":
            assert "hydra._internal" not in path.read_text(encoding="utf-8"), path


@pytest.mark.slow  # needs Ray
def test_an_unreachable_cluster_is_refused_at_once() -> None:
    with pytest.raises(RequestError, match=r"hydra\.launcher\.address=127\.0\.0\.1:9: .*refused"):
        RayLauncher(address="127.0.0.1:9").run_jobs([job(0)], lambda result: True)


@pytest.mark.slow  # needs submitit
@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ({}, "srun"),
        ({"cluster": "local", "slurm": {"partitio": "gpu"}}, "partitio"),
        ({"cluster": "lokal"}, "lokal"),
    ],
)
def test_invalid_slurm_settings_are_refused(options: dict, answer: str, tmp_path) -> None:
    launcher = SubmititLauncher(folder=str(tmp_path), **options)
    with pytest.raises(RequestError, match=answer) as caught:
        launcher.run_jobs([job(0)], lambda result: True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("python", "asked", "given"),
    [
        (
            "/a b/python",
            {"working_dir": "."},
            {"working_dir": ".", "py_executable": "'/a b/python'"},
        ),
        ("/a/python", {"working_dir": "."}, {"working_dir": "."}),
        ("/a b/python", {"pip": ["x"]}, {"pip": ["x"]}),
        ("/a b/python", None, None),
    ],
)
def test_ray_gets_a_python_path_with_a_space_in_quotes(
    python: str, asked: dict | None, given: dict | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", python)
    assert _startable(asked) == given

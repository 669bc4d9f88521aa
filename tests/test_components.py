"""A config leaf may name only the components of its group, no other callable."""

import importlib
import inspect
import re
import typing
from importlib.util import find_spec
from pathlib import Path

import pytest
import sklearn
from sklearn.base import ClassifierMixin
from sklearn.utils import all_estimators
from torch import nn, optim

from rarelab.boosting.boosted import Boosted
from rarelab.config.check import check_leaf
from rarelab.config.components import components, is_component, load_target
from rarelab.config.groups import LEAVES
from rarelab.errors import RequestError
from rarelab.losses import LossWarmupWrapper, constant, plain_loss
from rarelab.models import Estimator
from rarelab.sweep.settings import Settings
from rarelab.tracking import MlflowSink, NoSink
from rarelab.training import Trainer

CLASSIFIERS = {made for _, made in all_estimators(type_filter="classifier")}
SOME_CLASSIFIERS = ("sklearn.svm.SVC", "sklearn.ensemble._forest.RandomForestClassifier")
PACKAGES = ("rarelab", "torch.nn", "torch.optim", "sklearn", "hydra_plugins")


def subclass(*bases: type):
    return lambda target: inspect.isclass(target) and issubclass(target, bases)


def makes_a_dataset(target) -> bool:
    made = target if inspect.isclass(target) else typing.get_type_hints(target)["return"]
    return all(callable(getattr(made, name)) for name in ("identity", "splits"))


KIND = {
    "dataset": makes_a_dataset,
    "model": subclass(nn.Module, Estimator, Boosted, ClassifierMixin),
    "loss": lambda target: subclass(nn.Module)(target) or target is plain_loss,
    "warmup_loss": lambda target: subclass(nn.Module)(target) or target is plain_loss,
    "schedule": lambda target: target in (LossWarmupWrapper, constant),
    "optimizer": subclass(optim.Optimizer),
    "lr_schedule": subclass(optim.lr_scheduler.LRScheduler),
    "sampler": lambda target: inspect.isclass(target) and hasattr(target, "expected_uses"),
    "trainer": lambda target: target is Trainer,
    "tracking": lambda target: target in (MlflowSink, NoSink),
    "sweep": lambda target: target is Settings,
}


@pytest.fixture(scope="module")
def names() -> set[str]:
    """``module.name`` for every identifier in a module's source, private and imported included."""
    found: set[str] = set()
    for package in PACKAGES:
        spec = find_spec(package)
        assert spec is not None and spec.submodule_search_locations
        for folder in map(Path, spec.submodule_search_locations):
            for path in folder.rglob("*.py"):
                parts = path.relative_to(folder).with_suffix("").parts
                module = ".".join([package, *(part for part in parts if part != "__init__")])
                words = re.findall(r"\b[A-Za-z_]\w*\b", path.read_text(encoding="utf-8"))
                found |= {f"{module}.{word}" for word in set(words)}
    return found


@pytest.mark.parametrize("group", KIND)
def test_a_group_accepts_only_its_components_of_all_names_in_our_libraries(
    names: set[str], group: str
) -> None:
    assert len(names) > 100_000
    accepted = {path for path in names if is_component(path, group)}
    assert accepted
    for path in accepted:
        target = load_target("_target_", path, group)
        assert KIND[group](target), path
        allowed = ("rarelab.", "torch.nn.modules.", "torch.optim")
        assert target.__module__.startswith(allowed) or target in CLASSIFIERS, path


def test_every_classifier_of_scikit_learn_is_a_model_and_none_of_its_other_callables_is() -> None:
    """By the name under which it is public; the walk above covers every other name."""
    public = set()
    for module in sorted(module for module in dir(sklearn) + sklearn.__all__ if module[0] != "_"):
        if find_spec(f"sklearn.{module}") is None:
            continue
        found = importlib.import_module(f"sklearn.{module}")
        for name in [name for name in dir(found) if callable(getattr(found, name))]:
            if is_component(f"sklearn.{module}.{name}", "model"):
                public.add(getattr(found, name))
                assert getattr(found, name) in CLASSIFIERS, f"sklearn.{module}.{name}"
    assert public == CLASSIFIERS
    for group in set(KIND) - {"model"}:
        assert not any(is_component(path, group) for path in SOME_CLASSIFIERS)


def test_every_group_is_tested() -> None:
    assert set(KIND) == set(LEAVES)
    assert not components("paths")


@pytest.mark.parametrize(
    ("group", "path"),
    [
        ("model", "sklearn.utils._testing.assert_run_python_script_without_output"),
        ("model", "sklearn.linear_model.LinearRegression"),
        ("model", "sklearn.base.ClassifierMixin"),
        ("model", "sklearn.calibration.LinearSVC"),
        ("model", "sklearn.pipeline.Pipeline"),
        ("model", "sklearn.model_selection.GridSearchCV"),
        ("model", "sklearn.linear_model.LogisticRegression.fit"),
        ("loss", "sklearn.linear_model.LogisticRegression"),
        ("model", "rarelab.cli.main"),
        ("model", "rarelab.__main__.main"),
        ("model", "rarelab.losses.SmoothAPLoss"),
        ("model", "torch.nn.Module"),
        ("model", "torch.nn.DataParallel"),
        ("model", "torch.nn.utils.parametrize.register_parametrization"),
        ("model", "torch.nn.functional.torch.hub.load"),
        ("loss", "torch.nn.Linear"),
        ("dataset", "rarelab.data.archives.fetch.extract"),
        ("optimizer", "torch.optim.swa_utils.AveragedModel"),
        ("tracking", "rarelab.tracking.sync"),
        ("hydra.launcher", "os.system"),
        ("hydra.launcher", "hydra_plugins.rarelab_sweeper.RarelabSweeper"),
        ("nowhere", "rarelab.models.MLP"),
        ("model", None),
        ("model", ["rarelab.models.MLP"]),
        ("model", ""),
    ],
)
def test_a_target_that_is_not_a_component_is_refused_by_name(group: str, path) -> None:
    with pytest.raises(RequestError, match=f"is not a {group}"):
        load_target(f"{group}._target_", path, group)


@pytest.mark.parametrize(
    ("group", "path"),
    [
        ("model", "torch.nn.Linear"),
        ("model", "torch.nn.modules.linear.Linear"),
        *(("model", path) for path in SOME_CLASSIFIERS),
        ("loss", "torch.nn.BCEWithLogitsLoss"),
        ("warmup_loss", "rarelab.losses.SigmoidFocalLoss"),
        ("optimizer", "torch.optim.RMSprop"),
        ("lr_schedule", "torch.optim.lr_scheduler.OneCycleLR"),
    ],
)
def test_a_class_of_a_library_needs_no_leaf(group: str, path: str) -> None:
    assert load_target("_target_", path, group).__name__ == path.rpartition(".")[2]


def test_a_leaf_inside_a_leaf_follows_the_same_rule() -> None:
    inner = {"_target_": "torch.nn.ReLU"}
    leaf = {"_target_": "torch.nn.ModuleList", "modules": [inner]}
    check_leaf("model", leaf, allow=[])
    inner["_target_"] = "rarelab.cli.main"
    with pytest.raises(RequestError, match=r"^model\.modules\.0\._target_: .* is not a model of"):
        check_leaf("model", leaf, allow=[])
    with pytest.raises(RequestError, match="no such parameter"):
        check_leaf("model", {"_target_": "torch.nn.Sequential", "_args_": [inner]}, allow=[])


def test_a_trusted_module_allows_only_its_own_classes(tmp_path: Path, monkeypatch) -> None:
    lines = ["import os", "from torch.nn import Linear, Module", "class Own(Module): pass"]
    (tmp_path / "trusted_part.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    for name, fine in [("Own", True), ("Linear", True), ("os.system", False), ("os", False)]:
        path = f"trusted_part.{name}"
        if fine:
            found = load_target("k", path, "model", allow=["trusted_part"])
            assert inspect.isclass(found) and issubclass(found, nn.Module)
            continue
        with pytest.raises(RequestError, match="is not a model"):
            load_target("k", path, "model", allow=["trusted_part"])

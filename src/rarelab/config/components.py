"""Which classes and functions each configuration group may name in a ``_target_``.

A leaf may come from a record, a model folder or a server, so its author may not be trusted. A group
accepts the targets of its own shipped leaves, the classes of torch and scikit-learn in
:data:`LIBRARIES`, and anything from modules that the user trusts (``allow_targets``). Anything else
is refused by name, before its module is imported.
"""

import difflib
import functools
import importlib
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from rarelab.config.groups import LEAVES
from rarelab.errors import RequestError, nearest
from rarelab.paths import config_root


class Library(NamedTuple):
    """The subclasses of ``base`` that are public in ``module`` and defined below ``home``."""

    module: str
    base: str
    home: str

    def may_hold(self, path: str) -> bool:
        """Whether the path is below this library, whose module may then be imported to look."""
        return path.startswith((f"{self.module}.", f"{self.home}."))


_LAYERS = Library("torch.nn", "torch.nn.Module", home="torch.nn.modules")
_CRITERIA = Library("torch.nn", "torch.nn.Module", home="torch.nn.modules.loss")
_OPTIMIZERS = Library("torch.optim", "torch.optim.Optimizer", home="torch.optim")
_LR_SCHEDULES = Library(
    "torch.optim.lr_scheduler",
    "torch.optim.lr_scheduler.LRScheduler",
    home="torch.optim.lr_scheduler",
)
_CLASSIFIERS = tuple(
    Library(f"sklearn.{name}", "sklearn.base.ClassifierMixin", home=f"sklearn.{name}")
    for name in (
        *("calibration", "discriminant_analysis", "dummy", "ensemble", "gaussian_process"),
        *("linear_model", "model_selection", "multiclass", "multioutput", "naive_bayes"),
        *("neighbors", "neural_network", "semi_supervised", "svm", "tree"),
    )
)

LIBRARIES: dict[str, tuple[Library, ...]] = {
    "model": (_LAYERS, *_CLASSIFIERS),
    "loss": (_CRITERIA,),
    "warmup_loss": (_CRITERIA,),
    "optimizer": (_OPTIMIZERS,),
    "lr_schedule": (_LR_SCHEDULES,),
}
"""Group -> the classes it accepts besides its own leaves."""

_GROUPS = (*LEAVES, "hydra.launcher", "hydra.sweeper")

_LEAVES = {
    "loss": ("loss", "warmup_loss"),
    "warmup_loss": ("loss", "warmup_loss"),
}
"""Groups that share their leaves: any loss may be the warmup of another."""


@functools.cache
def components(group: str) -> frozenset[str]:
    """The dotted paths that the group's leaves may name; empty for an unknown group."""
    if group not in _GROUPS:
        return frozenset()
    return _leaves(group).union(*map(_subclasses, LIBRARIES.get(group, ())))


def is_component(path: Any, group: str, allow: Iterable[str] = ()) -> bool:
    """Whether the group accepts the path, judged by name: nothing that the path names is imported,
    at most the public module of a library."""
    if not isinstance(path, str) or group not in _GROUPS:
        return False
    libraries = [library for library in LIBRARIES.get(group, ()) if library.may_hold(path)]
    known = path in _leaves(group) or any(path in _subclasses(library) for library in libraries)
    return known or path.startswith(_own(allow))


def load_target(key: str, path: str, group: str, *, allow: Iterable[str] = ()) -> Callable:
    """The class or function at a dotted path, if the group accepts it.

    Args:
        key: the path's key, for the message (``loss._target_``).
        path: ``module.name``.
        group: the group that the leaf belongs to, at any depth.
        allow: prefixes of the user's own modules. Anything such a module merely imports is judged
            by where it was defined: ``mine.os.system`` is ``os.system``.

    Raises:
        RequestError: with the name of the nearest component.
    """
    if not is_component(path, group, allow):
        raise _refused(key, path, group)
    target = _locate(key, path)
    if not is_component(path, group):
        home = f"{getattr(target, '__module__', '')}.{getattr(target, '__qualname__', '')}"
        if not callable(target) or not is_component(home, group, allow):
            raise _refused(key, path, group)
    return target


def _own(allow: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{name.rstrip('.')}." for name in allow if name.strip("."))


@functools.cache
def _leaves(group: str) -> frozenset[str]:
    folders = _LEAVES.get(group, (group,))
    return frozenset(path for folder in folders for path in _shipped(folder))


def _shipped(group: str) -> list[str]:
    """The targets of the leaves in ``conf/<group>/``."""
    folder = Path(config_root(), "conf", *group.split("."))
    leaves = [yaml.safe_load(leaf.read_text(encoding="utf-8")) for leaf in folder.glob("*.yaml")]
    return [leaf["_target_"] for leaf in leaves if leaf and "_target_" in leaf]


@functools.cache
def _subclasses(library: Library) -> frozenset[str]:
    """Each class under its public name and under its defining module."""
    module = importlib.import_module(library.module)
    parent, _, name = library.base.rpartition(".")
    base = getattr(importlib.import_module(parent), name)
    found = []
    for name, value in vars(module).items():
        if name.startswith("_") or not inspect.isclass(value) or value is base:
            continue
        if issubclass(value, base) and f"{value.__module__}.".startswith(f"{library.home}."):
            found += [f"{library.module}.{name}", f"{value.__module__}.{value.__qualname__}"]
    return frozenset(found)


def _refused(key: str, path: Any, group: str) -> RequestError:
    names = components(group)
    if group.startswith("hydra."):
        return RequestError(f"{key}: {path!r} is not a {group}; {nearest(str(path), names)}")
    close = difflib.get_close_matches(str(path), sorted(names), n=1, cutoff=0.8)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    owners = "rarelab, torch or scikit-learn" if group == "model" else "rarelab or torch"
    return RequestError(
        f"{key}: {path!r} is not a {group} of {owners}{hint} "
        "(for one of your own, name its module in allow_targets=[...])"
    )


def _locate(key: str, path: str) -> Any:
    parts = path.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:cut])
        try:
            found: Any = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name and f"{module}.".startswith(f"{error.name}."):
                continue
            raise RequestError(f"{key}: importing {module!r} failed: {error}") from error
        for part in parts[cut:]:
            if not hasattr(found, part):
                names = [name for name in vars(found) if not name.startswith("_")]
                raise RequestError(f"{key}: {path!r} does not exist; {nearest(part, names)}")
            found = getattr(found, part)
        return found
    raise RequestError(f"{key}: no module named {parts[0]!r} (is it in this folder?)")

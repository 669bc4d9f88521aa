"""The identity of a job: its resolved configuration, its code and its data."""

import ast
import contextlib
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rarelab.config.groups import FREE, identity

_PACKAGE = "rarelab"
_ALWAYS = ("rarelab.runs.run",)
"""Every job starts here; the code that prepares, trains, evaluates and records it is imported from
here."""

_IN_A_BATCH = "rarelab.runs.together.run_together"
"""Where a job that trains in a batch starts besides."""

_NOT_FOLLOWED = (
    *("rarelab.runs.console", "rarelab.runs.summary", "rarelab.training.progress"),
    *("rarelab.figures", "rarelab.paths", "rarelab.tracking", "rarelab.predict", "rarelab.sweep"),
    *("rarelab.processes.place", "rarelab.processes.fork", "rarelab.runs.interruption"),
)
"""Modules that display a run, store or transfer its results, or start and interrupt its processes:
editing them changes no recorded number."""

_LEFT_OUT = tuple(f"{name}." for name in _NOT_FOLLOWED)

_LIBRARIES = ("torch", "numpy", "scipy", "pandas", "scikit-learn")
_ONLY_FOR = {
    "rarelab.boosting.catboost": ("catboost",),
    "rarelab.boosting.lightgbm": ("lightgbm",),
    "rarelab.boosting.xgboost": ("xgboost", "xgboost-cpu"),
}
"""Module -> the library that counts for jobs that use it, by the names of its distributions."""


def signature(cfg: DictConfig | Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the parts of the resolved configuration that define the job, not how it is
    recorded.

    Checkpoint settings are not part of it: a resumed run ends with the same bits.
    """
    found = _identity(cfg)
    for key, names in FREE.items():
        if isinstance(found.get(key), dict):
            found[key] = {n: value for n, value in found[key].items() if n not in names}
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def code_fingerprint(targets: Iterable[str]) -> str:
    """One digest of :func:`code_modules`."""
    return fingerprint(code_modules(targets))


def fingerprint(modules: Mapping[str, str]) -> str:
    """SHA-256 (hex) of the result of :func:`code_modules`."""
    return hashlib.sha256(json.dumps(modules, sort_keys=True).encode()).hexdigest()


def code_modules(targets: Iterable[str]) -> dict[str, str]:
    """Module -> SHA-256 (hex) of its source, for all code that a job's results depend on.

    Included: everything that affects a recorded number, i.e. the modules of the ``targets`` and of
    a run (:mod:`rarelab.runs.run`: prepare, train, evaluate, record), and whatever they import from
    this package or the user's own modules.

    Excluded: code that only displays, stores or starts a run (console, figures, tracking, the
    bundle for ``rarelab predict``, the sweep around the job). Numerical libraries (torch, numpy,
    scipy, pandas, scikit-learn; a booster for the jobs that use it) count by version, other
    libraries not at all.
    """
    modules: dict[str, str] = {}
    pending = [*_ALWAYS, *(_module_of(target) for target in targets)]
    while pending:
        name = pending.pop()
        if name not in modules and _is_followed(name):
            modules[name] = hashlib.sha256(_source(name)).hexdigest()
            pending += _imports(name)
    used = [(name,) for name in _LIBRARIES]
    used += [names for module, names in _ONLY_FOR.items() if module in modules]
    libraries = {f"{names[0]} (version)": _version(*names) for names in used}
    return dict(sorted(modules.items())) | libraries


def _version(*names: str) -> str:
    """The version of the first distribution that is installed."""
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return "not installed"


def targets_in(cfg: DictConfig | Mapping[str, Any]) -> list[str]:
    """Every ``_target_`` in a configuration, at any depth, sorted; and what trains it in a batch,
    if it is to be."""

    def walk(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            if isinstance(node.get("_target_"), str):
                yield node["_target_"]
            for value in node.values():
                yield from walk(value)
        elif isinstance(node, list):
            for value in node:
                yield from walk(value)

    plain = _identity(cfg)
    return sorted({*walk(plain), *([_IN_A_BATCH] if "batched" in plain else [])})


def _identity(cfg: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(cfg, resolve=True) if OmegaConf.is_config(cfg) else cfg
    return identity(plain)


def _module_of(target: str) -> str:
    module, _, name = target.rpartition(".")
    return getattr(getattr(importlib.import_module(module), name), "__module__", module)


def _source(name: str) -> bytes:
    return Path(_file(name)).read_bytes()


def _is_followed(name: str) -> bool:
    """Whether a module is part of this package or the user's own (not in site-packages)."""
    if name == _PACKAGE or name.startswith(f"{_PACKAGE}."):
        return not f"{name}.".startswith(_LEFT_OUT) and bool(_file(name))
    if name.partition(".")[0] in sys.stdlib_module_names:
        return False
    return bool(_file(name)) and "site-packages" not in Path(_file(name)).parts


def _file(name: str) -> str:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return ""
    origin = spec.origin if spec else None
    return origin if origin and origin.endswith(".py") else ""


@functools.cache
def _imports(name: str) -> list[str]:
    """The followed modules imported by a module's source."""
    found: list[str] = []
    for node in ast.walk(ast.parse(_source(name))):
        if isinstance(node, ast.ImportFrom):
            module = _absolute(node, name)
            if module and _is_followed(module):
                found += [_defining_module(module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if _is_followed(alias.name)]
    return found


def _absolute(node: ast.ImportFrom, name: str) -> str:
    if not node.level:
        return node.module or ""
    package = getattr(sys.modules.get(name), "__package__", None) or name.rpartition(".")[0]
    return importlib.util.resolve_name("." * node.level + (node.module or ""), package)


def _defining_module(module: str, name: str) -> str:
    """The module that defines a name; a package that re-exports it would pull in the siblings."""
    if not _file(module).endswith("__init__.py"):
        return module
    value = getattr(importlib.import_module(module), name, None)
    if value is None:
        return f"{module}.{name}"
    if hasattr(value, "__path__") or hasattr(value, "__spec__"):
        return value.__name__
    home = getattr(value, "__module__", module)
    return home if isinstance(home, str) and _is_followed(home) else module

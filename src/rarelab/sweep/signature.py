"""What makes two jobs the same job: their resolved configuration, their code and their data."""

import ast
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

_NOT_IDENTITY = ("paths", "tracking", "sweep", "hydra", "debug")
_NOT_IDENTITY_IN = {"trainer": ("checkpoint_every", "resume")}
_PACKAGE = "rarelab"
_ALWAYS = ("rarelab.build", "rarelab.training.loop", "rarelab.metrics", "rarelab.streams")
_LIBRARIES = ("torch", "numpy", "scikit-learn")


def signature(cfg: DictConfig) -> str:
    """SHA-256 (hex) of the resolved configuration without where and how it is recorded.

    Where and how often checkpoints are written is no part of it: a run goes on to the same bits.
    """
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    identity = {key: value for key, value in plain.items() if key not in _NOT_IDENTITY}
    for key, names in _NOT_IDENTITY_IN.items():
        if isinstance(identity.get(key), dict):
            identity[key] = {n: value for n, value in identity[key].items() if n not in names}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def code_fingerprint(targets: Iterable[str]) -> str:
    """SHA-256 (hex) of the source of the modules that define what a job uses.

    The modules of the ``targets`` and of the training loop are followed through the imports that
    stay inside this package; the versions of torch, numpy and scikit-learn are part of it. A
    target outside the package contributes its own module's source alone.
    """
    modules: set[str] = set()
    pending = [*_ALWAYS, *(_module_of(target) for target in targets)]
    while pending:
        name = pending.pop()
        if name not in modules:
            modules.add(name)
            pending += _imports(name)
    digest = hashlib.sha256()
    for name in sorted(modules):
        digest.update(f"{name}\0".encode() + _source(name))
    for library in _LIBRARIES:
        digest.update(f"{library}=={importlib.metadata.version(library)}\0".encode())
    return digest.hexdigest()


def targets_in(cfg: DictConfig) -> list[str]:
    """Every ``_target_`` of a configuration, however deep, sorted."""

    def walk(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            if isinstance(node.get("_target_"), str):
                yield node["_target_"]
            for value in node.values():
                yield from walk(value)
        elif isinstance(node, list):
            for value in node:
                yield from walk(value)

    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    identity = {key: value for key, value in plain.items() if key not in _NOT_IDENTITY}
    return sorted(set(walk(identity)))


def _module_of(target: str) -> str:
    module, _, name = target.rpartition(".")
    return getattr(getattr(importlib.import_module(module), name), "__module__", module)


def _source(name: str) -> bytes:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return b""
    if _is_ours(name) or not _is_installed(spec.origin):
        return Path(spec.origin).read_bytes()
    return b""


def _is_ours(name: str) -> bool:
    return name == _PACKAGE or name.startswith(f"{_PACKAGE}.")


def _is_installed(origin: str) -> bool:
    return "site-packages" in Path(origin).parts


@functools.cache
def _imports(name: str) -> list[str]:
    """The modules of this package that a module's own text imports."""
    if not _is_ours(name):
        return []
    found: list[str] = []
    for node in ast.walk(ast.parse(_source(name))):
        if isinstance(node, ast.ImportFrom) and node.module and _is_ours(node.module):
            found += [_defining_module(node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if _is_ours(alias.name)]
    return found


def _defining_module(module: str, name: str) -> str:
    """A package that re-exports a name does not define it: its siblings must not count."""
    value = getattr(importlib.import_module(module), name, None)
    if value is None:
        return f"{module}.{name}"
    if hasattr(value, "__path__") or hasattr(value, "__spec__"):
        return value.__name__
    home = getattr(value, "__module__", module)
    return home if isinstance(home, str) and _is_ours(home) else module

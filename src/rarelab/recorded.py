"""A configuration that comes with a run's record: someone else may have written it."""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from rarelab.errors import RequestError, nearest
from rarelab.paths import config_root

HIDDEN = "***"
"""What stands in a record in place of a secret."""


def recorded_config(path: Path, allow: Sequence[str] = ()) -> dict[str, Any]:
    """The plain configuration in a record's ``config.yaml``.

    A target must be one that the shipped configuration names, or come from a module in ``allow``:
    the record's own ``allow_targets`` does not count, since whoever wrote it is not the one who
    trusts. Interpolations, which could read this machine's environment, are refused; a record is
    resolved.

    Raises:
        RequestError: the file is no configuration, or asks for what a record may not ask for.
    """
    try:
        plain: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        reason = str(error).strip().splitlines()[0]
        raise RequestError(f"{path} is no configuration of a run: {reason}") from None
    if not isinstance(plain, dict) or "dataset" not in plain:
        raise RequestError(f"{path} is no configuration of a run: it names no dataset")
    for key, value in _leaves(plain):
        if "_target_" in key.split("."):
            _check_target(path, key, value, allow)
        elif isinstance(value, str) and "${" in value:
            raise RequestError(f"{path}: {key}={value}: a record holds no interpolations")
    return plain | {"allow_targets": list(allow)}


def hidden_keys(plain: dict[str, Any]) -> list[str]:
    """The keys whose value was a secret when the record was written."""
    return [key for key, value in _leaves(plain) if isinstance(value, str) and HIDDEN in value]


def _check_target(path: Path, key: str, target: Any, allow: Sequence[str]) -> None:
    mine = tuple(f"{name.rstrip('.')}." for name in allow)
    if isinstance(target, str) and (target in _shipped() or (mine and target.startswith(mine))):
        return
    raise RequestError(
        f"{path}: {key}={target}: a record may name the shipped targets alone "
        f"({nearest(str(target), _shipped())}); allow_targets=[...] trusts a module of yours"
    )


@cache
def _shipped() -> frozenset[str]:
    """Every target that the shipped configuration names."""
    files = sorted((config_root() / "conf").rglob("*.yaml"))
    leaves: list[Any] = [OmegaConf.load(path) for path in files]
    targets = {leaf.get("_target_") for leaf in leaves if OmegaConf.is_dict(leaf)}
    return frozenset(str(target) for target in targets if target)


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _leaves(value, f"{prefix}.{index}")
    else:
        yield prefix, node

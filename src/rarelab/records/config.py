"""A configuration that comes with a run's record: someone else may have written it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from rarelab.config.check import check_plain, leaves
from rarelab.config.components import is_component
from rarelab.errors import RequestError

HIDDEN = "***"
"""What stands in a record in place of a secret."""


def recorded_config(path: Path, allow: Sequence[str] = ()) -> dict[str, Any]:
    """The plain configuration in a record's ``config.yaml``.

    A target must be a component of its group, or come from a module in ``allow``: the record's own
    ``allow_targets`` does not count, since whoever wrote it is not the one who trusts.
    Interpolations, which could read this machine's environment, are refused; a record is resolved.

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
    for key, value in leaves(plain):
        if "_target_" in key.split(".") and not is_component(value, key.split(".")[0], allow):
            raise RequestError(
                f"{path}: {key}={value}: a record may name components of its group alone; "
                "allow_targets=[...] trusts a module of yours"
            )
    try:
        check_plain("", plain)
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from None
    return plain | {"allow_targets": list(allow)}


def hidden_keys(plain: dict[str, Any]) -> list[str]:
    """The keys whose value was a secret when the record was written."""
    return [key for key, value in leaves(plain) if isinstance(value, str) and HIDDEN in value]

"""The configuration in a run's record, which is untrusted: anyone may have written it."""

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
"""What replaces a secret in a record."""


def recorded_config(path: Path, allow: Sequence[str] = ()) -> dict[str, Any]:
    """The plain configuration in a record's ``config.yaml``.

    A target must be a component of its group or come from a module in ``allow``. The record's own
    ``allow_targets`` is ignored: trust is the caller's to give, not the record's. Interpolations
    could read this machine's environment and are refused; a genuine record is already resolved.

    Raises:
        RequestError: the file is not a run configuration, or has a target or value that is refused.
    """
    try:
        plain: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        reason = str(error).strip().splitlines()[0]
        raise RequestError(f"{path} is not a run configuration: {reason}") from None
    if not isinstance(plain, dict) or "dataset" not in plain:
        raise RequestError(f"{path} is not a run configuration: it names no dataset")
    for key, value in leaves(plain):
        if "_target_" in key.split(".") and not is_component(value, key.split(".")[0], allow):
            raise RequestError(
                f"{path}: {key}={value}: a record may only name components of its group; "
                "trust a module of your own with allow_targets=[...]"
            )
    try:
        check_plain("", plain)
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from None
    return plain | {"allow_targets": list(allow)}


def hidden_keys(plain: dict[str, Any]) -> list[str]:
    """The keys whose value was a secret when the record was written."""
    return [key for key, value in leaves(plain) if isinstance(value, str) and HIDDEN in value]

"""What of a configuration takes no part in its run: an estimator fits itself."""

import importlib
from collections.abc import Mapping
from typing import Any

GRADIENT = ("loss", "warmup_loss", "schedule", "optimizer", "lr_schedule")
"""The groups that only a model trained by gradient steps uses."""


def unused(plain: Mapping[str, Any]) -> tuple[str, ...]:
    """The groups of a resolved configuration that its model does not use."""
    return GRADIENT if _fits_itself(plain.get("model")) else ()


def _fits_itself(leaf: Any) -> bool:
    if not isinstance(leaf, Mapping) or "_target_" not in leaf:
        return False
    from rarelab.models import Estimator

    module, _, name = str(leaf["_target_"]).rpartition(".")
    target = getattr(importlib.import_module(module), name, None)
    return isinstance(target, type) and issubclass(target, Estimator)

"""The table of the configuration's top-level keys: what each one is to a run and to a sweep.

A new group of the configuration is one row here, beside its folder ``conf/<name>/`` and its line in
``conf/train.yaml``. Every list of keys elsewhere is derived from this table.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["run", "repetition", "trust", "record", "sweep", "preset"]
"""What a key is:

- ``run``: part of what a run is, and of the arm that it belongs to.
- ``repetition``: part of what a run is; runs that differ in nothing else repeat one arm.
- ``trust``: what the configuration may name; part of the signature, of no arm.
- ``record``: where a run is recorded, no part of what it is.
- ``sweep``: how jobs are carried out, no part of any job.
- ``preset``: chooses and sets other keys, and is none itself.
"""


@dataclass(frozen=True)
class Group:
    """A top-level key of the configuration.

    Args:
        name: the key.
        role: see :data:`Role`.
        holds: the type of its value; None for a leaf, that is a ``_target_`` with its parameters.
        gradient: only a model that is trained by gradient steps uses it.
        may_be_empty: its leaf may have no target, which builds nothing.
        free: keys of its leaf that change no recorded number, so that they are no part of the run.
    """

    name: str
    role: Role = "run"
    holds: Any = None
    gradient: bool = False
    may_be_empty: bool = False
    free: tuple[str, ...] = ()

    @property
    def is_leaf(self) -> bool:
        return self.holds is None and self.role != "preset" and self.name != "hydra"


GROUPS = (
    Group("dataset"),
    Group("model"),
    Group("loss", gradient=True),
    Group("warmup_loss", gradient=True),
    Group("schedule", gradient=True),
    Group("optimizer", gradient=True),
    Group("lr_schedule", gradient=True, may_be_empty=True),
    Group("sampler"),
    Group("trainer", free=("checkpoint_every", "resume")),
    Group("tracking", "record"),
    Group("sweep", "sweep"),
    Group("seed", "repetition", holds=int),
    Group("allow_targets", "trust", holds=list[str]),
    Group("paths", "record", holds=dict[str, str | None]),
    Group("calibration", holds=Literal["none", "platt", "isotonic"]),
    Group("costs", holds=list[list[float]] | None),
    Group("hydra", "sweep"),
    Group("debug", "preset"),
    Group("experiments", "preset"),
)


def named(*roles: Role) -> tuple[str, ...]:
    """The keys of some roles, in the order of the table."""
    return tuple(group.name for group in GROUPS if group.role in roles)


LEAVES = tuple(group.name for group in GROUPS if group.is_leaf)
"""The groups whose leaf is a ``_target_`` with its parameters."""

VALUES = {group.name: group.holds for group in GROUPS if group.holds is not None}
"""The keys that hold a plain value -> its type."""

NEEDED = tuple(group.name for group in GROUPS if group.is_leaf and not group.may_be_empty)
"""The groups without whose component there is no run."""

GRADIENT = tuple(group.name for group in GROUPS if group.gradient)
"""The groups that only a model trained by gradient steps uses."""

NOT_OF_A_RUN = named("record", "sweep", "preset")
"""No part of what a run is: of its signature, its parameters, its arm."""

NOT_OF_A_JOB = named("sweep")
"""What says how jobs are carried out, not what they are."""

OF_A_SWEEP = named("trust", "record", "sweep", "preset")
"""What the sweep itself reads, besides its jobs."""

MAKES_A_SWEEP = named("sweep", "preset")
"""What may make a sweep of a request."""

FREE = {group.name: group.free for group in GROUPS if group.free}
"""Group -> the keys of its leaf that are no part of the run."""

NOT_OF_AN_ARM = (
    *named("repetition", "trust"),
    *(f"{group}.{key}" for group, keys in FREE.items() for key in keys),
)
"""Recorded keys that tell no arms apart."""


def first_key(key: str) -> str:
    """The top-level key of a dotted key or of a group's path: ``hydra/launcher`` -> ``hydra``."""
    return key.replace("/", ".").partition(".")[0]


def unused(plain: Mapping[str, Any]) -> tuple[str, ...]:
    """The groups of a resolved configuration that its model does not use: an estimator fits itself,
    without loss or optimizer."""
    return GRADIENT if _fits_itself(plain.get("model")) else ()


def identity(plain: Mapping[str, Any]) -> dict[str, Any]:
    """What of a resolved configuration makes the run what it is."""
    left_out = (*NOT_OF_A_RUN, *unused(plain))
    return {key: value for key, value in plain.items() if key not in left_out}


def _fits_itself(leaf: Any) -> bool:
    if not isinstance(leaf, Mapping) or "_target_" not in leaf:
        return False
    from rarelab.models import Estimator

    module, _, name = str(leaf["_target_"]).rpartition(".")
    target = getattr(importlib.import_module(module), name, None)
    return isinstance(target, type) and issubclass(target, Estimator)

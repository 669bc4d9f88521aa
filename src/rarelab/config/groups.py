"""The table of top-level configuration keys, and the role of each in a run and a sweep.

A new configuration group takes one row here, its folder ``conf/<name>/`` and a line in
``conf/train.yaml``. All other lists of keys are derived from this table.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["run", "repetition", "trust", "record", "sweep", "preset"]
"""The role of a key:

- ``run``: part of a run's identity and of its arm.
- ``repetition``: part of a run's identity; runs that differ only here are repetitions of one arm.
- ``trust``: what the configuration may name; part of a run's signature, but not of its arm.
- ``record``: where a run is recorded; not part of its identity.
- ``sweep``: how jobs are run; not part of any job.
- ``preset``: sets other keys; not recorded itself.
"""


@dataclass(frozen=True)
class Group:
    """A top-level key of the configuration.

    Args:
        name: the key.
        role: see :data:`Role`.
        holds: the type of its value; None for a leaf, i.e. a ``_target_`` with its parameters.
        gradient: used only by models trained on a loss.
        stepped: used only by models whose weights an optimiser steps.
        may_be_empty: its leaf may have no target and builds nothing then.
        free: keys of its leaf that change no recorded number and do not identify the run.
        later: keys of its leaf that earlier records lack, each with the value that means what
            those runs did; a mapping of nulls counts as null.
        own: keys of its leaf that identify the run but not its arm: filled in, run by run.
        added: earlier records lack the key itself; null means what those runs did.
    """

    name: str
    role: Role = "run"
    holds: Any = None
    gradient: bool = False
    stepped: bool = False
    may_be_empty: bool = False
    free: tuple[str, ...] = ()
    later: Mapping[str, Any] = field(default_factory=dict)
    own: tuple[str, ...] = ()
    added: bool = False

    @property
    def is_leaf(self) -> bool:
        return self.holds is None and self.role != "preset" and self.name != "hydra"


_READ_AS_BEFORE = {
    **dict.fromkeys(("csv", "sql", "uri", "positive_if", "amount")),
    "unlabelled": "refuse",
    "keep": [],
    "scores": [],
    "weigh_metrics": False,
}

_SPLIT_AS_BEFORE = {
    **dict.fromkeys(("split", "test_share", "val_share", "origins")),
    "folds": 5,
}

_ENCODED_AS_BEFORE = {
    "high_cardinality": "onehot",
    "hash_buckets": 128,
    "dates": "levels",
    "text": "levels",
    "text_columns": None,
    "text_components": 30,
}

_TRAINED_AS_BEFORE = {"min_steps": None, "select_by": "val/aucpr"}

_EMBEDDED_AS_BEFORE = {
    **dict.fromkeys(("num_embeddings", "embedding_size", "bin_edges")),
    **dict.fromkeys(("cat_embeddings", "one_hot", "codes")),
    "categories": "onehot",
    "embedding_bins": 48,
}

GROUPS = (
    Group("dataset", later=_READ_AS_BEFORE | _SPLIT_AS_BEFORE | _ENCODED_AS_BEFORE),
    Group("model", later=_EMBEDDED_AS_BEFORE, own=("members",)),
    Group("loss", gradient=True),
    Group("warmup_loss", gradient=True),
    Group("schedule", gradient=True),
    Group("optimizer", gradient=True, stepped=True),
    Group("lr_schedule", gradient=True, stepped=True, may_be_empty=True),
    Group("sampler"),
    Group("trainer", free=("checkpoint_every", "resume"), later=_TRAINED_AS_BEFORE),
    Group("tracking", "record"),
    Group("sweep", "sweep"),
    Group("seed", "repetition", holds=int),
    Group("allow_targets", "trust", holds=list[str]),
    Group("paths", "record", holds=dict[str, str | None]),
    Group("calibration", holds=Literal["none", "platt", "isotonic"]),
    Group("costs", holds=Any),
    Group("budget", holds=Any, added=True),
    Group("threshold", holds=Any, added=True),
    Group("hydra", "sweep"),
    Group("debug", "preset"),
    Group("experiments", "preset"),
)


def named(*roles: Role) -> tuple[str, ...]:
    """The keys with the given roles, in table order."""
    return tuple(group.name for group in GROUPS if group.role in roles)


LEAVES = tuple(group.name for group in GROUPS if group.is_leaf)
"""The groups that hold a leaf, i.e. a ``_target_`` with its parameters."""

VALUES = {group.name: group.holds for group in GROUPS if group.holds is not None}
"""The keys that hold a plain value -> its type."""

NEEDED = tuple(group.name for group in GROUPS if group.is_leaf and not group.may_be_empty)
"""The groups that every run needs a component of."""

GRADIENT = tuple(group.name for group in GROUPS if group.gradient)
"""The groups used only by models trained on a loss."""

STEPPED = tuple(group.name for group in GROUPS if group.stepped)
"""The groups used only by models whose weights an optimiser steps."""

NOT_OF_A_RUN = named("record", "sweep", "preset")
"""The keys that do not identify a run: not part of its signature, parameters or arm."""

NOT_OF_A_JOB = named("sweep")
"""The keys that control how jobs are run, not what they are."""

OF_A_SWEEP = named("trust", "record", "sweep", "preset")
"""The keys read by the sweep itself, besides its jobs."""

MAKES_A_SWEEP = named("sweep", "preset")
"""The keys that can turn a request into a sweep."""

ADDED = tuple(group.name for group in GROUPS if group.added)
"""The keys that earlier records lack; null means what those runs did."""

FREE = {group.name: group.free for group in GROUPS if group.free}
"""Group -> the keys of its leaf that do not identify the run."""

OWN = tuple(f"{group.name}.{key}" for group in GROUPS for key in group.own)
"""Recorded keys that are filled in run by run: the members of an ensemble."""

NOT_OF_AN_ARM = (
    *named("repetition", "trust"),
    *OWN,
    *(f"{group}.{key}" for group, keys in FREE.items() for key in keys),
)
"""Recorded keys that do not distinguish arms."""


def first_key(key: str) -> str:
    """The top-level key of a dotted key or group path: ``hydra/launcher`` -> ``hydra``."""
    return key.replace("/", ".").partition(".")[0]


def unused(plain: Mapping[str, Any]) -> tuple[str, ...]:
    """The groups that a resolved configuration's model does not use: an estimator fits itself,
    without a loss or an optimizer; a booster grows on a loss, without an optimizer."""
    target = _class(plain.get("model"))
    if target is None:
        return ()
    from rarelab.boosting.boosted import Boosted
    from rarelab.models import Estimator, is_classifier

    if issubclass(target, Boosted):
        return STEPPED if target.takes_loss else GRADIENT
    return GRADIENT if issubclass(target, Estimator) or is_classifier(target) else ()


def identity(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a resolved configuration that identifies the run."""
    left_out = (*NOT_OF_A_RUN, *unused(plain))
    found = {key: value for key, value in as_before(plain).items() if key not in left_out}
    return found | ({"batched": True} if batched(plain) else {})


def batched(plain: Mapping[str, Any]) -> bool:
    """Whether a job of this configuration trains in a batch: the last bits of its numbers differ
    from those of the job alone."""
    return (plain.get("sweep") or {}).get("batch", "off") != "off"


def as_before(plain: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved configuration without later keys that change nothing, so that it equals what
    earlier records hold of the same run."""
    later = {group.name: group.later for group in GROUPS if group.later}
    plain = {key: v for key, v in plain.items() if key not in ADDED or _plain(v) is not None}
    return {
        key: {n: v for n, v in value.items() if n not in later[key] or _plain(v) != later[key][n]}
        if key in later and isinstance(value, Mapping)
        else value
        for key, value in plain.items()
    }


def _plain(value: Any) -> Any:
    """The value; null for a mapping of nulls."""
    empty = isinstance(value, Mapping) and all(part is None for part in value.values())
    return None if empty else value


def _class(leaf: Any) -> type | None:
    if not isinstance(leaf, Mapping) or "_target_" not in leaf:
        return None
    module, _, name = str(leaf["_target_"]).rpartition(".")
    target = getattr(importlib.import_module(module), name, None)
    return target if isinstance(target, type) else None

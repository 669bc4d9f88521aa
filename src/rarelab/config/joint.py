"""Builds runs of one configuration to train as one: see :mod:`rarelab.training.together`."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from rarelab.config import build
from rarelab.config.build import Prepared
from rarelab.config.components import load_target
from rarelab.data.shared import splits_of
from rarelab.data.splits import Checked, Splits, Stored, Table
from rarelab.losses.together import LossesTogether
from rarelab.models.stacked import Stack, can_be_stacked, shapes
from rarelab.streams import stream_seed
from rarelab.training.course import Work
from rarelab.training.together import Joint

VARYING = (
    *("seed", "optimizer.lr", "optimizer.weight_decay", "loss.temperature"),
    *("schedule.temp_start", "schedule.temp_end", "schedule.final_main_weight"),
)
"""The keys in which the runs of a batch may differ: numbers that change no shape and no step."""

_OF_THE_OPTIMIZER = ("lr", "weight_decay")

_ELEMENTWISE = (
    *("SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "Adadelta", "RMSprop"),
    *("ASGD", "Rprop"),
)
"""The optimizers of torch that update every weight by its own gradient alone."""


def why_alone(plain: Mapping[str, Any]) -> str | None:
    """Why a job of this resolved configuration cannot train in a batch; None if it can."""
    target = load_target(
        "model._target_", plain["model"]["_target_"], "model", allow=plain["allow_targets"]
    )
    if not (isinstance(target, type) and issubclass(target, nn.Module) and can_be_stacked(target)):
        return f"{getattr(target, '__name__', target)} is not a network that can be stacked"
    trainer = plain["trainer"]
    if trainer.get("devices", 1) > 1:
        return f"trainer.devices={trainer['devices']}"
    if trainer.get("precision", "32") != "32":
        return f"trainer.precision={trainer['precision']}"
    module, _, name = plain["optimizer"]["_target_"].rpartition(".")
    if not module.startswith("torch.optim") or name not in _ELEMENTWISE:
        return f"{name} does not update every weight by itself"
    return None


def varying(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a resolved configuration in which the runs of a batch may differ, by key."""
    found = {}
    for key in VARYING:
        group, _, name = key.partition(".")
        if not name:
            found[key] = plain[key]
        elif isinstance(plain.get(group), Mapping) and name in plain[group]:
            found[key] = plain[group][name]
    return found


def with_values(cfg: DictConfig, values: Mapping[str, Any]) -> DictConfig:
    """A copy of a configuration with the values of :func:`varying`."""
    copy = cfg.copy()
    for key, value in values.items():
        OmegaConf.update(copy, key, value)
    return copy


def prepared_together(cfgs: Sequence[DictConfig]) -> list[Prepared]:
    """:func:`rarelab.config.build.prepared` of each; data that the seed does not draw is read once.

    Raises:
        RequestError: as there.
    """
    data, read = build.dataset(cfgs[0]), None
    if isinstance(data, Stored | Checked):
        leaf: Any = OmegaConf.to_container(cfgs[0].dataset, resolve=True)
        read = splits_of(data, leaf, stream_seed(cfgs[0].seed, "draw"))
    known: dict[str, Splits] = {}

    def one_of_each(splits: Splits) -> Splits:
        return known.setdefault(splits.digest, splits)

    ready = [build.prepared(cfg, one_of_each, read) for cfg in cfgs]
    tables: dict[str, Table] = {}
    for one in ready:
        assert isinstance(one.work, Work)  # one copy of the rows on an accelerator, too
        one.work.train = tables.setdefault(one.sizes.splits.digest, one.work.train)
    return ready


def joints(cfgs: Sequence[DictConfig], ready: Sequence[Prepared]) -> list[tuple[list[int], Joint]]:
    """The runs to train as one, with their positions: all of them, unless data drawn by their seeds
    differ in size."""
    groups: dict[Any, list[int]] = {}
    for index, (cfg, one) in enumerate(zip(cfgs, ready, strict=True)):
        assert isinstance(one.work, Work)
        size = one.work.train.x.shape, shapes(one.work.model), _of_the_optimizer(cfg).keys()
        groups.setdefault(repr(size), []).append(index)
    return [
        (group, _joint([cfgs[i] for i in group], [ready[i] for i in group]))
        for group in groups.values()
    ]


def _joint(cfgs: Sequence[DictConfig], ready: Sequence[Prepared]) -> Joint:
    works = [one.work for one in ready if isinstance(one.work, Work)]
    device = works[0].train.x.device
    draws = [torch.Generator(device).manual_seed(stream_seed(cfg.seed, "model")) for cfg in cfgs]
    settings = [_of_the_optimizer(cfg) for cfg in cfgs]
    stack = Stack([work.model for work in works], draws, list(map(repr, settings)))
    groups: list[dict[str, Any]] = [
        {"params": [*part.weights], **settings[first]} for first, part in stack.parts()
    ]
    loss = LossesTogether([work.loss for work in works])
    if own := [*loss.parameters()]:
        groups.append({"params": own})
    optimizer = build.instantiate(cfgs[0], "optimizer", {"params": groups})
    facts = ready[0].sizes.facts() | {"optimizer": optimizer}
    return Joint(works, stack, loss, optimizer, build.instantiate(cfgs[0], "lr_schedule", facts))


def _of_the_optimizer(cfg: DictConfig) -> dict[str, float]:
    return {name: cfg.optimizer[name] for name in _OF_THE_OPTIMIZER if name in cfg.optimizer}

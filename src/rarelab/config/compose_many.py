"""Composes the configurations of many jobs, at the cost of one per set of group choices."""

import copy
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from rarelab.config import hydra_internals
from rarelab.config.compose import (
    CONFIG_NAME,
    one_line_errors,
    opened,
    own_hydra,
    readable_files,
    split_choices,
)
from rarelab.config.groups import OF_A_SWEEP, first_key
from rarelab.config.recommended import chosen_model, chosen_steps, note
from rarelab.errors import RequestError, nearest

log = logging.getLogger("rarelab")

Composed = tuple[DictConfig, dict[str, str | None]]
"""A configuration, and the option chosen in each group."""


class Composer:
    """Hydra's own loader and grammar, with compositions cached by group choices.

    A composition reads and merges a dozen files in about 0.1 s; setting values on a copy takes
    milliseconds. Both steps are Hydra's own, in Hydra's order, so a job equals ``rarelab train``
    with the same overrides.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        hydra_internals.read_once(loader)
        self._loader = loader
        self.parser = OverridesParser.create(config_loader=loader)
        self._said: set[str] = set()
        self._bases: dict[tuple[str, ...], Composed] = {}

    def job(self, overrides: Sequence[str]) -> Composed:
        """The configuration of the overrides, and the option chosen in each group.

        Raises:
            RequestError: an override that does not parse, or a key or option that does not exist.
        """
        with one_line_errors(list(overrides)):
            parsed = self.parser.parse_overrides(opened(list(overrides)))
            hydra_internals.check_of_one_job(self._loader, parsed)
            groups = [override for override in parsed if self._is_group(override)]
            values = [override for override in parsed if not self._is_group(override)]
            base, choices = self._base(groups)
            keys = [override.key_or_group for override in parsed]
            if model := chosen_model(keys, choices["dataset"]):
                self._say(note(str(choices["dataset"])))
                named = self.parser.parse_overrides([f"model={model}"])
                base, choices = self._base([*groups, *named])
            cfg, choices = copy.deepcopy(base), dict(choices)
            if "min_steps" in (cfg.get("trainer") or {}) and cfg.trainer.min_steps is None:
                cfg.trainer.min_steps = chosen_steps(keys, choices["dataset"])
            for group, target in _own_targets(groups, values).items():
                # The default's parameters belong to another class.
                cfg[group], choices[group] = {}, target.rpartition(".")[2]
                OmegaConf.set_struct(cfg[group], False)
            for key in {"budget", "threshold"} & {override.key_or_group for override in values}:
                cfg[key] = None  # a study's may be of another form
            hydra_internals.set_values(cfg, values)
            OmegaConf.to_container(cfg, resolve=True)  # raises for an unresolvable interpolation
            return cfg, choices

    def recommended(self, overrides: Sequence[str]) -> list[str]:
        """The overrides that :meth:`job` adds to these."""
        parsed = self.parser.parse_overrides(list(overrides))
        keys = [override.key_or_group for override in parsed]
        cfg, choices = self._base([override for override in parsed if self._is_group(override)])
        model = chosen_model(keys, choices["dataset"])
        steps = chosen_steps(keys, choices["dataset"])
        added = [f"model={model}"] if model else []
        if steps is not None and OmegaConf.select(cfg, "trainer.min_steps", default=0) is None:
            added.append(f"trainer.min_steps={steps}")
        return added

    def sweep(self, arguments: Sequence[str]) -> DictConfig:
        """The configuration of the sweep itself (its study, ``sweep``, ``hydra``).

        Leaves out the keys of single jobs, since a value may exist only under a swept choice.
        """
        with one_line_errors(list(arguments)):
            parsed = self.parser.parse_overrides(list(arguments))
            cfg = self._load([override for override in parsed if _is_of_the_sweep(override)])
            # Raises for an unresolvable interpolation.
            OmegaConf.select(cfg, "hydra.mode")
            OmegaConf.to_container(cfg.get("sweep") or OmegaConf.create(), resolve=True)
            return cfg

    def sweeps(self, overrides: Sequence[str]) -> bool:
        """Whether any override has more than one value."""
        with one_line_errors(list(overrides)):
            parsed = self.parser.parse_overrides(list(overrides))
        return any(override.is_sweep_override() for override in parsed)

    def _say(self, line: str) -> None:
        """Log a line, once for all jobs."""
        if line not in self._said:
            self._said.add(line)
            log.info("%s", line)

    def _base(self, groups: Sequence[Override]) -> Composed:
        lines = tuple(override.input_line or "" for override in groups)
        if lines not in self._bases:
            plain, choices = split_choices(self._load(groups))
            OmegaConf.set_struct(plain, True)  # refuses unknown keys
            self._bases[lines] = plain, choices
        return self._bases[lines]

    def _load(self, overrides: Sequence[Override]) -> DictConfig:
        for override in overrides:
            chosen = None if override.is_delete() else override.value()
            if self._is_group(override) and not isinstance(chosen, str | list):
                group = override.key_or_group
                known = nearest(str(chosen or ""), self._loader.get_group_options(group))
                raise RequestError(f"{override.input_line}: expected a choice of {group}; {known}")
        lines = [override.input_line or "" for override in overrides]
        with readable_files():
            return self._loader.load_configuration(CONFIG_NAME, lines, RunMode.RUN)

    def _is_group(self, override: Override) -> bool:
        """Hydra's rule for telling a group choice from a value."""
        is_value = isinstance(override.value(), dict)
        return not is_value and hydra_internals.group_exists(self._loader, override.key_or_group)


@contextmanager
def loader(folders: Sequence[str] = ()) -> Iterator[ConfigLoader]:
    """Hydra's loader for this package's configuration and the user's ``folders``
    (``--config-dir``).

    Raises:
        RequestError: a folder does not exist.
    """
    with own_hydra():
        found = GlobalHydra.instance().config_loader()
        for folder in folders:
            if not os.path.isdir(folder):
                raise RequestError(f"--config-dir {folder}: there is no such folder")
        hydra_internals.add_folders(found, folders)
        yield found


def _own_targets(groups: Sequence[Override], values: Sequence[Override]) -> dict[str, str]:
    """The groups that get a class of the user's instead of one of the options: ``model._target_=``
    without ``model=``."""
    chosen = {override.key_or_group for override in groups}
    targets = {
        group: override.value()
        for override in values
        for group in ("dataset", "model")
        if override.key_or_group == f"{group}._target_" and group not in chosen
    }
    return {group: target for group, target in targets.items() if isinstance(target, str)}


def _is_of_the_sweep(override: Override) -> bool:
    of_a_sweep = first_key(override.key_or_group) in OF_A_SWEEP
    return of_a_sweep and not override.is_sweep_override()

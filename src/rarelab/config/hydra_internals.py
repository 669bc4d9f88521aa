"""The only module that uses Hydra's private parts, which sweeps need.

Hydra has no public way to set values on a composed configuration by its own rules, or to cache the
files that a composition reads. Written for Hydra 1.3 (:data:`MADE_FOR`).
"""

import copy
import os
from collections.abc import Sequence
from typing import Any

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigResult
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from rarelab.errors import RarelabError

MADE_FOR = "1.3"


def _other_version(missing: object) -> RarelabError:
    return RarelabError(
        f"hydra-core {hydra.__version__}: sweeps need hydra-core {MADE_FOR} "
        f"({missing}): pip install 'hydra-core~={MADE_FOR}.2'"
    )


try:
    from hydra._internal.callbacks import Callbacks
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.config_repository import CachingConfigRepository
except ImportError as error:
    raise _other_version(error) from error


class _ReadOnce(CachingConfigRepository):
    """A cache of configuration files as first read.

    Hydra copies its repository for every composition and modifies the files it gets, hence the
    copies here.
    """

    def load_config(self, config_path: str) -> ConfigResult | None:
        return copy.deepcopy(super().load_config(config_path))

    def __deepcopy__(self, memo: object) -> "_ReadOnce":
        return self


def read_once(loader: ConfigLoader) -> None:
    """Make a loader read each configuration file only once, even if the file changes later."""
    found = _known(loader)
    found.repository = _ReadOnce(found.repository)  # type: ignore[assignment]


def group_exists(loader: ConfigLoader, name: str) -> bool:
    """Whether a group has any files."""
    return _known(loader).repository.group_exists(name)


def check_of_one_job(loader: ConfigLoader, overrides: Sequence[Override]) -> None:
    """Refuse sweep overrides: these are the overrides of one job."""
    _known(loader).validate_sweep_overrides_legal(list(overrides), RunMode.RUN, from_shell=True)


def set_values(cfg: DictConfig, overrides: Sequence[Override]) -> None:
    """Set values on a composed configuration in place, as Hydra does for the command line."""
    apply = getattr(ConfigLoaderImpl, "_apply_overrides_to_config", None)
    if apply is None:
        raise _other_version("no _apply_overrides_to_config")
    apply(list(overrides), cfg)


def add_folders(loader: ConfigLoader, folders: Sequence[str]) -> None:
    """Put the user's own folders first on the search path (``--config-dir``)."""
    found = _known(loader)
    path = found.get_search_path()
    for folder in folders:
        source = f"file://{os.path.abspath(folder)}"
        path.prepend("command-line", source, SearchPathQuery(provider="schema"))
    found.repository.initialize_sources(path)


def context(loader: ConfigLoader) -> HydraContext:
    """The context that Hydra's plug-ins are set up with, without job callbacks."""
    return HydraContext(config_loader=loader, callbacks=Callbacks())


def _known(loader: ConfigLoader) -> Any:
    if not isinstance(loader, ConfigLoaderImpl):
        raise _other_version(f"its loader is a {type(loader).__name__}")
    return loader

"""What a sweep needs of Hydra that Hydra does not publish: the one place that reaches for it.

There is no public way to set values on a composed configuration by Hydra's own rules, nor to keep
the files that a composition reads. Made for Hydra 1.3 (:data:`MADE_FOR`).
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
        f"hydra-core {hydra.__version__} is not the {MADE_FOR} that sweeps are made for "
        f"({missing}): pip install 'hydra-core~={MADE_FOR}.2'"
    )


try:
    from hydra._internal.callbacks import Callbacks
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.config_repository import CachingConfigRepository
except ImportError as error:
    raise _other_version(error) from error


class _ReadOnce(CachingConfigRepository):
    """Files of configuration that stay what they were when they were first read.

    Hydra copies its repository for every composition, and composes into what it is handed.
    """

    def load_config(self, config_path: str) -> ConfigResult | None:
        return copy.deepcopy(super().load_config(config_path))

    def __deepcopy__(self, memo: object) -> "_ReadOnce":
        return self


def read_once(loader: ConfigLoader) -> None:
    """Let a loader read each file of configuration once, whatever becomes of the file."""
    found = _known(loader)
    found.repository = _ReadOnce(found.repository)  # type: ignore[assignment]


def group_exists(loader: ConfigLoader, name: str) -> bool:
    """Whether there are files for a group."""
    return _known(loader).repository.group_exists(name)


def check_of_one_job(loader: ConfigLoader, overrides: Sequence[Override]) -> None:
    """Refuse what sweeps: these are the overrides of one job."""
    _known(loader).validate_sweep_overrides_legal(list(overrides), RunMode.RUN, from_shell=True)


def set_values(cfg: DictConfig, overrides: Sequence[Override]) -> None:
    """Set values on a composed configuration, in place, as Hydra does with those typed."""
    apply = getattr(ConfigLoaderImpl, "_apply_overrides_to_config", None)
    if apply is None:
        raise _other_version("no _apply_overrides_to_config")
    apply(list(overrides), cfg)


def add_folders(loader: ConfigLoader, folders: Sequence[str]) -> None:
    """Search the user's own folders first (``--config-dir``)."""
    found = _known(loader)
    path = found.get_search_path()
    for folder in folders:
        source = f"file://{os.path.abspath(folder)}"
        path.prepend("command-line", source, SearchPathQuery(provider="schema"))
    found.repository.initialize_sources(path)


def context(loader: ConfigLoader) -> HydraContext:
    """What Hydra's plug-ins are set up with; nobody listens to the sweep's jobs."""
    return HydraContext(config_loader=loader, callbacks=Callbacks())


def _known(loader: ConfigLoader) -> Any:
    if not isinstance(loader, ConfigLoaderImpl):
        raise _other_version(f"its loader is a {type(loader).__name__}")
    return loader

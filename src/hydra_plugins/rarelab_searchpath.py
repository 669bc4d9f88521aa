"""Hydra finds ``experiments/`` as a group, from any directory and from a wheel.

Registered as a plug-in rather than as ``hydra.searchpath``, because a user's own
``hydra.searchpath=[...]`` would replace that one.
"""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from rarelab.paths import config_root


class RarelabSearchPath(SearchPathPlugin):
    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append(provider="rarelab", path=f"file://{config_root()}")

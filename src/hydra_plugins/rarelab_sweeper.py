"""Hydra's way to rarelab's sweeps: ``hydra/sweeper=rarelab``, the default."""

from collections.abc import Mapping
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from rarelab.errors import RequestError


class RarelabSweeper(Sweeper):
    """Arms, zip and grid, planned and checked first, what is done left out; for every launcher.

    Args:
        params: what a study sweeps: key -> values as on the command line (``range(3)``, ``a,b``).
    """

    def __init__(self, params: Mapping[str, Any] | None = None) -> None:
        self.params = dict(params or {})

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Instantiate the launcher that ``hydra/launcher`` names."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Carry the sweep out; the results in the order of its plan."""
        # Hydra imports this module with every command; what follows imports torch.
        from rarelab.sweep.conduct import Sweep
        from rarelab.sweep.launcher import JobLauncher

        if not isinstance(self.launcher, JobLauncher):
            raise RequestError(
                f"hydra/launcher: {type(self.launcher).__name__} cannot run rarelab's jobs; "
                "choose rarelab_local, ray or submitit_slurm"
            )
        assert self.config is not None and self.hydra_context is not None
        sweep = Sweep(self.config, self.hydra_context.config_loader, self.launcher)
        return sweep.grid(self.params, arguments)

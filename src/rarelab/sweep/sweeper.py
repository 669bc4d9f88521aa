"""The base class of rarelab's Hydra sweepers: a launcher for frozen jobs, and a sweep."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from rarelab.collector import importing
from rarelab.errors import RequestError

if TYPE_CHECKING:
    from rarelab.sweep.conduct import Sweep
    from rarelab.sweep.job import Result


class JobSweeper(Sweeper):
    """A sweeper over frozen jobs; subclasses run the :class:`~rarelab.sweep.conduct.Sweep` in
    :meth:`carry_out`."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Instantiate the launcher that ``hydra/launcher`` names."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the sweep and return its results."""
        # Hydra imports its plug-ins with every command, and the sweep imports torch.
        from rarelab.sweep.launcher import JobLauncher

        if not isinstance(self.launcher, JobLauncher):
            raise RequestError(
                f"hydra/launcher: {type(self.launcher).__name__} cannot run rarelab's jobs; "
                "choose rarelab_local, ray or submitit_slurm"
            )
        assert self.config is not None and self.hydra_context is not None
        if not OmegaConf.select(self.config, "sweep.dry_run"):
            self.launcher.warm_up()
        try:
            with importing():
                from rarelab.sweep.conduct import Sweep
            sweep = Sweep(self.config, self.hydra_context.config_loader, self.launcher)
            return self.carry_out(sweep, arguments)
        finally:
            self.launcher.cool_down()

    @abstractmethod
    def carry_out(self, sweep: "Sweep", arguments: Sequence[str]) -> "list[Result]":
        """Run the sweep described by the arguments."""

"""Hydra's way to rarelab's sweeps: ``hydra/sweeper=rarelab``, the default."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rarelab.sweep.sweeper import JobSweeper

if TYPE_CHECKING:
    from rarelab.sweep.conduct import Sweep
    from rarelab.sweep.job import Result


class RarelabSweeper(JobSweeper):
    """Arms, zip and grid, planned and checked first, what is done left out; for every launcher.

    Args:
        params: what a study sweeps: key -> values as on the command line (``range(3)``, ``a,b``).
    """

    def __init__(self, params: Mapping[str, Any] | None = None) -> None:
        self.params = dict(params or {})

    def carry_out(self, sweep: "Sweep", arguments: Sequence[str]) -> "list[Result]":
        """The results in the order of the plan."""
        return sweep.grid(self.params, arguments)

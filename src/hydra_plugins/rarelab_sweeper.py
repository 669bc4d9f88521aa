"""``hydra/sweeper=rarelab``, the default: rarelab's sweeps as a Hydra plug-in."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rarelab.sweep.sweeper import JobSweeper

if TYPE_CHECKING:
    from rarelab.sweep.conduct import Sweep
    from rarelab.sweep.job import Result


class RarelabSweeper(JobSweeper):
    """Arms, zip and grid: plans and checks all jobs, skips finished ones, works with any launcher.
    With ``sweep.search.trials`` each arm is searched first (:mod:`rarelab.search.contest`).

    Args:
        params: a study's grid, key -> values as on the command line (``range(3)``, ``a,b``).
    """

    def __init__(self, params: Mapping[str, Any] | None = None) -> None:
        self.params = dict(params or {})

    def carry_out(self, sweep: "Sweep", arguments: Sequence[str]) -> "list[Result]":
        """Run the grid, or the contest; the results in plan order."""
        if sweep.settings.contest.trials is None:
            return sweep.grid(self.params, arguments)
        from rarelab.search.contest import Contest

        return Contest(sweep, self.params, arguments).run()

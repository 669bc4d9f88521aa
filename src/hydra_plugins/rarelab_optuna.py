"""``hydra/sweeper=optuna``: hyperparameter search.

The published sweeper requires optuna < 3, composes each trial from files that may have changed
since the first, and loses an interrupted search. This one reads the same syntax and runs frozen
jobs, on any launcher.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from rarelab.errors import RequestError
from rarelab.sweep.settings import at_least
from rarelab.sweep.sweeper import JobSweeper

if TYPE_CHECKING:
    from rarelab.sweep.conduct import Sweep
    from rarelab.sweep.job import Result


class RarelabOptuna(JobSweeper):
    """Searches for the best value of a validation metric, mean over seeds; see ``docs/search.md``.

    Args:
        n_trials: total number of trials, including earlier ones of the same search.
        timeout: seconds after which no trial starts.
        trials_at_once: trials chosen together; None means ``sweep.n_jobs``.
        sampler, sampler_seed, startup_trials: how values are chosen.
        pruner, pruner_warmup: which runs are stopped early.
        storage: a database URL for the study; None means a journal in the search's folder.
        params: a study file's search space, key -> values as on the command line.
        metric: the validation metric to maximise; None means ``trainer.select_by``.
    """

    def __init__(
        self,
        n_trials: int = 20,
        timeout: float | None = None,
        trials_at_once: int | None = None,
        sampler: Literal["tpe", "random"] = "tpe",
        sampler_seed: int = 0,
        startup_trials: int = 10,
        pruner: Literal["median", "hyperband", "none"] = "median",
        pruner_warmup: int = 5,
        storage: str | None = None,
        params: Mapping[str, Any] | None = None,
        metric: str | None = None,
    ) -> None:
        for name, value, least in (
            ("n_trials", n_trials, 1),
            ("trials_at_once", trials_at_once, 1),
            ("timeout", timeout, 0),
            ("sampler_seed", sampler_seed, 0),
            ("startup_trials", startup_trials, 0),
            ("pruner_warmup", pruner_warmup, 0),
        ):
            at_least(f"hydra.sweeper.{name}", value, least)
        self._limits = {"n_trials": n_trials, "timeout": timeout, "storage": storage}
        self._metric = metric
        self._at_once = trials_at_once
        self._method = {
            "sampler": sampler,
            "sampler_seed": sampler_seed,
            "startup_trials": startup_trials,
            "pruner": pruner,
            "pruner_warmup": pruner_warmup,
        }
        self._params = dict(params or {})

    def carry_out(self, sweep: "Sweep", arguments: Sequence[str]) -> "list[Result]":
        """Search; the results of this call's jobs."""
        if importlib.util.find_spec("optuna") is None:
            raise RequestError("hydra/sweeper=optuna: needs pip install 'rarelab[search]'")
        from rarelab.search.method import Method
        from rarelab.search.search import Options, Search
        from rarelab.search.space import read_space
        from rarelab.sweep.overrides import is_of_a_job

        options = Options(
            method=Method(**self._method),
            trials_at_once=self._at_once or sweep.settings.n_jobs,
            metric=self._metric,
            **self._limits,
        )
        if sweep.settings.contest.trials is not None:
            raise RequestError(
                "sweep.search.trials: a contest searches by itself; leave out hydra/sweeper=optuna"
            )
        if sweep.settings.arms or sweep.settings.zip:
            raise RequestError(
                "sweep.arms, sweep.zip: not supported in a search; search one arm at a time, or all"
                " of them with sweep.search.trials instead of hydra/sweeper=optuna"
            )
        study = [f"{key}={value}" for key, value in self._params.items()]
        parsed = sweep.composer.parser.parse_overrides([*study, *arguments])
        last = {override.key_or_group: override for override in parsed if is_of_a_job(override)}
        return Search(sweep, read_space(last.values()), options).run()

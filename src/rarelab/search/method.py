"""The Optuna study behind a search: its trials, which come next, and their values."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rarelab.errors import RequestError
from rarelab.search.space import Space

if TYPE_CHECKING:
    import optuna
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage


@dataclass(frozen=True)
class Method:
    """How a search chooses values, and how it prunes trials.

    Args:
        sampler: ``tpe`` (tree-structured Parzen estimator), or ``random``.
        sampler_seed: 0 or more; with the same seed, the same results lead to the same trials.
        startup_trials: random trials before ``tpe`` starts modelling; no trial is pruned before
            this many have completed.
        pruner: ``median`` stops a trial whose best validation AUCPR so far is below the median of
            the completed trials at the same epoch; ``hyperband`` uses brackets; ``none``.
        pruner_warmup: epochs before a run can be stopped; should cover its loss's warmup and blend.
    """

    sampler: Literal["tpe", "random"] = "tpe"
    sampler_seed: int = 0
    startup_trials: int = 10
    pruner: Literal["median", "hyperband", "none"] = "median"
    pruner_warmup: int = 5

    def sampler_for(self, trial: int) -> "BaseSampler":
        """The sampler for one trial, seeded by its number, so that a resumed search continues as
        if it had never stopped."""
        from optuna.samplers import RandomSampler, TPESampler

        seed = int(np.random.SeedSequence((self.sampler_seed, trial)).generate_state(1)[0])
        if self.sampler == "random":
            return RandomSampler(seed=seed)
        return TPESampler(seed=seed, n_startup_trials=self.startup_trials)

    def pruner_of_runs(self) -> "BasePruner":
        from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

        if self.pruner == "median":
            return MedianPruner(self.startup_trials, n_warmup_steps=self.pruner_warmup)
        if self.pruner == "hyperband":
            return HyperbandPruner(min_resource=max(1, self.pruner_warmup))
        return NopPruner()


@dataclass(frozen=True)
class StudyAddress:
    """Where any process finds the study; can be pickled.

    ``storage`` is a database URL, or the path of a journal file (in a folder shared by all nodes).
    """

    storage: str
    name: str
    method: Method

    def open(self) -> "optuna.Study":
        """The study, created if it does not exist.

        Raises:
            RequestError: the database cannot be reached.
        """
        import optuna
        from sqlalchemy.exc import SQLAlchemyError

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            return optuna.create_study(
                study_name=self.name,
                storage=self._storage(),
                direction="maximize",
                pruner=self.method.pruner_of_runs(),
                load_if_exists=True,
            )
        except (OSError, ImportError, RuntimeError, SQLAlchemyError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise RequestError(f"hydra.sweeper.storage: {reason}") from error

    def trial(self, number: int) -> "optuna.Trial":
        """A trial that another process asked for."""
        import optuna

        storage = self._storage()
        study = optuna.load_study(
            study_name=self.name, storage=storage, pruner=self.method.pruner_of_runs()
        )
        known = storage.get_study_id_from_name(self.name)
        return optuna.Trial(study, storage.get_trial_id_from_study_id_trial_number(known, number))

    def _storage(self) -> "BaseStorage":
        from optuna.storages import JournalStorage, get_storage
        from optuna.storages.journal import JournalFileBackend

        if "://" in self.storage:
            return get_storage(self.storage)
        Path(self.storage).parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(self.storage))


@dataclass(frozen=True)
class Asked:
    """A trial without a result yet: its number and a value for every dimension."""

    number: int
    values: dict[str, Any]


@dataclass(frozen=True)
class Told:
    """The outcome of a trial: ``done`` with a value, ``pruned`` or ``failed``."""

    number: int
    status: Literal["done", "pruned", "failed"]
    value: float | None = None


def unfinished(study: "optuna.Study") -> list[Asked]:
    """Trials asked for by an earlier, interrupted search; they are trained first."""
    from optuna.trial import TrialState

    running = study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
    return [Asked(trial.number, dict(trial.params)) for trial in running]


def ask(study: "optuna.Study", method: Method, space: Space) -> Asked:
    """The next trial, chosen from the results of those before it."""
    study.sampler = method.sampler_for(len(study.get_trials(deepcopy=False)))
    trial = study.ask(space.distributions())
    return Asked(trial.number, dict(trial.params))


def tell(study: "optuna.Study", told: Told) -> None:
    """Close a trial. One that is done without a finite value counts as failed."""
    from optuna.trial import TrialState

    if told.status == "pruned":
        study.tell(told.number, state=TrialState.PRUNED)
    elif told.status == "done" and told.value is not None and math.isfinite(told.value):
        study.tell(told.number, told.value)
    else:
        study.tell(told.number, state=TrialState.FAIL)

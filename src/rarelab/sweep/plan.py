"""The plan: every job composed, checked and frozen before the first one starts."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rarelab.config import build
from rarelab.config.compose_many import Composer
from rarelab.config.groups import OWN
from rarelab.config.signature import code_modules, fingerprint, signature, targets_in
from rarelab.data.splits import Checked, Stored
from rarelab.errors import RequestError
from rarelab.records.ensembles import name_members
from rarelab.records.names import labels
from rarelab.sweep.batches import in_batches, marked
from rarelab.sweep.job import Job, parameters, part_of
from rarelab.sweep.overrides import key_of


@dataclass
class Planner:
    """Turns overrides into jobs; parts shared by several jobs are checked once.

    Args:
        composer: composes the configurations.
        home, experiment: where the records of all jobs go, absolute.
        batch: ``sweep.batch``, which jobs train as one.
        availability: where stored data is, by its identity.
    """

    composer: Composer
    home: str
    experiment: str
    batch: str = "off"
    availability: dict[str, str] = field(default_factory=dict)
    _checked: set[str] = field(default_factory=set)
    _identities: dict[str, str] = field(default_factory=dict)
    _stored: dict[str, Stored] = field(default_factory=dict)
    _code: dict[tuple[str, ...], dict[str, str]] = field(default_factory=dict)

    def jobs(self, overrides: Sequence[Sequence[str]], sweep: str = "") -> list[Job]:
        """A frozen job for each list of overrides, without duplicates.

        Checks whatever can be checked without preparing data: names, targets, the types of all
        values, and the columns and labels of the user's own file. Writes and fetches nothing;
        :meth:`require_data` looks for the data.

        Args:
            overrides: one list per job.
            sweep: the sweep's id; "" derives one from the jobs.

        Raises:
            RequestError: with the job's overrides and what is wrong with them.
        """
        return self.named(self.frozen(overrides), sweep)

    def frozen(self, overrides: Sequence[Sequence[str]]) -> list[Job]:
        """A checked job for each list of overrides, in their order, without a number and a name.

        Raises:
            RequestError: as :meth:`jobs`.
        """
        found = []
        for lines in overrides:
            try:
                found.append(self._job(tuple(lines)))
            except RequestError as error:
                own = [line for line in lines if any(line not in other for other in overrides)]
                name = " ".join(own or lines) or "(no overrides)"
                raise RequestError(f"job {name}: {error}") from None
        return found

    def named(self, frozen: Sequence[Job], sweep: str = "") -> list[Job]:
        """The jobs with numbers and names, the first of those that are equal: arms of a contest
        that chose the same values are different jobs."""
        found: dict[tuple[str, tuple[str, ...]], Job] = {}
        for job in frozen:
            found.setdefault((job.signature, part_of(job.tags)), job)
        jobs = list(found.values())
        found_in = [parameters(job) for job in jobs]
        names = labels([{k: v for k, v in p.items() if k not in OWN} for p in found_in])
        sweep = sweep or sweep_id([job.signature for job in jobs])
        swept = _swept(jobs)
        named = [
            replace(job, number=number, name=name, numbers=_numbers(job, swept), sweep=sweep)
            for number, (job, name) in enumerate(zip(jobs, names, strict=True))
        ]
        return in_batches(named)

    def has_data(self, job: Job) -> bool:
        """Whether the job's data is already here, so that nothing has to be fetched."""
        return job.data not in self._stored or self._stored[job.data].is_here()

    def require_data(self, jobs: Sequence[Job]) -> None:
        """Check that the jobs can get their data before the first one starts.

        Raises:
            RequestError: an archive is missing that only ``rarelab data fetch`` builds.
        """
        for identity in dict.fromkeys(job.data for job in jobs):
            if identity in self._stored:
                self._stored[identity].require()

    def _job(self, lines: tuple[str, ...]) -> Job:
        cfg, choices = self.composer.job(lines)
        cfg.paths.home = self.home
        cfg.tracking.experiment = self.experiment
        # The variable may not be set on another node.
        cfg.tracking.uri = cfg.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")
        plain: Any = OmegaConf.to_container(cfg, resolve=True)
        self._check(cfg, plain)
        data = self._identity(cfg, plain["dataset"])
        if name_members(cfg, lambda: data):
            plain = OmegaConf.to_container(cfg, resolve=True)
        plain = marked(plain, self.batch)
        targets = tuple(targets_in(plain))
        for target in targets:
            if target.startswith("__main__."):
                raise RequestError(
                    f"{target}: the jobs of a sweep do not run your script; move it to a module"
                )
        if targets not in self._code:
            self._code[targets] = code_modules(targets)
        return Job(
            number=0,
            name="",
            overrides=tuple(line for line in lines if key_of(line) != "experiments"),
            config=plain,
            choices=choices,
            signature=signature(plain),
            code=fingerprint(self._code[targets]),
            modules=self._code[targets],
            data=data,
        )

    def _check(self, cfg: DictConfig, plain: Mapping[str, Any]) -> None:
        digest = json.dumps({key: plain[key] for key in plain if key != "seed"}, sort_keys=True)
        if digest not in self._checked or not isinstance(plain["seed"], int):
            build.check(cfg)
            self._checked.add(digest)

    def _identity(self, cfg: DictConfig, leaf: Any) -> str:
        key = json.dumps(leaf, sort_keys=True)
        if key not in self._identities:
            dataset = build.dataset(cfg)
            identity = dataset.identity()
            if isinstance(dataset, Checked):
                dataset.check()
            self._identities[key] = identity
            if isinstance(dataset, Stored):
                self._stored[identity] = dataset
                self.availability[identity] = dataset.availability()
        return self._identities[key]


def sweep_id(signatures: Sequence[str]) -> str:
    """Eight hex digits derived from a sweep's jobs, whatever their order."""
    return hashlib.sha256("\n".join(sorted(signatures)).encode()).hexdigest()[:8]


def _swept(jobs: Sequence[Job]) -> list[str]:
    """The keys whose overrides differ between jobs."""
    lines = [{key_of(line): line for line in job.overrides} for job in jobs]
    keys = dict.fromkeys(key for job in lines for key in job)
    return [key for key in keys if len({job.get(key) for job in lines}) > 1]


def _numbers(job: Job, swept: Sequence[str]) -> dict[str, float]:
    """A job's numeric swept values, by key."""
    found = {key: _at(job.config, key) for key in swept}
    return {
        key: float(value)
        for key, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _at(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config.get(part) if isinstance(config, Mapping) else None
    return config

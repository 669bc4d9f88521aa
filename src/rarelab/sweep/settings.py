"""How a sweep is run: the keys of the group ``sweep``."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_type_hints

from omegaconf import DictConfig

from rarelab.errors import RequestError, nearest


@dataclass(frozen=True)
class Search:
    """The ``sweep.search`` settings of a contest: every arm is searched on every split, then
    trained with the values it chose.

    Args:
        trials: trials of each arm on each split; None: no search, a plain sweep.
        seed: the seed of all trials, and of the points they try; none of the study's own.
        space: key -> what to choose from, in Hydra's sweep syntax, for all arms; null for a key
            that is not searched. An entry ``loss=smooth_ap: {...}`` holds such keys for the arms
            with that override.
    """

    trials: int | None = None
    seed: int = 1000
    space: dict[str, Any] | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any] | None) -> Self:
        """The settings, checked.

        Raises:
            RequestError: an unknown setting, or a value that is none.
        """
        from rarelab.config.check import check_value

        hints = get_type_hints(cls)
        for key, value in (given or {}).items():
            if key not in hints:
                raise RequestError(
                    f"sweep.search.{key}: no such setting; {nearest(str(key), hints)}"
                )
            check_value(f"sweep.search.{key}", value, hints[key])
        found = cls(**(given or {}))
        at_least("sweep.search.trials", found.trials, 1)
        at_least("sweep.search.seed", found.seed, 0)
        return found


@dataclass(frozen=True)
class Settings:
    """The values of ``conf/sweep/default.yaml``.

    Args:
        n_jobs: jobs running at once, one process each.
        jobs_per_device: jobs sharing one GPU.
        dry_run: print the plan and do nothing else.
        force: also run jobs that are already done.
        on_error: ``continue``, or ``stop`` to start no further job after a failure.
        retries: extra attempts for a job that failed with an error or was killed; none for one
            that diverged, which would diverge again.
        arms: lists of overrides, one list per arm; arms may set different keys.
        zip: key -> values, swept together position by position.
        search: a :class:`Search`, which makes the sweep a contest.
        batch: ``auto`` trains jobs that differ only in the seed (or in a few numbers) as one
            stacked model; part of a job's identity, as the last bits of its numbers differ.
    """

    n_jobs: int = 1
    jobs_per_device: int = 1
    dry_run: bool = False
    force: bool = False
    on_error: Literal["continue", "stop"] = "continue"
    retries: int = 0
    arms: list[list[str]] | None = None
    zip: dict[str, list[Any]] | None = None
    search: Mapping[str, Any] | None = None
    batch: Literal["off", "auto"] = "off"

    def __post_init__(self) -> None:
        for name, least in (("n_jobs", 1), ("jobs_per_device", 1), ("retries", 0)):
            at_least(f"sweep.{name}", getattr(self, name), least)
        lengths = {key: len(values) for key, values in (self.zip or {}).items()}
        for key, length in lengths.items():
            if not length:
                raise RequestError(f"sweep.zip.{key}: expected at least one value, found none")
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{key} has {length}" for key, length in lengths.items())
            raise RequestError(f"sweep.zip: expected lists of equal length; {shown}")
        Search.of(self.search)

    @property
    def contest(self) -> Search:
        """How the arms are searched."""
        return Search.of(self.search)


def at_least(key: str, value: float | None, least: float) -> None:
    """Refuse a number that is below ``least``, infinite or NaN; None (not given) passes.

    Raises:
        RequestError: ``key=value: expected LEAST or more``.
    """
    if value is not None and not least <= value < math.inf:
        raise RequestError(f"{key}={value}: expected {least:g} or more")


def settings(cfg: DictConfig) -> Settings:
    """The settings of a composed configuration.

    Raises:
        RequestError: an unknown key, or a value of the wrong type.
    """
    from rarelab.config import build

    build.check_group(cfg, "sweep")
    return build.instantiate(cfg, "sweep")

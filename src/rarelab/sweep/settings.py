"""How a sweep is carried out: the keys of the group ``sweep``."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from omegaconf import DictConfig

from rarelab.errors import RequestError


@dataclass(frozen=True)
class Settings:
    """The values of ``conf/sweep/default.yaml``.

    Args:
        n_jobs: jobs at once, a process each.
        jobs_per_device: of these, on one GPU.
        dry_run: print the plan and do nothing.
        force: run what is done, too.
        on_error: ``continue``, or ``stop``: after a failure no further job is started.
        retries: further tries of a job that ended in an error or was killed; one that diverged
            would diverge again and gets none.
        arms: lists of overrides; each is one arm with keys of its own.
        zip: key -> values; the values of one place go together.
    """

    n_jobs: int = 1
    jobs_per_device: int = 1
    dry_run: bool = False
    force: bool = False
    on_error: Literal["continue", "stop"] = "continue"
    retries: int = 0
    arms: list[list[str]] | None = None
    zip: dict[str, list[Any]] | None = None

    def __post_init__(self) -> None:
        for name, least in (("n_jobs", 1), ("jobs_per_device", 1), ("retries", 0)):
            at_least(f"sweep.{name}", getattr(self, name), least)
        lengths = {key: len(values) for key, values in (self.zip or {}).items()}
        for key, length in lengths.items():
            if not length:
                raise RequestError(f"sweep.zip.{key}: expected one value or more, found none")
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{key} has {length}" for key, length in lengths.items())
            raise RequestError(f"sweep.zip: expected lists of one length; {shown}")


def at_least(key: str, value: float | None, least: float) -> None:
    """Refuse a number below ``least``, infinite or NaN; None (not given) passes.

    Raises:
        RequestError: ``key=value: expected LEAST or more``.
    """
    if value is not None and not least <= value < math.inf:
        raise RequestError(f"{key}={value}: expected {least:g} or more")


def settings(cfg: DictConfig) -> Settings:
    """The settings of a composed configuration.

    Raises:
        RequestError: a key that is none, or a value of a wrong type.
    """
    from rarelab.config import build

    build.check_group(cfg, "sweep")
    return build.instantiate(cfg, "sweep")

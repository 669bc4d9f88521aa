"""One job of a sweep, with everything a process on any machine needs to run it, and its result."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from rarelab.records.searched import TAG, TRIAL, as_arm, searched

if TYPE_CHECKING:
    from rarelab.training.history import Listener

Status = Literal["done", "pruned", "diverged", "error", "interrupted", "killed", "skipped"]


@dataclass(frozen=True)
class Job:
    """A job as frozen by the plan; plain data that can be pickled and sent to any worker.

    Args:
        number: its position in the plan.
        name: the swept values, ``loss=bce seed=3``; the run's name.
        overrides: all of the job's overrides, as typed.
        config: the resolved configuration, plain containers; never composed again.
        choices: the option chosen in each group.
        signature, code, data: identify the job; an earlier run with the same three is the same job.
        modules: the parts of ``code``: module -> digest.
        numbers: the swept numbers by key, recorded as metrics ``hp/<key>``.
        sweep: the sweep's id.
        parent: the id of the sweep's own run, once it is open.
        tags: further tags of its run; one that differs in its part in a contest (:data:`PART`) is
            another job.
        listener: called with each row of the run's history in the training process; may end the
            run by raising :class:`~rarelab.errors.Pruned`.
        batch: if it trains in a batch, the values in which each run of the batch differs (see
            :data:`rarelab.config.joint.VARYING`), its own among them.
        companions: other jobs of its batch, which one process runs along with it.
    """

    number: int
    name: str
    overrides: tuple[str, ...]
    config: dict[str, Any] = field(repr=False)
    choices: dict[str, str | None] = field(repr=False)
    signature: str
    code: str
    data: str
    modules: dict[str, str] = field(default_factory=dict, repr=False)
    numbers: dict[str, float] = field(default_factory=dict)
    sweep: str = ""
    parent: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    listener: "Listener | None" = None
    batch: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    companions: tuple["Job", ...] = field(default=(), repr=False)


PART = ("rarelab.kind", TAG)
"""The tags that tell a contest's trials and its chosen runs from ordinary runs."""


def part_of(tags: Mapping[str, str]) -> tuple[str, ...]:
    """What a job or a run with these tags is in a contest; equal for all ordinary runs."""
    return tuple(tags.get(name, "") for name in PART)


@dataclass(frozen=True)
class Result:
    """How a job ended; plain data.

    ``error`` is the exception's type, ``reason`` one line (also why a job was skipped),
    ``traceback`` the full text, ``directory`` the run's folder, "" if there is none. ``companions``
    are the results of the job's companions.
    """

    number: int
    status: Status
    run_id: str = ""
    directory: str = ""
    metrics: dict[str, float] = field(default_factory=dict, repr=False)
    error: str = ""
    reason: str = ""
    traceback: str = field(default="", repr=False)
    seconds: float = 0.0
    companions: tuple["Result", ...] = field(default=(), repr=False)

    @property
    def failed(self) -> bool:
        return self.status not in ("done", "skipped", "pruned")

    @property
    def may_be_retried(self) -> bool:
        return self.status in ("error", "killed") and self.error != "RequestError"


def is_trial(job: Job) -> bool:
    """Whether it only serves to choose the values of an arm."""
    return job.tags.get("rarelab.kind") == TRIAL


def selects_by(job: Job) -> str:
    """The validation metric that selects the epoch of its run."""
    from rarelab.metrics.table import AUCPR

    return job.config["trainer"].get("select_by", AUCPR)


def arm_parameters(job: Job) -> dict[str, str]:
    """Its parameters, with what a contest chose them from instead of the chosen values."""
    return as_arm(parameters(job), searched(job.tags))


def parameters(job: Job) -> dict[str, str]:
    """The job's choices and values, as recorded in its run's parameters."""
    from rarelab.runs.folder import run_parameters

    return run_parameters(job.config, job.choices)

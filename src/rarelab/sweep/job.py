"""One job of a sweep: all that any process on any machine needs to run it, and what came of it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rarelab.training.history import Listener

Status = Literal["done", "pruned", "diverged", "error", "interrupted", "killed", "skipped"]


@dataclass(frozen=True)
class Job:
    """A job as the plan froze it; plain data, so that it pickles to wherever it is to run.

    Args:
        number: its place in the plan.
        name: what is swept, ``loss=bce seed=3``; the run's name.
        overrides: what tells the jobs apart and what they share, as typed.
        config: the resolved configuration, plain containers; nothing is composed again later.
        choices: the option chosen in each group.
        signature, code, data: what makes it the same job as one that was run before.
        modules: the parts of ``code``: module -> digest.
        numbers: the swept numbers by key, recorded as metrics ``hp/<key>``.
        sweep: the sweep's id.
        parent: the id of the sweep's own run, once that is open.
        listener: hears the rows of the run's history where it is trained, and may end the run by
            raising :class:`~rarelab.errors.Pruned`.
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
    listener: "Listener | None" = None


@dataclass(frozen=True)
class Result:
    """How a job ended; plain data.

    ``error`` is the exception's type, ``reason`` one line (also why a job was skipped),
    ``traceback`` the whole text; ``directory`` the run's folder, "" if it never had one.
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

    @property
    def failed(self) -> bool:
        return self.status not in ("done", "skipped", "pruned")

    @property
    def may_be_retried(self) -> bool:
        return self.status in ("error", "killed") and self.error != "RequestError"


def parameters(job: Job) -> dict[str, str]:
    """The job's choices and values, as its run's parameters have them."""
    from rarelab.runs.folder import run_parameters

    return run_parameters(job.config, job.choices)

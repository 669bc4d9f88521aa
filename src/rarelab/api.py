"""The Python interface to ``rarelab train``, for notebooks."""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Hydra's state is global to the process, so threads take turns.
_AT_WORK = threading.RLock()


def train(overrides: Sequence[str], folders: Sequence[str] = ()) -> Any:
    """Train and record, like ``rarelab train`` with the same overrides.

    It is a sweep if the overrides contain ``-m`` or a swept value (``loss=bce,smooth_ap``), or if
    ``sweep.arms``, ``sweep.zip``, ``sweep.dry_run`` or a study asks for one.

    The state of the process is restored: logging, environment, signal handlers, random states,
    number of threads, and the settings of MLflow and Hydra. Calls from several threads take turns.

    Args:
        overrides: Hydra overrides, for example ``["dataset=toy", "loss=smooth_ap"]``.
        folders: extra configuration folders (``--config-dir``).

    Returns:
        The run's :class:`rarelab.runs.run.Outcome`: MLflow id, status, metrics (by recorded key)
        and folder. For a sweep, a list of outcomes in the order of the plan, including jobs
        completed earlier; empty for a dry run.

    Raises:
        rarelab.errors.RequestError: the request was invalid; nothing ran.
        rarelab.errors.RarelabError: the run failed; it is recorded with its status. A sweep does
            not raise for a failed job; check the job's status.
    """
    from rarelab.request import request

    with _AT_WORK, _console():
        results = request(overrides, folders, shell=False)
    if not isinstance(results, list):
        return results
    from rarelab.runs.run import Outcome

    return [
        Outcome(
            result.run_id,
            "done" if result.status == "skipped" and result.run_id else result.status,
            result.metrics,
            Path(result.directory),
        )
        for result in results
    ]


@contextmanager
def _console() -> Iterator[None]:
    """Show progress on standard output, unless the user has configured this package's logger."""
    from rarelab.runs.console import configure_console

    log = logging.getLogger("rarelab")
    before = (list(log.handlers), log.level, log.propagate)
    configure_console()
    try:
        yield
    finally:
        log.handlers, level, log.propagate = before
        log.setLevel(level)

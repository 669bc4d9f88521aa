"""What the command runs, for notebooks: one run, or a sweep."""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Hydra has one state a process: a second thread waits for the first.
_AT_WORK = threading.RLock()


def train(overrides: Sequence[str], folders: Sequence[str] = ()) -> Any:
    """Train and record what ``rarelab train`` with the same overrides does.

    It is a sweep if ``-m`` is among them or a value is swept (``loss=bce,smooth_ap``), and where
    ``sweep.arms``, ``sweep.zip``, ``sweep.dry_run`` or a study say so.

    The process is left as it was found: its logging, environment, signal handlers, random states
    and number of threads, MLflow's settings and Hydra's. Calls from several threads take turns.

    Args:
        overrides: Hydra overrides, for example ``["dataset=toy", "loss=smooth_ap"]``.
        folders: the user's own folders of configuration (``--config-dir``).

    Returns:
        The run's :class:`rarelab.runs.run.Outcome`: MLflow id, status, metrics (by the keys of the
        record) and folder. For a sweep the list of them in the order of the plan, those that were
        done before included; empty for a dry run.

    Raises:
        rarelab.errors.RequestError: the request was wrong; nothing ran.
        rarelab.errors.RarelabError: the run failed; it is recorded with its status. A sweep does
            not raise for a job that fails: its status tells.
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
    """Show progress on standard output, unless the user has set this package's logger up."""
    from rarelab.runs.console import configure_console

    log = logging.getLogger("rarelab")
    before = (list(log.handlers), log.level, log.propagate)
    configure_console()
    try:
        yield
    finally:
        log.handlers, level, log.propagate = before
        log.setLevel(level)

"""What the command runs, for notebooks: one run, or a sweep."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def train(overrides: Sequence[str], folders: Sequence[str] = ()) -> Any:
    """Train and record what ``rarelab train`` with the same overrides does.

    It is a sweep if ``-m`` is among them or a value is swept (``loss=bce,smooth_ap``), and where
    ``sweep.arms``, ``sweep.zip``, ``sweep.dry_run`` or a study say so.

    Args:
        overrides: Hydra overrides, for example ``["dataset=toy", "loss=smooth_ap"]``.
        folders: the user's own folders of configuration (``--config-dir``).

    Returns:
        The run's :class:`rarelab.run.Outcome`: MLflow id, status, metrics (by the keys of the
        record) and folder. For a sweep the list of them in the order of the plan, those that were
        done before included; empty for a dry run.

    Raises:
        rarelab.errors.RequestError: the request was wrong; nothing ran.
        rarelab.errors.RarelabError: the run failed; it is recorded with its status. A sweep does
            not raise for a job that fails: its status tells.
    """
    from rarelab.console import configure_console
    from rarelab.sweep.request import request

    configure_console()
    results = request(overrides, folders, shell=False)
    if not isinstance(results, list):
        return results
    from rarelab.run import Outcome

    return [
        Outcome(
            result.run_id,
            "done" if result.status == "skipped" and result.run_id else result.status,
            result.metrics,
            Path(result.directory),
        )
        for result in results
    ]

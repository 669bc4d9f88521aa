"""The commands as functions, for notebooks and programs."""

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame

    from rarelab.predict.loaded import LoadedRun

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


def load(
    run: str | os.PathLike[str],
    *,
    home: str | os.PathLike[str] | None = None,
    uri: str | None = None,
    allow_targets: Sequence[str] = (),
) -> "LoadedRun":
    """The model of a recorded run, with its preprocessing, to score new rows.

    ``scorer.score(rows)`` takes a frame of raw columns, or the path of a table, and returns a frame
    under the same index with the columns that ``rarelab predict`` writes: ``score``, what the run
    calibrated or decides by, and ``alert`` with ``budget=``, ``precision=``, ``recall=``, ``cost=``
    or ``costs=``; ``scorer.reasons(rows)`` the columns that raised each row's score most.
    ``scorer.threshold``, with one of these, is the score from which a row alerts;
    ``scorer.columns`` and ``scorer.classes`` are what goes in and what is told apart. The run's
    test rows, in their order, get the recorded scores bit for bit.

    Args:
        run: the run's MLflow id, a prefix of it, its folder's name, or the path of its folder.
        home: the folder of the records; default: ``RARELAB_HOME``, else ``outputs/``.
        uri: the MLflow store or server of a run that has no folder here.
        allow_targets: modules of your own that the model's class may come from.

    Raises:
        rarelab.errors.RequestError: there is no such run, or it left no model.
        rarelab.errors.RarelabError: its files are damaged, or from a newer version.
    """
    from rarelab.paths import home as home_of
    from rarelab.predict.loaded import load_run

    return load_run(run, home_of(home), uri, allow_targets)


def record(
    predictions: "DataFrame | str | os.PathLike[str]",
    *,
    experiment: str,
    arm: str,
    target: str,
    score: str,
    positive_label: str | None = None,
    seed: int | None = None,
    split: int | None = None,
    split_col: str | None = None,
    id: str | None = None,
    group: str | None = None,
    amount: str | None = None,
    home: str | os.PathLike[str] | None = None,
    uri: str | None = None,
) -> Any:
    """Record the predictions of a model trained elsewhere as a run, like ``rarelab record``.

    The run has every metric, interval, curve and figure of a trained one, and is an arm of
    ``rarelab compare``. Its test rows must be those of the experiment's runs, or the experiment a
    new one.

    Args:
        predictions: a frame with a row per prediction, or the path of such a table.
        experiment: the experiment that the predictions join, or a new one.
        arm: the name of the model that made them.
        target: the column of the labels.
        score: the column of the scores, higher = more suspicious; if all lie in 0..1, they are
            probabilities.
        positive_label: the label of the positives, unless labels are 0 and 1.
        seed: the seed of the runs that this one is paired with; None, for a model without seeds:
            all of them.
        split: the number of the split (``dataset.split_seed``), where the rows fit several.
        split_col: a column that says ``val`` or ``test``; without it, all rows are test rows.
        id: a column that the runs kept (``dataset.keep``), to align the rows by.
        group: a column of the rows' groups; test rows are then resampled by whole groups.
        amount: a column of what each row is worth.
        home: the folder of the records; default: ``RARELAB_HOME``, else ``outputs/``.
        uri: the MLflow store or server; default: the records' own.

    Returns:
        The run's :class:`rarelab.runs.run.Outcome`: MLflow id, status, metrics and folder.

    Raises:
        rarelab.errors.RequestError: a column is missing, a score is not a finite number, or rows or
            labels are not the experiment's; nothing was recorded.
    """
    from rarelab.paths import home as home_of
    from rarelab.runs import foreign

    is_path = isinstance(predictions, str | os.PathLike)
    asked = foreign.Request(
        os.fspath(predictions) if is_path else foreign.FRAME,
        experiment=experiment,
        arm=arm,
        target=target,
        score=score,
        positive_label=positive_label,
        seed=seed,
        split=split,
        split_col=split_col,
        id=id,
        group=group,
        amount=amount,
    )
    with _AT_WORK:
        return foreign.record(asked, home_of(home), uri, None if is_path else predictions)[0]


class ComparePackage(ModuleType):
    """The package ``rarelab.compare`` as a function."""

    def __call__(self, overrides: Sequence[str], *, report: bool = False) -> "DataFrame":
        """Compare recorded runs, like ``rarelab compare`` with the same overrides, as a frame.

        A row per arm (and data set), the baseline first, then by difference, with the unrounded
        numbers of the command's table: ``arm``, ``runs``, ``mean``, ``difference`` with its
        interval ``low`` to ``high``, ``p``, ``p_holm``, ``verdict`` and what they rest on; what
        follows, in a sentence for each data set, is in ``attrs["decisions"]``. With
        ``runs=[ID,ID]``, a row per run. Nothing is printed, and nothing written without ``report``.

        Args:
            overrides: as for the command: ``["experiment=creditcard", "baseline=bce"]``.
            report: also write the command's report and attach it to the sweep's run; the frame's
                ``attrs["report"]`` is its path.

        Raises:
            rarelab.errors.RequestError: the request was invalid.
            rarelab.errors.RarelabError: the store does not answer.
        """
        from rarelab.compare.command import compared
        from rarelab.config.compose import compose_compare

        with _AT_WORK:
            return compared(compose_compare(list(overrides)), list(overrides), report=report)


def make_callable(package: Any) -> None:
    """Let ``rarelab.compare`` be called, with the documentation of :class:`ComparePackage`."""
    package.__class__, package.__doc__ = ComparePackage, ComparePackage.__call__.__doc__


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

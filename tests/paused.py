"""Run a `rarelab` command in a subprocess, paused once so that the test can inject a fault."""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from rarelab.cli import main
from rarelab.tracking import sink
from rarelab.training.history import History

PATIENCE = 120.0
"""Timeout in seconds, both until the pause and from there to the end of the command."""


def command(
    arguments: list[str],
    log: Path,
    moment: Callable[[int, dict[str, float]], bool] | None = None,
    harm: Callable[[], None] = lambda: None,
) -> tuple[int | None, str]:
    """Run ``rarelab ARGUMENTS``, paused while ``harm()`` runs; its exit code and output.

    The pause comes before the first history row for which ``moment(step, metrics)`` is true, or
    at the very start if ``moment`` is None.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["rarelab.sweep.preload"])
    ours, theirs = context.Pipe()
    with ours, theirs:
        process = context.Process(target=_run, args=(arguments, log, moment, theirs))
        process.start()
        assert ours.poll(PATIENCE), log.read_text(encoding="utf-8")
        ours.recv()
        harm()
        ours.send(None)
        process.join(PATIENCE)
        code = process.exitcode
        process.kill()
    return code, log.read_text(encoding="utf-8")


def _run(
    arguments: list[str],
    log: Path,
    moment: Callable[[int, dict[str, float]], bool] | None,
    test: Connection,
) -> None:
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "2"
    # Send rows to the store at once: otherwise a short run sends them all at the end.
    sink._SHARE = 1.0
    if moment is None:
        _pause(test)
    else:
        History.append = _stopping(moment, test)
    sys.exit(main(arguments))


def _stopping(moment: Callable[[int, dict[str, float]], bool], test: Connection) -> Callable:
    append, passed = History.append, []

    def stopping(self: History, step: int, metrics: dict[str, float]) -> None:
        time.sleep(0.2)
        if not passed and moment(step, metrics):
            passed.append(step)
            _pause(test)
        append(self, step, metrics)

    return stopping


def _pause(test: Connection) -> None:
    test.send("paused")
    test.recv()

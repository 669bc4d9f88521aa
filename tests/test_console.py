"""Printing never affects the work: closed pipes, and terminals that lack characters."""

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import pytest
import torch

from rarelab import cli
from rarelab.runs.console import RunLog, configure_console
from rarelab.sweep.display import Progress, show
from rarelab.sweep.job import Job, Result


@contextmanager
def unread() -> Iterator[None]:
    """Make standard output a pipe whose reader has exited (``| head -1``)."""
    reading, writing = os.pipe()
    os.close(reading)
    with (
        open(writing, "w", encoding="utf-8") as stream,
        redirect_stdout(stream),
    ):
        yield


def test_a_sweep_continues_when_its_reader_leaves() -> None:
    job = Job(0, "seed=0", (), {}, {}, "", "", "")
    progress = Progress([job])
    with unread():
        for _ in range(3):
            progress.ended(Result(0, "done", metrics={"best/val_aucpr": 0.5}), final=True)


def test_a_run_continues_when_its_reader_leaves(capfd) -> None:
    configure_console()
    with unread():
        for _ in range(3):
            logging.getLogger("rarelab").info("epoch")
    assert not capfd.readouterr().err


def test_a_command_that_was_cut_short_says_so(monkeypatch) -> None:
    def cut(arguments: list[str]) -> int:
        print("a first line", flush=True)
        return 0

    monkeypatch.setattr(cli, "_sync", cut)
    with unread():
        assert cli.main(["sync"]) == 1


def test_a_command_that_finished_before_its_reader_left_succeeds(monkeypatch) -> None:
    monkeypatch.setattr(cli, "_sync", lambda arguments: print("one line") or 0)
    with unread():
        assert cli.main(["sync"]) == 0


def test_characters_that_a_terminal_lacks_are_replaced(monkeypatch, capfd) -> None:
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", ascii_only)
    show("0.5 ± 0.1 …")
    configure_console()
    logging.getLogger("rarelab").info("größer")
    assert ascii_only.buffer.getvalue() == b"0.5 ? 0.1 ?\ngr??er\n"  # type: ignore[attr-defined]
    assert not capfd.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 7 TiB"),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory:\nyou tried 1 TB"),
        PermissionError(13, "Permission denied", "/records/runs"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_the_machine_is_one_line(error: Exception, monkeypatch, capsys) -> None:
    def refused(arguments: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "_sync", refused)
    assert cli.main(["sync"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(("error: out of memory: ", "error: Permission denied: /records/runs"))


def test_the_log_of_a_run_that_never_closed_does_not_silence_the_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = logging.getLogger("rarelab")
    left = RunLog(tmp_path / "train.log")
    monkeypatch.setattr(log, "handlers", [left])
    configure_console()
    log.info("epoch 1")
    left.close()
    assert capsys.readouterr().out == "epoch 1\n"

"""A `rarelab train` that kills itself (SIGKILL) at a given moment.

Run:  python experiments/bench_resume/victim.py MOMENT:COUNT OVERRIDES...

The process dies the COUNT-th time it reaches MOMENT; `after` counts milliseconds since the first
step instead.
"""

import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at(count: int, fatal: Callable[..., Any], usual: Callable[..., Any]) -> Callable[..., Any]:
    """``usual``, but the ``count``-th call runs ``fatal`` and dies."""
    calls = [0]

    def call(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == count:
            fatal(*arguments, **named)
            die()
        return usual(*arguments, **named)

    return call


def step(count: int) -> None:
    """In an optimiser step: gradients are computed, weights not yet updated."""
    from rarelab.training.loop import Trainer

    Trainer._update = at(count, lambda self, work, loss: loss.backward(), Trainer._update)


def checkpoint(count: int) -> None:
    """While a checkpoint is written: half of its bytes are on disk."""
    from rarelab.training import keeper as module

    save = module.torch.save

    def half(content: Any, file: Any) -> None:
        whole = io.BytesIO()
        save(content, whole)
        file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
        file.flush()

    module.torch.save = at(count, half, save)


def rename(count: int) -> None:
    """Between the renames: the last checkpoint is now the previous one, and there is no last."""
    from rarelab.training import keeper

    keeper.os = SimpleNamespace(replace=at(count, os.replace, os.replace))


def history(count: int) -> None:
    """While a row is appended to the history: half a line is on disk."""
    from rarelab.training.history import History

    def half(self: History, step: int, metrics: dict[str, float]) -> None:
        with self._path.open("a") as file:
            file.write('{"step": 1, "time": 17')

    History.append = at(count, half, History.append)


def logging(count: int) -> None:
    """While logging to MLflow: it has the values, but the run does not know."""
    from mlflow import MlflowClient

    MlflowClient.log_batch = at(count, MlflowClient.log_batch, MlflowClient.log_batch)


def ending(count: int) -> None:
    """While the files of a finished run are uploaded."""
    from rarelab.tracking.writer import RunWriter

    RunWriter._upload = at(count, lambda self: None, RunWriter._upload)


def after(milliseconds: int) -> None:
    """This many milliseconds after the first step, whatever is running then."""
    from rarelab.training.loop import Trainer

    update = Trainer._update

    def start(self: Trainer, work: Any, loss: Any) -> None:
        Trainer._update = update
        threading.Timer(milliseconds / 1000, die).start()
        update(self, work, loss)

    Trainer._update = start


MOMENTS = {
    "step": step,
    "checkpoint": checkpoint,
    "rename": rename,
    "history": history,
    "logging": logging,
    "ending": ending,
    "after": after,
}

if __name__ == "__main__":
    from rarelab.cli import main

    moment, _, count = sys.argv[1].partition(":")
    MOMENTS[moment](int(count))
    sys.exit(main(["train", *sys.argv[2:]]))

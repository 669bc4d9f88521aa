"""A batch: several runs of one configuration trained as one model, each with its own record."""

import json
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from rarelab.config import build
from rarelab.config.build import Prepared
from rarelab.config.joint import joints, prepared_together, with_values
from rarelab.config.prepare import warn_before
from rarelab.functional.threads import limited_threads
from rarelab.losses.members import each
from rarelab.runs.folder import Record
from rarelab.runs.interruption import Interruption
from rarelab.runs.run import Outcome, conclude, keep_selected, told
from rarelab.streams import generator
from rarelab.training import Trainer, Work
from rarelab.training.history import History, Listener, Row
from rarelab.training.progress import epoch_lines
from rarelab.training.together import Ended, fit_together

log = logging.getLogger("rarelab")

BATCH = "rarelab.batch"
"""The tag of a run that was trained in a batch: the values in which each run of the batch differs,
in order, as JSON."""

Ending = Outcome | Exception
"""How a run of a batch ended: like a run alone, or what it would have raised."""


@dataclass(frozen=True)
class Member:
    """A run of a batch, as for :func:`rarelab.runs.run.run`.

    ``values`` are those of :func:`~rarelab.config.joint.varying` that tell it from the others.
    """

    values: Mapping[str, Any]
    choices: Mapping[str, str | None]
    parent: str | None = None
    name: str | None = None
    tags: Mapping[str, str] | None = None
    numbers: Mapping[str, float] | None = None
    opened: Callable[[str, Path], None] | None = None


def run_together(
    cfg: DictConfig,
    batch: Sequence[Mapping[str, Any]],
    members: Sequence[Member],
    ended: Callable[[int, Ending], None],
) -> None:
    """Train a batch, and record the runs that are wanted of it.

    A run that diverges does not end the others. No checkpoints are written.

    Args:
        cfg: the configuration of one of its runs.
        batch: the values of every run of the batch, in order. All of them are trained, since the
            last bits of a run may depend on its company.
        members: the runs to record.
        ended: called with a member's position and how it ended.

    Raises:
        RequestError: the configuration is invalid; nothing was written.
    """
    cfgs = [with_values(cfg, values) for values in batch]
    for one in cfgs:
        build.check(one)
    trainer = build.trainer(cfg)
    interruption = Interruption()
    with limited_threads(trainer.threads), interruption.listening(), ExitStack() as opened:
        ready = prepared_together(cfgs)
        histories: list[History] = []
        runs: dict[int, _Run] = {}
        known = [dict(member.values) for member in members]
        wanted = [known.index(dict(values)) if dict(values) in known else None for values in batch]
        for one, member in zip(ready, wanted, strict=True):
            if member is not None:
                warn_before(one.sizes, one.work, one.model)
        for own, one, member in zip(cfgs, ready, wanted, strict=True):
            if member is None:
                folder = opened.enter_context(tempfile.TemporaryDirectory())
                histories.append(History(Path(folder) / "history.jsonl"))
                continue
            run = _Run(own, trainer, one, members[member], batch, interruption)
            opened.enter_context(run.record_open)
            run.begin()
            histories.append(run.record.history)
            runs[member] = run
        with interruption.deferred():
            endings = _train(trainer, cfgs, ready, histories, interruption)
        of_member = {id(one): ending for one, ending in zip(ready, endings, strict=True)}
        for member, run in runs.items():
            ended(member, run.finish(of_member[id(run.ready)]))


def _train(
    trainer: Trainer,
    cfgs: Sequence[DictConfig],
    ready: Sequence[Prepared],
    histories: Sequence[History],
    stop: Callable[[], BaseException | None],
) -> list[Ended]:
    endings: dict[int, Ended] = {}
    for group, joint in joints(cfgs, ready):
        batches = [generator(cfgs[i].seed, "batches") for i in group]
        found = fit_together(trainer, joint, [histories[i] for i in group], batches, stop)
        endings |= dict(zip(group, found, strict=True))
    return [endings[i] for i in range(len(cfgs))]


class _Run:
    """One recorded run of a batch. ``record_open`` holds its open record."""

    def __init__(
        self,
        cfg: DictConfig,
        trainer: Trainer,
        ready: Prepared,
        member: Member,
        batch: Sequence[Mapping[str, Any]],
        stop: Interruption,
    ) -> None:
        self._cfg, self._trainer, self.ready, self._member = cfg, trainer, ready, member
        self.record = Record(
            cfg,
            member.choices,
            ready.data,
            ready.sizes.splits,
            parent=member.parent,
            name=member.name,
            tags={BATCH: json.dumps([dict(values) for values in batch]), **(member.tags or {})},
            at_once=len(batch),
            stop=stop,
        )
        self.record_open = ExitStack()

    def begin(self) -> None:
        """Open the record, and write what is known before training."""
        record, trainer, ready, member = self.record, self._trainer, self.ready, self._member
        self.record_open.enter_context(record)
        with record.speaking():
            if member.opened is not None:
                member.opened(record.run_id, record.directory)
            log.info("%s", record.introduction())
            if member.numbers and not record.history:
                record.append(0, {f"hp/{key}": value for key, value in member.numbers.items()})
        loss = each(_work(ready).loss)[0]
        final_weight = getattr(loss, "final_main_weight", 1.0)
        lines = epoch_lines(trainer.max_epochs, final_weight, trainer.select_by)
        record.listen(_spoken(record, lines))

    def finish(self, training: Ended) -> Ending:
        """Evaluate the run and close its record; how it ended."""
        cfg, trainer, ready, record = self._cfg, self._trainer, self.ready, self.record
        try:
            with record.speaking():
                with self.record_open:
                    diverged = keep_selected(training, _work(ready), record)
                    metrics = conclude(cfg, trainer, ready, record)
                    if diverged is not None:
                        raise diverged
                return told(trainer, ready, record, metrics)
        except Exception as error:
            return error


def _work(ready: Prepared) -> Work:
    assert isinstance(ready.work, Work)
    return ready.work


def _spoken(record: Record, listener: Listener) -> Listener:
    def listen(row: Row) -> None:
        with record.speaking():
            listener(row)

    return listen

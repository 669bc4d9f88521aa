"""The folder of one run, and what is sent to the tracker."""

import json
import logging
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from omegaconf import DictConfig, OmegaConf

from rarelab import paths
from rarelab.config import build
from rarelab.config.groups import NOT_OF_A_RUN, as_before, unused
from rarelab.config.signature import code_modules, fingerprint, signature, targets_in
from rarelab.data import sql
from rarelab.data.splits import Splits
from rarelab.errors import Pruned
from rarelab.records.searched import TAG
from rarelab.runs.claim import claim, label, same_job
from rarelab.runs.console import RunLog
from rarelab.tracking import RunRecord, owner
from rarelab.tracking.dead import close_dead_runs
from rarelab.tracking.environment import ENVIRONMENT, write_environment
from rarelab.tracking.naming import experiment_name
from rarelab.tracking.redact import redact_setting
from rarelab.training import Diverged
from rarelab.training.history import History, Row
from rarelab.training.keeper import Cadence, Checkpoints

log = logging.getLogger("rarelab")


class Record:
    """A context manager: an exclusive folder and an open run, closed with its final status.

    Statuses: ``running``, then ``done``, ``diverged`` (the loss was not finite), ``interrupted``
    (Ctrl-C, SIGTERM, or killed and detected by a later start), ``pruned`` or ``error``.

    With ``trainer.resume=auto`` an unfinished run of the same job whose process has died is
    resumed: same folder, same MLflow run, from the newest intact checkpoint. ``stop`` is called
    between steps; training raises the exception it returns, if any. ``prefix`` sets the folder and
    the signature apart from those of a run of the same configuration. ``at_once`` is how many runs
    this process trains at once; what it logs is every one's, except within :meth:`speaking`.
    """

    def __init__(
        self,
        cfg: DictConfig,
        choices: Mapping[str, str | None],
        data: str,
        splits: Splits,
        *,
        parent: str | None = None,
        name: str | None = None,
        tags: Mapping[str, str] | None = None,
        prefix: str = "",
        at_once: int = 1,
        stop: Callable[[], BaseException | None] = lambda: None,
    ) -> None:
        self._cfg = cfg
        self._parent, self._name, self._at_once = parent, name, at_once
        self._splits = splits
        self.status = "running"
        self.metrics: dict[str, float] = {}
        self.run_id = ""
        self.home = paths.home(cfg.paths.home)
        self.experiment = experiment_name(cfg.tracking.experiment, choices.get("experiments"))
        facts = {"experiment": self.experiment, "home": self.home}
        self._sink = build.instantiate(cfg, "tracking", facts)
        self._modules = code_modules(targets_in(cfg))
        job = {
            "rarelab.signature": f"{prefix}{signature(cfg)}",
            "rarelab.code": fingerprint(self._modules),
            "rarelab.data": data,
            "rarelab.data_digest": splits.digest,
        }
        part = {key: (tags or {}).get(key, "") for key in ("rarelab.kind", TAG)}
        resumes = cfg.trainer.get("resume", "auto") == "auto"
        self._claim = partial(
            claim,
            self.home / "runs" / self.experiment,
            f"{prefix}{label(cfg, choices)}-{signature(cfg)[:8]}",
            goes_on=lambda directory: resumes and same_job(directory, part | job),
        )
        rows = "/".join(str(len(table)) for _, table in splits.tables())
        self._tags = {**job, "rarelab.rows": rows, **(tags or {})}
        self._choices = choices
        self.listeners: list[Callable[[Row], None]] = [self._remember]
        self._let_go = owner.release
        self._job, self._stop = job, stop
        self._cadence = Cadence.parse(cfg.trainer.get("checkpoint_every", "auto"))

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self._start(opened)
            self._open = opened.pop_all()
        return self

    def _start(self, opened: ExitStack) -> None:
        """Open the parts of the record one by one; if one fails, ``opened`` closes the others."""
        self.directory, self._continued = self._claim()
        opened.callback(lambda: self._let_go(self.directory))
        opened.enter_context(owner.beating(self.directory))
        opened.enter_context(_logging_to(self.directory / "train.log"))
        self.history = History(self.directory / "history.jsonl", self.listeners)
        self.checkpoints = Checkpoints(self.directory, self._job, self._cadence, self._stop)
        if self._continued:
            for row in self.history.cut(self.checkpoints.find(len(self.history))):
                self._remember(row)
        self._describe()
        self.run_id = self._sink.open(self._run_record())
        opened.push(self._end)
        self.listen(self._sink)
        for directory in close_dead_runs(self.home):
            log.info("closed %s: its process has died", directory)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, traceback)

    def _end(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.status = _status(kind)
        if self.status == "error":
            log.error("the run failed", exc_info=error)
        self._let_go = owner.abandon
        self._sink.close(self.status, self.directory, kind.__name__ if kind else "")
        self._let_go = owner.release
        if self.status == "done":
            self.checkpoints.clear()

    def _describe(self) -> None:
        """Write the run's facts; a resumed run keeps its configuration and environment."""
        if not (self.directory / "config.yaml").exists():
            plain: Any = OmegaConf.to_container(self._cfg, resolve=True)
            plain["dataset"] = _found_anywhere(plain["dataset"])
            OmegaConf.save(OmegaConf.create(redacted(plain)), self.directory / "config.yaml")
        if not (self.directory / ENVIRONMENT).exists():
            write_environment(self.directory, self._own_files())
        facts = {"prevalence": self._splits.prevalence, "notes": self._splits.notes}
        (self.directory / "data.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
        code = json.dumps(self._modules, indent=1)
        (self.directory / "code.json").write_text(code, encoding="utf-8")

    def _own_files(self) -> list[Path]:
        """The files of the user's own modules, those named in ``allow_targets``."""
        named = tuple(f"{name.rstrip('.')}." for name in self._cfg.allow_targets)
        own = [sys.modules.get(name) for name in self._modules if f"{name}.".startswith(named)]
        files = [getattr(module, "__file__", None) for module in own]
        return [Path(file) for file in files if file]

    def listen(self, listener: Callable[[Row], None]) -> None:
        self.listeners.append(listener)

    def append(self, step: int, metrics: dict[str, float]) -> None:
        self.history.append(step, metrics)

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """Log to this run's log alone, of those that are open."""
        token = _SPEAKER.set(self.directory)
        try:
            yield
        finally:
            _SPEAKER.reset(token)

    def introduction(self) -> str:
        prevalence = self._splits.prevalence["train"]
        rate = f", {100 * prevalence:.3g} % positive" if isinstance(prevalence, float) else ""
        rows = " / ".join(f"{len(table):,}" for _, table in self._splits.tables())
        return (
            f"{'resuming' if self._continued else 'run'} {self.directory}\n"
            f"data {self._splits.name}: {rows} train / validation / test rows{rate}"
        )

    def whereabouts(self) -> str:
        return f"recorded in {self.directory}\nlook at it with: rarelab ui"

    def _remember(self, row: Row) -> None:
        self.metrics |= row["metrics"]

    def _run_record(self) -> RunRecord:
        plain: Any = OmegaConf.to_container(self._cfg, resolve=True)
        return RunRecord(
            name=self._name or self.directory.name,
            params=run_parameters(plain, self._choices),
            tags=self._tags | {"rarelab.command": command()},
            directory=self.directory,
            parent=self._parent,
            at_once=self._at_once,
        )


_SPEAKER: ContextVar[Path | None] = ContextVar("speaker", default=None)
"""The folder of the run that the messages are about; None for all that are open."""


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Also write this package's messages to a run's log."""
    handler = RunLog(path)
    handler.addFilter(lambda _: _SPEAKER.get() in (None, path.parent))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


def _status(kind: type[BaseException] | None) -> str:
    if kind is None:
        return "done"
    if issubclass(kind, Diverged):
        return "diverged"
    if issubclass(kind, Pruned):
        return "pruned"
    return "error" if issubclass(kind, Exception) else "interrupted"


def _found_anywhere(dataset: dict[str, Any]) -> dict[str, Any]:
    """The data set's leaf with the absolute path of its file or database, so that the record does
    not depend on the working directory."""
    path, uri = dataset.get("path"), dataset.get("uri")
    if isinstance(path, str) and Path(path).expanduser().is_file():
        return {**dataset, "path": str(Path(path).expanduser().resolve())}
    if isinstance(uri, str):
        return {**dataset, "uri": sql.found_anywhere(uri)}
    return dataset


def redacted(node: Any, name: str = "") -> Any:
    """The configuration with secrets redacted, since it is uploaded with the run."""
    if isinstance(node, dict):
        return {key: redacted(value, str(key)) for key, value in node.items()}
    if isinstance(node, list):
        return [redacted(value, name) for value in node]
    return redact_setting(name, node) if isinstance(node, str) else node


def command() -> str:
    """The command line of this process, quoted for a shell."""
    return shlex.join(["rarelab", "train", *sys.argv[1:]])


def run_parameters(plain: Mapping[str, Any], choices: Mapping[str, str | None]) -> dict[str, str]:
    """The parameters of a run: the option chosen in each group, and every value by dotted key.

    Groups that the run does not use, and where it is recorded, are left out.
    """
    left_out = unused(plain)
    chosen = {k: option for k, option in choices.items() if option is not None}
    values = {k: value for k, value in as_before(plain).items() if k not in NOT_OF_A_RUN}
    return {
        key: value
        for key, value in (chosen | dict(_flat(values))).items()
        if key.partition(".")[0] not in left_out
    }


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)

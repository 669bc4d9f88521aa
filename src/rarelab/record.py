"""The folder of one run, and what is told to the tracker about it."""

import json
import logging
import shlex
import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from omegaconf import DictConfig, OmegaConf

from rarelab import build, paths
from rarelab.data.splits import Splits
from rarelab.errors import Pruned
from rarelab.sweep.directory import claim, label
from rarelab.sweep.signature import code_fingerprint, signature, targets_in
from rarelab.tracking import RunRecord
from rarelab.tracking.environment import write_environment
from rarelab.tracking.redact import redact_setting
from rarelab.training import Diverged
from rarelab.training.history import History, Row

log = logging.getLogger("rarelab")


class Record:
    """A context manager: an exclusive folder and an open run, closed with how the work ended.

    Statuses: ``running``, then ``done``, ``diverged`` (the loss was not finite), ``interrupted``
    (Ctrl-C, SIGTERM) or ``error``.
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
    ) -> None:
        self._cfg = cfg
        self._parent, self._name = parent, name
        self._splits = splits
        self.status = "running"
        self.metrics: dict[str, float] = {}
        self.run_id = ""
        self.home = paths.home(cfg.paths.home)
        self.experiment = cfg.tracking.experiment or choices.get("experiments") or "rarelab"
        job_signature = signature(cfg)
        self.directory = claim(
            self.home / "runs" / self.experiment, f"{label(cfg, choices)}-{job_signature[:8]}"
        )
        self._tags = {
            "rarelab.signature": job_signature,
            "rarelab.code": code_fingerprint(targets_in(cfg)),
            "rarelab.data": data,
            "rarelab.data_digest": splits.digest,
            **(tags or {}),
        }
        self._choices = {k: v for k, v in choices.items() if v is not None}
        self._listeners: list[Callable[[Row], None]] = [self._remember]
        self.history = History(self.directory / "history.jsonl", self._listeners)

    def __enter__(self) -> Self:
        self._log_file = logging.FileHandler(self.directory / "train.log", encoding="utf-8")
        self._log_file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        log.addHandler(self._log_file)
        plain = OmegaConf.to_container(self._cfg, resolve=True)
        OmegaConf.save(OmegaConf.create(_redacted(plain)), self.directory / "config.yaml")
        write_environment(self.directory)
        facts = {"prevalence": self._splits.prevalence, "notes": self._splits.notes}
        (self.directory / "data.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
        facts = {"experiment": self.experiment, "home": self.home}
        self._sink = build.instantiate(self._cfg, "tracking", facts)
        self.run_id = self._sink.open(self._run_record())
        self.listen(self._sink)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.status = _status(kind)
        if self.status == "error":
            log.error("the run failed", exc_info=error)
        self._sink.close(self.status, self.directory)
        log.removeHandler(self._log_file)
        self._log_file.close()

    def listen(self, listener: Callable[[Row], None]) -> None:
        self._listeners.append(listener)

    def append(self, step: int, metrics: dict[str, float]) -> None:
        self.history.append(step, metrics)

    def introduction(self) -> str:
        prevalence = self._splits.prevalence["train"]
        rate = f", {100 * prevalence:.3g} % positive" if isinstance(prevalence, float) else ""
        rows = " / ".join(f"{len(table):,}" for _, table in self._splits.tables())
        return (
            f"run {self.directory}\n"
            f"data {self._splits.name}: {rows} train / validation / test rows{rate}"
        )

    def whereabouts(self) -> str:
        return f"recorded in {self.directory}\nlook at it with: rarelab ui"

    def _remember(self, row: Row) -> None:
        self.metrics |= row["metrics"]

    def _run_record(self) -> RunRecord:
        plain: Any = OmegaConf.to_container(self._cfg, resolve=True)
        kept = {k: v for k, v in plain.items() if k not in ("paths", "tracking", "sweep", "debug")}
        command = shlex.join(["rarelab", "train", *sys.argv[1:]])
        return RunRecord(
            name=self._name or self.directory.name,
            params=self._choices | dict(_flatten(kept)),
            tags=self._tags | {"rarelab.command": command},
            directory=self.directory,
            parent=self._parent,
        )


def _status(kind: type[BaseException] | None) -> str:
    if kind is None:
        return "done"
    if issubclass(kind, Diverged):
        return "diverged"
    if issubclass(kind, Pruned):
        return "pruned"
    return "error" if issubclass(kind, Exception) else "interrupted"


def _redacted(node: Any, name: str = "") -> Any:
    """The configuration without passwords: it is uploaded with the run."""
    if isinstance(node, dict):
        return {key: _redacted(value, str(key)) for key, value in node.items()}
    return redact_setting(name, node) if isinstance(node, str) else node


def _flatten(node: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    flat: list[tuple[str, str]] = []
    for key, value in node.items():
        if isinstance(value, Mapping):
            flat += _flatten(value, f"{prefix}{key}.")
        else:
            flat.append((f"{prefix}{key}", str(value)))
    return flat

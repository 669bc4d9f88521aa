"""``rarelab reproduce RUN_ID``: train a recorded run again and compare every metric bit for bit."""

import json
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rarelab.config import build, groups
from rarelab.config.joint import varying
from rarelab.config.signature import code_fingerprint, targets_in
from rarelab.errors import RequestError, nearest
from rarelab.records.config import hidden_keys, recorded_config
from rarelab.records.find import fetch_record, find_run
from rarelab.records.searched import TRIAL
from rarelab.runs.run import run
from rarelab.runs.together import BATCH, Ending, Member, run_together
from rarelab.tracking.entry import Entry, load_entry, read_status
from rarelab.tracking.environment import ENVIRONMENT, provenance
from rarelab.training import Diverged
from rarelab.training.history import read_rows

log = logging.getLogger("rarelab")

_SHOWN = 5
_ENVIRONMENT = ("rarelab", "python", "platform", "cpu_capability", "accelerator")
_TRACKING = {"_target_": "rarelab.tracking.NoSink", "uri": None, "home": None}
_NEEDED = (
    *("dataset", "model", "loss", "warmup_loss"),
    *("schedule", "optimizer", "sampler", "trainer"),
)
Rows = list[tuple[int, dict[str, float]]]


def reproduce(name: str, home: Path, uri: str | None = None, allow: Sequence[str] = ()) -> int:
    """Train the run again in a new folder, without MLflow; 0 if every metric is equal.

    Args:
        name: the run's MLflow id, a prefix of it, or its folder's name.
        home: where the records are, and where the new run's folder goes.
        uri: the MLflow store of a run that has no local folder.
        allow: modules of the user's own that the record's targets may come from.

    Raises:
        RequestError: there is no such run, it did not finish, or its record asks for something
            that is not allowed.
    """
    with tempfile.TemporaryDirectory() as fetched:
        recorded = find_run(home, name) or fetch_record(home, uri, name, Path(fetched))
        entry, expected = finished(recorded, name)
        cfg = configuration(recorded, home, allow)
        for line in _differences(recorded, entry, cfg):
            log.info("differs today: %s", line)
        batch = _batch(entry, cfg, name)
    found, digest = _train_again(cfg, choices(entry), batch)
    if digest != entry.tags.get("rarelab.data_digest", digest):
        log.warning("differs today: the rows of the data set (their digest has changed)")
    return _verdict(name, expected, found)


def allowed_modules(settings: Iterable[str]) -> list[str]:
    """The modules of ``allow_targets=[a,b]``; RequestError for any other setting."""
    modules: list[str] = []
    for setting in settings:
        key, _, value = setting.partition("=")
        if key != "allow_targets" or not value:
            known = nearest(key, ["allow_targets"])
            raise RequestError(f"{setting}: expected allow_targets=[MODULE,...]; {known}")
        modules += [part.strip() for part in value.strip("[]").split(",") if part.strip()]
    return modules


def finished(recorded: Path, name: str) -> tuple[Entry, Rows]:
    entry, ending = load_entry(recorded), read_status(recorded)
    if entry is None or not (isinstance(entry.tags, dict) and isinstance(entry.params, dict)):
        raise RequestError(f"{name}: its record cannot be read")
    if ending is not None and not (isinstance(ending, dict) and "status" in ending):
        raise RequestError(f"{name}: its status.json cannot be read")
    status = ending["status"] if ending else "running"
    if status not in ("done", "diverged"):
        raise RequestError(f"{name}: its status is {status}; only a finished run can be reproduced")
    kind = entry.tags.get("rarelab.kind")
    if kind == "recorded":
        raise RequestError(
            f"{name}: these predictions were made by another program, so there is nothing to train"
        )
    if kind and kind != TRIAL:
        instead = "one of its runs" if kind == "sweep" else "the run it came from"
        raise RequestError(f"{name}: this is a {kind}; name {instead}")
    rows = _comparable(recorded / "history.jsonl")
    if not rows:
        raise RequestError(f"{recorded / 'history.jsonl'} holds no values to compare with")
    return entry, rows


def _comparable(history: Path) -> Rows:
    """The history's rows without times, and without the hyperparameters a sweep adds."""
    try:
        found = read_rows(history)
    except (OSError, ValueError) as error:
        raise RequestError(f"{history} cannot be read: {error}") from None
    for number, row in enumerate(found, 1):
        if not (isinstance(row, dict) and isinstance(row.get("step"), int)):
            raise RequestError(f"{history}: line {number} has no step")
        if not isinstance(row.get("metrics"), dict):
            raise RequestError(f"{history}: line {number} has no metrics")
    rows = [(row["step"], row["metrics"]) for row in found]
    return [(step, m) for step, m in rows if not all(key.startswith("hp/") for key in m)]


def configuration(recorded: Path, home: Path, allow: Sequence[str]) -> DictConfig:
    path = recorded / "config.yaml"
    plain = recorded_config(path, allow)
    for group in _NEEDED:
        if not isinstance(plain.get(group), dict):
            raise RequestError(f"{path}: {group}: expected a _target_ with its parameters")
    hidden = hidden_keys({key: plain[key] for key in plain if key not in ("tracking", "paths")})
    if hidden:
        raise RequestError(f"{hidden[0]}: its value was a secret, which is not kept in a record")
    plain["dataset"] = _with_file(plain["dataset"], recorded, home)
    for key in ("lr_schedule", *groups.ADDED):
        plain.setdefault(key, None)
    plain["tracking"] = _TRACKING | {"experiment": "reproduced"}
    plain["paths"] = {"home": str(home)}
    plain["trainer"] = {**plain["trainer"], "resume": "never"}
    cfg = OmegaConf.create(plain)
    build.check(cfg)
    return cfg


def _with_file(leaf: dict[str, Any], recorded: Path, home: Path) -> dict[str, Any]:
    """The data set's leaf with its file where it is now: at the recorded path, below the folder
    that the records are in (for a relative path), or beside the record under the same name."""
    path = leaf.get("path")
    if not isinstance(path, str) or Path(path).expanduser().exists():
        return leaf
    places = (home.parent / path, *(folder / Path(path).name for folder in (recorded, home)))
    found = next((place for place in places if place.exists()), None)
    return leaf if found is None else {**leaf, "path": str(found)}


def choices(entry: Entry) -> dict[str, str | None]:
    return {group: entry.params.get(group) for group in groups.LEAVES}


def _differences(recorded: Path, entry: Entry, cfg: DictConfig) -> Iterator[str]:
    """Differences in program and machine between the record and today."""
    then, now = _environment(recorded), provenance()
    packages = then.get("packages")
    for name in _ENVIRONMENT:
        if name in then and then[name] != now[name]:
            yield f"{name} {then[name]} -> {now[name]}"
    for name, version in packages.items() if isinstance(packages, dict) else ():
        if now["packages"].get(name) != version:
            yield f"{name} {version} -> {now['packages'].get(name)}"
    code = entry.tags.get("rarelab.code")
    if code is not None and code != code_fingerprint(targets_in(cfg)):
        yield "the code of the run (its fingerprint has changed)"


def _environment(recorded: Path) -> dict[str, Any]:
    try:
        facts = json.loads((recorded / ENVIRONMENT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _batch(entry: Entry, cfg: DictConfig, name: str) -> list[dict[str, Any]]:
    """The values of each run of the batch that the run was trained in; empty if it was alone."""
    try:
        found = json.loads(entry.tags.get(BATCH, "[]"))
        own = varying(cfg)
        if found and {key: own[key] for key in found[0]} not in found:
            raise ValueError("the run is not one of them")
    except (ValueError, TypeError, KeyError) as error:
        raise RequestError(f"{name}: its tag {BATCH} cannot be read: {error}") from None
    if len(found) > 1:
        log.info("trained in a batch of %d, so all of them are trained again", len(found))
    return found


def _train_again(
    cfg: DictConfig, choices: Mapping[str, str | None], batch: Sequence[dict[str, Any]]
) -> tuple[Rows, str | None]:
    """The new run's rows, and the digest of its data; with its ``batch``, if it has one."""
    folders: list[Path] = []

    def opened(run_id: str, directory: Path) -> None:
        folders.append(directory)

    def ended(_: int, ending: Ending) -> None:
        if isinstance(ending, Exception):
            raise ending

    try:
        if batch:
            own = {key: value for key, value in varying(cfg).items() if key in batch[0]}
            run_together(cfg, batch, [Member(own, choices, opened=opened)], ended)
        else:
            run(cfg, choices, opened=opened)
    except Diverged as error:
        log.info("diverged: %s", error)
    (directory,) = folders
    entry = load_entry(directory)
    history = directory / "history.jsonl"
    rows = _comparable(history) if history.is_file() else []
    return rows, None if entry is None else entry.tags["rarelab.data_digest"]


def _verdict(name: str, expected: Rows, found: Rows) -> int:
    unequal = list(_unequal(expected, found))
    values = sum(len(metrics) for _, metrics in expected)
    if not unequal:
        log.info("%s is reproduced: all %d recorded values are equal, bit for bit", name, values)
        return 0
    for line in unequal[:_SHOWN]:
        log.info("unequal: %s", line)
    log.info("%s is NOT reproduced: %d of %d values differ", name, len(unequal), values)
    return 1


def _unequal(expected: Rows, found: Rows) -> Iterator[str]:
    """One line for each value that differs, and for each row recorded at a different step; NaN
    equals NaN."""
    for index in range(max(len(expected), len(found))):
        step, then = expected[index] if index < len(expected) else (found[index][0], {})
        again, now = found[index] if index < len(found) else (step, {})
        if again != step:
            yield f"row {index + 1}: step {step} was recorded, {again} found"
        for key in sorted(then.keys() | now.keys()):
            if repr(then.get(key)) != repr(now.get(key)):
                yield f"step {step} {key}: {then.get(key)} was recorded, {now.get(key)} found"

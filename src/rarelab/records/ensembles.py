"""Which recorded runs are the members of an ensemble."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rarelab import paths
from rarelab.config.groups import as_before
from rarelab.errors import RequestError, nearest
from rarelab.models import Ensemble
from rarelab.models.ensemble import check_choice
from rarelab.records.find import find_runs
from rarelab.records.load import arm_of
from rarelab.records.names import labels
from rarelab.tracking.entry import RECORD, Entry, load_entry, read_status

_TARGETS = tuple(f"{module}.Ensemble" for module in ("rarelab.models", Ensemble.__module__))
_WHERE = ("path", "uri")
"""Where the data lies, which the identity of the data does not depend on."""
_SHOWN = 4


def is_ensemble(leaf: Mapping[str, Any]) -> bool:
    """Whether a configuration's model is the mean of recorded runs."""
    return leaf.get("_target_") in _TARGETS


def name_members(cfg: DictConfig, data: Callable[[], str]) -> bool:
    """Fill in ``model.members`` of an ensemble that does not have them; whether it did.

    Args:
        cfg: a checked configuration of any model.
        data: gives the identity of its data set; asked only where it matters, as a large file takes
            a while to hash.

    Raises:
        RequestError: the runs that it names do not exist, or are not of one arm.
    """
    leaf: Any = OmegaConf.to_container(cfg.model, resolve=True)
    if not is_ensemble(leaf) or leaf.get("members"):
        return False
    runs, experiment, arm, size = (leaf.get(k) for k in ("runs", "experiment", "arm", "size"))
    check_choice(runs, experiment, arm, size)
    home = paths.home(cfg.paths.home)
    if runs:
        chosen = _named(home, runs)
    else:
        source: Any = OmegaConf.to_container(cfg.dataset, resolve=True)
        found = _of_the_arm(home, experiment, arm or {}, data(), source)
        chosen = _group(found, size, cfg.seed, experiment)
    cfg.model.members = [entry.run_id or entry.uid for entry in chosen]
    return True


def folders(home: Path, members: Sequence[str], key: str = "model.members") -> list[Path]:
    """The folders of the members.

    Raises:
        RequestError: one of them is not among the records.
    """
    found = find_runs(home, members)
    for name, folder in zip(members, found, strict=True):
        if folder is None:
            raise RequestError(
                f"{key}: there is no run {name} in {home / 'runs'}; an ensemble is made of the "
                "folders of its members"
            )
    return [folder for folder in found if folder is not None]


def _named(home: Path, names: Sequence[str]) -> list[Entry]:
    """The runs by these names, each once."""
    entries = [load_entry(folder) for folder in folders(home, names, "model.runs")]
    found = [entry for entry in entries if entry is not None]
    if len({entry.uid for entry in found}) < len(names):
        raise RequestError(f"model.runs: expected {len(names)} different runs")
    return found


def _of_the_arm(
    home: Path, experiment: str, arm: Mapping[str, Any], data: str, source: Mapping[str, Any]
) -> dict[int, list[Entry]]:
    """The finished runs of an arm on this data and split, by seed; of each seed, the oldest
    first."""
    folder = home / "runs" / experiment
    if not folder.is_dir():
        names = [path.name for path in (home / "runs").glob("*") if path.is_dir()]
        raise RequestError(
            f"model.experiment={experiment}: no such runs; {nearest(experiment, names)}"
        )
    every = [
        entry for path in sorted(folder.glob(f"*/{RECORD}")) if (entry := _usable(path.parent))
    ]
    found = [entry for entry in every if all(_has(entry, k, v) for k, v in arm.items())]
    if not found:
        known = {f"{key}={value}" for entry in every for key, value in entry.params.items()}
        wanted = " ".join(f"{key}={value}" for key, value in arm.items())
        raise RequestError(
            f"model.arm: no finished run of {experiment} has {wanted}; {nearest(wanted, known)}"
            if every
            else f"model.experiment={experiment}: it has no finished runs"
        )
    here = [entry for entry in found if _is_of(entry, data, source)]
    if not here:
        raise RequestError(
            f"model.experiment={experiment}: its {len(found)} runs of the arm are on other data or "
            "another split (dataset.split_seed)"
        )
    _check_one_arm(here)
    by_seed: dict[int, list[Entry]] = {}
    for entry in sorted(here, key=lambda entry: entry.started):
        by_seed.setdefault(int(entry.params["seed"]), []).append(entry)
    return by_seed


def _usable(folder: Path) -> Entry | None:
    """The run of a folder, if it trained a model of its own to the end."""
    entry, ending = load_entry(folder), read_status(folder)
    if entry is None or (ending or {}).get("status") != "done":
        return None
    other = "rarelab.kind" in entry.tags or entry.params.get("model._target_") in _TARGETS
    return None if other or not entry.params.get("seed", "").isdecimal() else entry


def _is_of(entry: Entry, data: str, source: Mapping[str, Any]) -> bool:
    """Whether a run is of this data, by its identity, prepared and split in the same way."""
    asked = as_before({"dataset": dict(source)})["dataset"]
    plain = {k: v for k, v in asked.items() if k not in _WHERE and not isinstance(v, Mapping)}
    same = all(_has(entry, f"dataset.{key}", value) for key, value in plain.items())
    return same and entry.tags.get("rarelab.data") == data


def _has(entry: Entry, key: str, value: Any) -> bool:
    return entry.params.get(key) == str(value)


def _check_one_arm(entries: Sequence[Entry]) -> None:
    arms = [arm_of(entry.params) for entry in entries]
    different = [arm for place, arm in enumerate(arms) if arm not in arms[:place]]
    if len(different) > 1:
        names = sorted(labels(different))
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        raise RequestError(
            f"model.arm: {len(different)} arms match ({', '.join(names[:_SHOWN])}{more}); give the "
            "values of one, such as model.arm={loss:bce}"
        )


def _group(
    found: Mapping[int, Sequence[Entry]], size: int | None, seed: int, experiment: str
) -> list[Entry]:
    """The newest run of each seed: of all seeds, or of the ``seed``-th ``size`` of them."""
    seeds = sorted(found)
    if size is not None:
        seeds = seeds[seed * size : (seed + 1) * size]
        if len(seeds) < size:
            raise RequestError(
                f"model.size={size}: {experiment} has {len(found)} seeds of the arm on this split, "
                f"and seed={seed} takes number {seed * size + 1} to {(seed + 1) * size}"
            )
    return [found[own][-1] for own in seeds]

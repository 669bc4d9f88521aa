"""Reads the members of an ensemble from the folders of their runs."""

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from rarelab import paths
from rarelab.data.splits import Splits
from rarelab.errors import RequestError
from rarelab.models import Ensemble
from rarelab.predict import read_model
from rarelab.predict.bundle import FOLDER
from rarelab.predict.facts import read_facts
from rarelab.records.ensembles import folders
from rarelab.tracking.entry import load_entry, read_status

log = logging.getLogger("rarelab")


def assemble(model: Ensemble, cfg: DictConfig, splits: Splits) -> None:
    """Give an ensemble its members, the fitted models of the runs ``model.members``.

    Raises:
        RequestError: a member is not there or not done, left no model, is an ensemble, or was
            trained on other rows or classes.
    """
    found = folders(paths.home(cfg.paths.home), list(cfg.model.members))
    read = [_member(folder, cfg, splits) for folder in found]
    model.take(*zip(*read, strict=True))
    log.info("ensemble of %d runs: %s", len(found), ", ".join(folder.name for folder in found))


def _member(folder: Path, cfg: DictConfig, splits: Splits) -> tuple[Any, dict[str, Any]]:
    entry, name = load_entry(folder), f"model.members: {folder.name}"
    ending = read_status(folder)
    status = ending["status"] if ending else "running"
    if entry is None or status != "done":
        raise RequestError(f"{name}: its status is {status}; expected a run that is done")
    kind = entry.tags.get("rarelab.kind")
    if kind is not None:
        raise RequestError(f"{name}: this is a {kind}; expected an ordinary run")
    if entry.tags.get("rarelab.data_digest") != splits.digest:
        raise RequestError(
            f"{name}: its rows are not those of this run's {splits.name!r}; members share data, "
            "split and preprocessing"
        )
    facts = read_facts(folder / FOLDER)
    scorer = read_model(folder / FOLDER, list(cfg.allow_targets))
    if isinstance(scorer.model, Ensemble):
        raise RequestError(f"{name}: it is an ensemble itself; name its members")
    if scorer.classes != splits.classes:
        raise RequestError(
            f"{name}: its classes are {', '.join(scorer.classes)}, expected "
            f"{', '.join(splits.classes)}"
        )
    return scorer.model, facts["model"]

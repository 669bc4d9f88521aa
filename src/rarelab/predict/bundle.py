"""The folder ``model/`` of a run: all that scoring new rows needs, as plain data.

``model.json`` names the classes, the raw columns and the model's configuration, and holds the run's
calibration and decision rule; ``arrays.npz`` holds what preprocessing learnt and the validation
scores (and an estimator's fit); ``checkpoint.pt`` the weights. No file holds a pickle of a class:
torch reads the weights in its safe mode, numpy the arrays without pickle, and the model is rebuilt
through the list of allowed targets.
"""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from torch import nn

from rarelab import __version__, build
from rarelab.check import check_leaf, check_plain
from rarelab.data.preprocess import Preprocessor
from rarelab.data.splits import Splits
from rarelab.errors import RarelabError, RequestError
from rarelab.models import Estimator, Portable
from rarelab.predict.rules import recorded_rules, restored_rules
from rarelab.predict.scorer import Scorer, score_columns
from rarelab.training import Trainer
from rarelab.training.keeper import load

FOLDER = "model"
FACTS = "model.json"
ARRAYS = "arrays.npz"
WEIGHTS = "checkpoint.pt"

_FORMAT = 1
_SCORING = ("eval_batch_size", "threads", "precision")


def write_model(
    directory: Path, cfg: DictConfig, splits: Splits, model: nn.Module | Estimator
) -> None:
    """Write ``model/`` of a run whose ``checkpoint.pt`` and ``predictions.parquet`` are there.

    Where the run cannot score a table, ``model.json`` says why and nothing else is written.
    """
    folder = directory / FOLDER
    folder.mkdir(exist_ok=True)
    facts: dict[str, Any] = {"format": _FORMAT, "rarelab": __version__, "run": directory.name}
    reason = _why_not(splits, model)
    if reason is not None:
        _write_facts(folder, facts | {"unavailable": reason})
        return
    prepared, arrays = splits.preprocessor.state()
    arrays = {f"preprocessing/{name}": array for name, array in arrays.items()}
    arrays |= _validation(directory / "predictions.parquet", splits)
    if isinstance(model, Portable):
        arrays |= {f"model/{name}": array for name, array in model.state().items()}
    else:
        _link(directory / WEIGHTS, folder / WEIGHTS)
    np.savez_compressed(folder / ARRAYS, **arrays)
    leaf: Any = OmegaConf.to_container(cfg.model, resolve=True)
    facts |= {
        "data": splits.name,
        "classes": list(splits.classes),
        "model": leaf | {"in_features": splits.in_features, "num_outputs": splits.num_outputs},
        "scoring": _scoring(cfg.trainer),
        "preprocessing": prepared,
        "example": splits.preprocessor.example(),
        "scores": score_columns(splits.classes),
    }
    rules = recorded_rules(directory)
    facts |= rules | {"columns": restored_rules(rules).kinds(splits.classes)}
    _write_facts(folder, facts)


def read_model(folder: Path, allow: Iterable[str] = ()) -> Scorer:
    """The scorer that :func:`write_model` left in ``folder``.

    Args:
        folder: a run's ``model/``.
        allow: modules of the user's own that the model's class may come from. The record's own
            list does not count: whoever wrote the record is not the one who trusts.

    Raises:
        RequestError: the model's class is not allowed, or the run left no model.
        RarelabError: the folder is damaged, or of a later version.
    """
    facts = read_facts(folder)
    leaf, allowed = facts["model"], list(allow)
    check_plain("model", leaf)
    check_leaf("model", leaf, allow=allowed, supplied=build.SUPPLIED)
    model = build.instantiate(OmegaConf.create({"model": leaf, "allow_targets": allowed}), "model")
    trainer = Trainer(**facts["scoring"])
    try:
        with np.load(folder / ARRAYS, allow_pickle=False) as stored:
            arrays = dict(stored)
        if isinstance(model, nn.Module):
            model.load_state_dict(load(folder / WEIGHTS)["model"])
            model.to(trainer.torch_device())
        else:
            model.load_state(_below("model/", arrays))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise RarelabError(f"{folder} is damaged: {str(error).splitlines()[0]}") from error
    return Scorer(
        model=model,
        trainer=trainer,
        preprocessor=Preprocessor.restored(
            facts["preprocessing"], _below("preprocessing/", arrays)
        ),
        classes=tuple(facts["classes"]),
        validation=_restored_validation(arrays),
        rules=restored_rules(facts),
    )


def read_facts(folder: Path) -> dict[str, Any]:
    """``model.json`` of a folder that can score; the errors are those of :func:`read_model`."""
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RequestError(f"{folder.parent.name} left no model to score with") from None
    if facts["format"] > _FORMAT:
        raise RarelabError(f"{folder} was written by rarelab {facts['rarelab']}, later than this")
    if "unavailable" in facts:
        raise RequestError(f"{facts['run']} left no model to score with: {facts['unavailable']}")
    return facts


def _why_not(splits: Splits, model: nn.Module | Estimator) -> str | None:
    if splits.train.x.ndim != 2:
        return "it was trained on sequences, which are no rows of a table"
    if not isinstance(splits.preprocessor, Preprocessor):
        return f"the data set {splits.name!r} does not say how raw columns become features"
    if not isinstance(model, nn.Module | Portable):
        return f"{type(model).__name__} has no state() of plain arrays (rarelab.models.Portable)"
    return None


def _scoring(trainer: DictConfig) -> dict[str, Any]:
    """The trainer's parameters that scores depend on; a GPU need not be the same one again."""
    same = {name: trainer[name] for name in _SCORING if name in trainer}
    return same | {"device": "cpu" if trainer.get("device") == "cpu" else "auto"}


def _validation(predictions: Path, splits: Splits) -> dict[str, NDArray]:
    if splits.num_outputs > 1:
        return {}
    rows: Any = pd.read_parquet(predictions, columns=["split", "target", "score"])
    rows = rows[rows["split"] == "val"]
    return {
        "validation/score": rows["score"].to_numpy(dtype=np.float32),
        "validation/positive": rows["target"].to_numpy() == 1,
    }


def _restored_validation(
    arrays: dict[str, NDArray],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
    if "validation/score" not in arrays:
        return None
    return arrays["validation/score"], arrays["validation/positive"]


def _below(prefix: str, arrays: dict[str, NDArray]) -> dict[str, NDArray]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def _link(source: Path, target: Path) -> None:
    """The same file under a second name, or a copy where the file system has no links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _write_facts(folder: Path, facts: dict[str, Any]) -> None:
    (folder / FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")

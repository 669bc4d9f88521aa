"""The ``model/`` folder of a run: everything needed to score new rows, as plain data.

``model.json`` holds the classes, the raw columns, the model's configuration, and the run's
calibration and decision rule; ``arrays.npz`` the fitted preprocessing, the validation scores and,
for an estimator, its fit, for a network the mean training row; ``checkpoint.pt`` the weights. No
file holds a pickled class: torch loads the weights in its safe mode, numpy loads the arrays without
pickle, and the model is rebuilt only from allowed targets.
"""

import json
import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from torch import nn

from rarelab.config import build
from rarelab.config.build import Model
from rarelab.config.check import check_leaf, check_plain, parameters
from rarelab.config.components import load_target
from rarelab.config.sizes import Sizes
from rarelab.data.splits import Splits
from rarelab.data.tables.preprocess import Preprocessor
from rarelab.errors import RarelabError, RequestError
from rarelab.models import Ensemble, Portable
from rarelab.predict.arrays import ArrayRows
from rarelab.predict.facts import FACTS, FORMAT, damaged, read_facts
from rarelab.predict.rules import recorded_rules, restored_rules
from rarelab.predict.scorer import Scorer, score_columns
from rarelab.training import Trainer
from rarelab.training.keeper import load
from rarelab.version import __version__

log = logging.getLogger("rarelab")

FOLDER = "model"
ARRAYS = "arrays.npz"
WEIGHTS = "checkpoint.pt"
BASELINE = "baseline"
"""The mean of the training rows' features, [F]; runs recorded before there were reasons lack it."""

_SCORING = ("eval_batch_size", "threads", "precision")


def write_model(
    directory: Path,
    cfg: DictConfig,
    splits: Splits,
    model: Model,
    refit_of: str | None = None,
) -> str | None:
    """Write the ``model/`` of a run that has its ``checkpoint.pt`` and ``predictions.parquet``.

    If the run cannot score new rows, only ``model.json`` is written, with the reason, which is
    returned. ``refit_of`` is the run whose validation rows the thresholds were chosen on, if not
    its own.
    """
    folder = directory / FOLDER
    folder.mkdir(exist_ok=True)
    facts: dict[str, Any] = {"format": FORMAT, "rarelab": __version__, "run": directory.name}
    facts |= {} if refit_of is None else {"refit_of": refit_of}
    reason, fit = _fit_or_why_not(splits, model)
    if reason is not None:
        _write_facts(folder, facts | {"unavailable": reason})
        return reason
    rows = ArrayRows(splits.input_shape)
    prepared, arrays, example = {"shape": list(rows.shape)}, {}, {}
    if splits.preprocessor is not None:
        prepared, arrays = splits.preprocessor.state()
        example = splits.preprocessor.example()
    arrays = {f"preprocessing/{name}": array for name, array in arrays.items()}
    arrays |= _validation(directory / "predictions.parquet", splits)
    arrays |= {f"model/{name}": array for name, array in fit.items()}
    if isinstance(model, nn.Module):
        _link(directory / WEIGHTS, folder / WEIGHTS)
        arrays[BASELINE] = splits.train.x.mean(dim=0, dtype=torch.float64).float().numpy()
    np.savez_compressed(folder / ARRAYS, **arrays)
    leaf: Any = OmegaConf.to_container(cfg.model, resolve=True)
    facts |= {
        "data": splits.name,
        "classes": list(splits.classes),
        "model": _with_members(_with_sizes(leaf, cfg, splits), model),
        "scoring": _scoring(cfg.trainer),
        "preprocessing": prepared,
        "example": example,
        "scores": score_columns(splits.classes),
    }
    rules = recorded_rules(directory)
    facts |= rules | {"columns": restored_rules(rules).kinds(splits.classes)}
    _write_facts(folder, facts)
    return None


def read_model(folder: Path, allow: Iterable[str] = ()) -> Scorer:
    """The scorer that :func:`write_model` left in ``folder``.

    Args:
        folder: a run's ``model/``.
        allow: the user's own modules that the model's class may come from. The record's own list is
            ignored: only the person loading it can decide what to trust.

    Raises:
        RequestError: the model's class is not allowed, or the run left no model.
        RarelabError: the folder is damaged, or from a newer version.
    """
    facts = read_facts(folder)
    try:
        scorer = _restored(folder, facts, list(allow))
    except RequestError as error:  # the model's class or one of its parameters
        raise RequestError(f"{folder}: {error}") from error
    except Exception as error:  # untrusted data can raise anything in torch or scikit-learn
        raise damaged(folder, error) from error
    try:
        _try(scorer, facts["example"])
    except Exception as error:
        raise damaged(folder, error) from error
    if "refit_of" in facts:
        log.warning(
            "note: %s was trained on all rows; its threshold is that of %s, unverified",
            facts["run"],
            facts["refit_of"],
        )
    return scorer


def _restored(folder: Path, facts: dict[str, Any], allowed: list[str]) -> Scorer:
    leaf = facts["model"]
    check_plain("model", leaf)
    check_leaf("model", leaf, allow=allowed, supplied=build.SUPPLIED)
    scoring = facts["scoring"]
    trained = {"_target_": "rarelab.training.Trainer", **scoring}
    check_leaf("scoring", trained, allow=(), group="trainer")
    made_of = OmegaConf.create({"model": leaf, "allow_targets": allowed})
    model = build.unfitted(made_of, {"num_outputs": len(score_columns(facts["classes"]))})
    trainer = Trainer(**scoring)
    with (folder / ARRAYS).open("rb") as file, np.load(file, allow_pickle=False) as stored:
        arrays = {name: _number(name, stored[name]) for name in stored.files}
    if isinstance(model, nn.Module):
        model.load_state_dict(_weights(folder / WEIGHTS))
        model.to(trainer.torch_device())
    else:
        model.load_state(_below("model/", arrays))
    return Scorer(
        model=model,
        trainer=trainer,
        preprocessor=_preprocessor(facts["preprocessing"], arrays),
        classes=tuple(facts["classes"]),
        validation=_restored_validation(arrays, facts["classes"]),
        rules=restored_rules(facts),
        baseline=arrays.get(BASELINE),
    )


def _preprocessor(prepared: dict[str, Any], arrays: dict[str, NDArray]) -> Preprocessor | ArrayRows:
    if "shape" in prepared:
        return ArrayRows(tuple(prepared["shape"]))
    return Preprocessor.restored(prepared, _below("preprocessing/", arrays))


def _number(name: str, array: NDArray) -> NDArray:
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{ARRAYS}: {name} holds {array.dtype}, expected numbers")
    if not name.startswith("model/") and np.isnan(array).any():
        raise ValueError(f"{ARRAYS}: {name} holds NaN")
    return array


def _weights(path: Path) -> dict[str, torch.Tensor]:
    kept = load(path)
    if not isinstance(kept, dict):
        raise ValueError(f"{path.name} holds {type(kept).__name__}, expected the weights by name")
    weights = kept["model"]
    for name, value in weights.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise ValueError(f"{path.name}: {name} holds NaN or infinite weights")
    return weights


def _try(scorer: Scorer, example: dict[str, Any]) -> None:
    """Score the bundle's own example row, to check that its parts fit together."""
    rows = scorer.preprocessor
    frame = rows.example() if isinstance(rows, ArrayRows) else pd.DataFrame([example])
    scores = scorer.scores(frame)
    expected = (1, len(score_columns(scorer.classes)))
    if tuple(scores.shape) != expected:
        raise ValueError(f"the model returns scores of shape {tuple(scores.shape)}, not {expected}")
    if not bool(scores.isfinite().all()):
        raise ValueError("the score of the example row is not finite")
    scorer.table(frame, None if scorer.validation is None else 0.5)


def _fit_or_why_not(splits: Splits, model: Model) -> tuple[str | None, dict[str, NDArray]]:
    """Why the run cannot score new rows, if so; else the fit of a model, if not in weights."""
    if splits.train.y.ndim != 1:
        return "it was trained on sequences, not on rows of a table", {}
    if not isinstance(splits.preprocessor, Preprocessor | None):
        return f"the data set {splits.name!r} has a preprocessor of its own", {}
    if isinstance(model, nn.Module):
        return None, {}
    if not isinstance(model, Portable):
        return (
            f"{type(model).__name__} has no state() of plain arrays (rarelab.models.Portable)",
            {},
        )
    try:
        return None, model.state()
    except RarelabError as error:
        return str(error), {}


def _with_sizes(leaf: dict[str, Any], cfg: DictConfig, splits: Splits) -> dict[str, Any]:
    """The model's configuration with what it left to the data."""
    path, allowed = leaf["_target_"], list(cfg.allow_targets)
    takes = parameters(load_target("model._target_", path, "model", allow=allowed))
    sizes = Sizes(splits, build.trainer(cfg), build.sampler(cfg))
    facts = sizes.model_facts(build.model_parameters(cfg))
    filled = {n: facts[n] for n in facts if n in takes and leaf.get(n) is None}
    return leaf | filled


def _with_members(leaf: dict[str, Any], model: Model) -> dict[str, Any]:
    """An ensemble's configuration with those of its members and how they are averaged."""
    if not isinstance(model, Ensemble):
        return leaf
    return leaf | {"models": [dict(own) for own in model.leaves], "average": model.average}


def _scoring(trainer: DictConfig) -> dict[str, Any]:
    """The trainer's parameters that affect scores; the device may be another GPU."""
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
    arrays: dict[str, NDArray], classes: list[str]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
    if len(classes) > 2:
        return None
    scores, positives = arrays["validation/score"], arrays["validation/positive"]
    if scores.ndim != 1 or scores.shape != positives.shape or positives.dtype != bool:
        raise ValueError(f"{ARRAYS}: validation scores and positives do not match")
    return scores, positives


def _below(prefix: str, arrays: dict[str, NDArray]) -> dict[str, NDArray]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def _link(source: Path, target: Path) -> None:
    """Hard-link the file, or copy it if the file system has no hard links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _write_facts(folder: Path, facts: dict[str, Any]) -> None:
    (folder / FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")

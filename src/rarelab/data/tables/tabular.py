"""From a raw frame to splits: target, split, duplicates, preprocessing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray

from rarelab.data.given import AMOUNT, GIVEN, GROUP, SCORE, WEIGHT
from rarelab.data.source import Roles
from rarelab.data.splits import Splits, Table, make_splits
from rarelab.data.tables import divide
from rarelab.data.tables.giveaways import hidden_repeats, row_hashes, separating_columns
from rarelab.data.tables.in_use import refuse_scores, scores_in_use
from rarelab.data.tables.preprocess import let_go
from rarelab.data.tables.recipe import Recipe
from rarelab.data.tables.targets import common_positives, encode, labelled, several_classes
from rarelab.data.tables.unfitted import alike, unfitted
from rarelab.data.tables.worth import amounts, refuse_worthless, refuse_zero_weights, weights
from rarelab.errors import RequestError, nearest

SELECTION_NOISE = 100
OWN_COLUMNS = ("split", "row", "target", "score")
"""The columns of every ``predictions.parquet``."""
_SHOWN_CLASSES = 3
_AT_ONCE = 2**16
"""Rows."""


@dataclass(frozen=True)
class Labelled:
    """A frame with its target encoded; ``twins`` are hashes of each row's features."""

    frame: pd.DataFrame
    features: pd.DataFrame
    y: NDArray[np.int64]
    classes: tuple[str, ...]
    twins: NDArray[np.uint64]
    notes: tuple[str, ...] = ()


def prepare(
    frame: pd.DataFrame,
    roles: Roles,
    recipe: Recipe,
    *,
    name: str,
    notes: Iterable[str] = (),
    alarms: bool = False,
    consume: bool = False,
) -> Splits:
    """Splits of a raw frame, with the column ``roles`` and the options of ``recipe``.

    The preprocessing is fitted on the training rows only. ``notes`` come before those added here;
    ``alarms`` adds those of :mod:`rarelab.data.tables.giveaways`. ``consume`` deletes each feature
    that is not short from the frame as soon as it is not needed any more, so that a table takes the
    memory of its columns only once. RequestError if the frame or the target cannot be used.
    """
    raw = frame
    # The index is the row number; it survives whatever rows are left out below.
    frame = frame.set_axis(pd.RangeIndex(len(frame)))
    data = _labelled(frame, roles)
    of_the_columns = [*notes]
    notes = [*of_the_columns, *data.notes]
    if recipe.deduplicate:
        data, note = _deduplicated(data)
        notes.append(note)
    worth = amounts(data.frame, data.classes, roles.amount)
    rows = _divided(data, roles, recipe)
    _refuse_empty(data, rows, recipe)
    notes += [*_twin_notes(data, rows, recipe), *_time_notes(data, rows, recipe.split)]
    if alarms:
        notes += _alarms(data, rows, roles)
    preprocessor = unfitted(data.features, rows[0], roles, recipe)
    preprocessor.others = tuple(name for name in frame.columns if name not in data.features)
    held = [frame, data.frame, data.features, *([raw] if consume else [])]
    parts = _divided_columns(data.features, rows, held)
    del raw, frame, held
    groups = None if roles.group is None else alike(data.frame[roles.group].iloc[rows[0]])
    train = preprocessor.fit_transform(
        parts[0], data.y[rows[0]], data.classes, groups=groups, consume=True
    )
    parts[0] = parts[0].iloc[:0]
    if not _varies(train):
        raise RequestError(
            "no feature varies in the training rows: every column is constant or empty there"
            + (f" ({of_the_columns[0]})" if of_the_columns else "")
        )
    others = []
    while len(parts) > 1:
        others.append(preprocessor.transform(parts.pop(1)))
    moments = _moments(data, roles.time) if recipe.split == "time" else None
    tables = [
        _table(data, part, x, roles, moments, worth)
        for part, x in zip(rows, (train, *others), strict=True)
    ]
    refuse_zero_weights(tables, data.classes, roles.sample_weight)
    refuse_worthless(tables, roles.amount)
    return make_splits(
        *tables,
        classes=data.classes,
        features=preprocessor.feature_names,
        name=name,
        notes=notes,
        preprocessor=preprocessor,
    )


def check(frame: pd.DataFrame, roles: Roles) -> None:
    """Refuse roles that name a column or a label which the frame does not have.

    Raises:
        RequestError: as :func:`prepare` would.
    """
    _refuse_columns(frame, roles)
    column: Any = frame[roles.target]
    _, classes = encode(column, roles.positive)
    refuse_scores(frame.loc[labelled(column, "drop")], roles, classes)
    if roles.amount is not None:
        weights(frame.loc[labelled(column, roles.unlabelled)], "amount", roles.amount)


def _labelled(frame: pd.DataFrame, roles: Roles) -> Labelled:
    _refuse_columns(frame, roles)
    there = labelled(frame[roles.target], roles.unlabelled)
    notes = []
    if not there.all():
        notes = [f"{(~there).sum():,} of {len(there):,} rows have no label and were left out"]
        frame = frame.loc[there]
    y, classes = encode(frame[roles.target], roles.positive)
    refuse_scores(frame, roles, classes)
    notes += common_positives(roles.target, y, classes)
    others = {roles.group, roles.time, roles.sample_weight, roles.official, roles.target}
    others |= {*roles.keep, *roles.scores}
    features = frame.drop(columns=[*roles.drop, *(others - {None} - set(roles.drop))])
    if not len(features.columns):
        raise RequestError(f"no feature column is left besides the target {roles.target!r}")
    return Labelled(frame, features, y, classes, row_hashes(features), tuple(notes))


def _refuse_columns(frame: pd.DataFrame, roles: Roles) -> None:
    if not len(frame):
        raise RequestError("the data has a header but no rows")
    names = [str(name) for name in frame.columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RequestError(
            f"the column name {twice[0]!r} occurs more than once: rename one of them"
        )
    asked = {
        "target": [roles.target],
        "drop": roles.drop,
        "keep": roles.keep,
        "categorical": roles.categorical,
        "group": [roles.group],
        "time": [roles.time],
        "sample_weight": [roles.sample_weight],
        "scores": roles.scores,
        "amount": [roles.amount],
    }
    for key, columns in asked.items():
        for column in columns:
            if column is not None and column not in names:
                raise RequestError(
                    f"dataset.{key}={column} is not a column: {nearest(column, names)}"
                )
    for column in roles.keep:
        if column in OWN_COLUMNS or column.startswith(("score/", GIVEN)):
            raise RequestError(
                f"dataset.keep={column}: predictions.parquet has a column {column!r} of its own;"
                " rename yours"
            )


def _divided_columns(
    features: pd.DataFrame, rows: divide.Indices, held: Sequence[pd.DataFrame]
) -> list[pd.DataFrame]:
    """The features of each part of the rows; each column is deleted from ``held`` once it is
    divided, unless it is short."""
    made: list[dict[Any, Any]] = [{} for _ in rows]
    for name in [*features.columns]:
        column: Any = features[name].array
        for part, where in zip(made, rows, strict=True):
            part[name] = column.take(where)
        del column
        for frame in held:
            if name in frame:
                let_go(frame, name)
        pa.default_memory_pool().release_unused()  # Arrow would keep what its columns took
    return [
        pd.DataFrame(part, index=pd.RangeIndex(len(where)), copy=False)
        for part, where in zip(made, rows, strict=True)
    ]


def _varies(x: NDArray) -> bool:
    """Whether any row [F] differs from the first one."""
    pieces = range(0, len(x), _AT_ONCE)
    return any((x[start : start + _AT_ONCE] != x[0]).any() for start in pieces)


def _deduplicated(data: Labelled) -> tuple[Labelled, str]:
    """Every distinct row (features and label) once, at its first occurrence."""
    key = data.twins + data.y.astype(np.uint64)
    keep = np.sort(np.unique(key, return_index=True)[1])
    dropped = len(key) - len(keep)
    kept = Labelled(
        data.frame.iloc[keep],
        data.features.iloc[keep],
        data.y[keep],
        data.classes,
        data.twins[keep],
    )
    return kept, f"{dropped} of {len(key)} rows repeat an earlier row and were left out"


def _divided(data: Labelled, roles: Roles, recipe: Recipe) -> divide.Indices:
    seed, shares = recipe.split_seed, recipe.shares
    if recipe.split == "grouped":
        return divide.by_group(data.y, _codes(data, roles.group), seed=seed, **shares)
    if recipe.split == "time":
        origins = recipe.origins or 1
        number = seed if origins > 1 else 0
        instants = _moments(data, roles.time).to_numpy()
        return divide.by_time(instants, **shares, origins=origins, number=number)
    _refuse_small_classes(data)
    try:
        if recipe.split == "stratified":
            return divide.stratified(data.y, seed=seed, **shares)
        if recipe.split == "cv":
            return _fold(data, roles, recipe)
        return _official(data, roles, recipe)
    except divide.TooSmall as error:
        raise RequestError(_too_small(data, error.label, recipe)) from error


def _fold(data: Labelled, roles: Roles, recipe: Recipe) -> divide.Indices:
    groups = _codes(data, roles.group) if roles.group else None
    val_share = recipe.shares["val_share"]
    return divide.by_fold(
        data.y, groups, folds=recipe.folds, number=recipe.split_seed, val_share=val_share
    )


def _official(data: Labelled, roles: Roles, recipe: Recipe) -> divide.Indices:
    """The set's own test rows; validation is ``val_share`` of all rows, or 20 % of the rest."""
    is_test = data.frame[roles.official].to_numpy(dtype=bool)
    rest = np.flatnonzero(~is_test)
    share = divide.VAL_SHARE / (1 - divide.TEST_SHARE)
    if recipe.val_share is not None:
        share = recipe.val_share * len(is_test) / len(rest)
    train, val, _ = divide.stratified(
        data.y[rest], seed=recipe.split_seed, val_share=share, test_share=0.0
    )
    return rest[train], rest[val], np.flatnonzero(is_test)


def _codes(data: Labelled, group: str | None) -> NDArray[np.int64]:
    codes, _ = pd.factorize(data.frame[group])
    if (codes < 0).any():
        raise RequestError(f"group column {group!r} is missing in {(codes < 0).sum()} rows")
    return codes


def _moments(data: Labelled, time: str | None) -> pd.Series:
    """When each row was: numbers, or dates."""
    column: Any = data.frame[time]
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
        moments: Any = column
    else:
        moments: Any = pd.to_datetime(column, format="ISO8601", utc=True, errors="coerce")
        bad = np.flatnonzero(moments.isna() & column.notna())
        if len(bad):
            others = f" (and {len(bad) - 1:,} other rows hold no date)" if len(bad) > 1 else ""
            raise RequestError(
                f"time column {time!r} holds {column.iloc[bad[0]]!r} in row "
                f"{column.index[bad[0]] + 1:,}{others}:"
                " expected numbers or ISO dates such as 2024-05-31 or 2024-05-31T12:00:00"
            )
    if moments.isna().any():
        raise RequestError(f"time column {time!r} is missing in {int(moments.isna().sum())} rows")
    return moments


def _days(moments: Any, rows: NDArray) -> int | None:
    """How many days these rows span, with the first and the last; None unless they are dated."""
    if moments is None or pd.api.types.is_numeric_dtype(moments):
        return None
    dates = moments.iloc[rows].dt.tz_localize(None).dt.normalize()
    return (dates.max() - dates.min()).days + 1


def _refuse_small_classes(data: Labelled) -> None:
    counts = np.bincount(data.y, minlength=len(data.classes))
    small = {data.classes[i]: int(n) for i, n in enumerate(counts) if n < 3}
    if small:
        shown = ", ".join(f"{name!r} has {n}" for name, n in list(small.items())[:_SHOWN_CLASSES])
        left = len(small) - _SHOWN_CLASSES
        more = f" (and {left} more classes)" if left > 0 else ""
        raise RequestError(
            f"class {shown} rows{more}: train, validation and test need at least one each, so 3;"
            " add rows of the class or remove it"
        )


def _too_small(data: Labelled, label: int, recipe: Recipe) -> str:
    others = {"cv": " or dataset.folds", "stratified": " or dataset.test_share"}
    return (
        f"class {data.classes[label]!r} has {int((data.y == label).sum())} rows, too few to be in"
        " train, validation and test alike: lower dataset.val_share"
        f"{others.get(recipe.split, '')}, or add rows of the class or remove it"
    )


def _refuse_empty(data: Labelled, rows: divide.Indices, recipe: Recipe) -> None:
    for part, where in zip(rows, ("train", "validation", "test"), strict=True):
        present = np.bincount(data.y[part], minlength=len(data.classes)) > 0
        needed = present.all() if where == "train" or len(data.classes) == 2 else present.any()
        if not needed:
            absent = data.classes[int(np.flatnonzero(~present)[0])]
            raise RequestError(
                f"split={recipe.split} leaves no rows of class {absent!r} in {where}:"
                f" {_more_rows(recipe)}use split=stratified"
            )


def _more_rows(recipe: Recipe) -> str:
    """What may leave every part its classes, besides another kind of split."""
    if recipe.split == "cv":
        return "lower dataset.folds, or "
    if recipe.split == "time" and (recipe.origins or 1) > 1:
        return "lower dataset.origins, change dataset.test_share, or "
    asked = {recipe.test_share, recipe.val_share} - {None}
    return "change dataset.test_share or dataset.val_share, or " if asked else ""


def _twin_notes(data: Labelled, rows: divide.Indices, recipe: Recipe) -> Iterable[str]:
    """A note if test rows repeat the features of a train or validation row."""
    train, val, test = rows
    # Sorted rather than in a hash table, which takes four times the memory.
    known, twins = np.sort(data.twins[np.concatenate([train, val])]), data.twins[test]
    seen = known[np.searchsorted(known, twins).clip(max=len(known) - 1)] == twins
    if seen.mean() < 0.001:
        return
    note = f"{seen.sum()} of {len(test)} test rows ({seen.mean():.1%}) also appear in train or val"
    if len(data.classes) == 2:
        positive = data.y[test] == 1
        note += f", including {(seen & positive).sum()} of {positive.sum()} positives"
    way_out = (
        "with a different label" if recipe.deduplicate else "dataset.deduplicate=true drops them"
    )
    yield f"{note} ({way_out})"


def _time_notes(data: Labelled, rows: divide.Indices, split: str) -> Iterable[str]:
    if split != "time" or len(data.classes) != 2:
        return
    positives = int((data.y[rows[1]] == 1).sum())
    if positives < SELECTION_NOISE:
        yield (
            f"the time-ordered split leaves {positives} positives in validation: selecting the"
            " best epoch is mostly noise"
        )


def _alarms(data: Labelled, rows: divide.Indices, roles: Roles) -> Iterable[str]:
    yield from several_classes(roles.target, data.y, data.classes)
    # Of several classes the rarest: a column that tells them all apart tells it from the rest.
    y = data.y[rows[0]]
    rare = int(np.bincount(y).argmin())
    yield from separating_columns(data.features, rows[0], y == rare, data.classes[rare], roles.drop)
    yield from hidden_repeats(data.features, data.y, rows, roles.drop)


def _table(
    data: Labelled,
    rows: NDArray,
    x: NDArray,
    roles: Roles,
    moments: Any,
    worth: NDArray | None,
) -> Table:
    weight = None
    if roles.sample_weight:
        part = data.frame.iloc[rows]
        weight = torch.from_numpy(weights(part, "sample_weight", roles.sample_weight, np.float32))
    origin: dict[str, Any] = {"row": data.frame.index.to_numpy()[rows]}
    origin |= {name: data.frame[name].iloc[rows] for name in roles.keep}
    if roles.group:
        origin[GROUP] = data.frame[roles.group].iloc[rows]
    in_use = scores_in_use(data.frame.iloc[rows], roles)
    origin |= {f"{SCORE}{name}": values for name, values in in_use.items()}
    if worth is not None:
        origin[AMOUNT] = worth[rows]
    if weight is not None and roles.weigh_metrics:
        origin[WEIGHT] = weight.double().numpy()
    y, days = torch.from_numpy(data.y[rows]), _days(moments, rows)
    return Table(torch.from_numpy(x), y, weight, origin, days)

"""The rows of a file of predictions made by another program: scores and labels, checked."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from rarelab.data.given import AMOUNT, GROUP
from rarelab.data.reading import locate, read
from rarelab.data.tables.levels import level_text
from rarelab.data.tables.targets import encode
from rarelab.errors import RequestError, nearest
from rarelab.metrics.exact import as_logits
from rarelab.runs.evaluation import Scored

_SPLITS = {"val": "val", "validation": "val", "test": "test", "train": ""}


@dataclass(frozen=True)
class Request:
    """Which predictions to record, and as what.

    file: a table, one row per prediction. experiment: the experiment they join, or a new one. arm:
    the name of the model that made them. target, score: columns of labels and scores; scores that
    all lie in 0..1 are probabilities. positive_label: the label of the positives, unless labels are
    0 and 1. seed: the repetition they are paired with; None for a model without seeds, which stands
    beside every seed. split: the number of the split they belong to, where several fit. split_col:
    a column that says val or test (train rows are left out); without it every row is a test row.
    id: a column to align the rows by with those of the experiment. group: a column of the rows'
    groups, which are resampled whole; amount: one of what each row is worth.
    """

    file: str
    experiment: str
    arm: str
    target: str
    score: str
    positive_label: str | None = None
    seed: int | None = None
    split: int | None = None
    split_col: str | None = None
    id: str | None = None
    group: str | None = None
    amount: str | None = None


@dataclass(frozen=True)
class Rows:
    """The rows of one split: scores and labels [N], and the columns to keep: row, id, and what is
    given (:mod:`rarelab.data.given`)."""

    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    kept: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, order: Any) -> "Rows":
        kept = {
            name: column[order] if isinstance(column, np.ndarray) else column.iloc[order]
            for name, column in self.kept.items()
        }
        return Rows(self.scores[order], self.labels[order], kept)

    def scored(self) -> Scored:
        return torch.from_numpy(self.scores[:, None]), torch.from_numpy(self.labels)


def read_rows(asked: Request, given: Any = None) -> tuple[dict[str, Rows], tuple[str, ...]]:
    """The rows of each split, validation first, and the names of the two classes.

    given: the frame to read instead of the file.
    """
    kept = [name for name in (asked.id, asked.group) if name]
    place = locate(asked.file, "FILE") if given is None else _table(given)
    frame: Any = read(place, keep=kept)[0]
    for key in ("target", "score", "split_col", "id", "group", "amount"):
        name = getattr(asked, key)
        if name is not None and name not in frame:
            raise RequestError(
                f"{key}={name} is not a column of {asked.file}: {nearest(name, frame)}"
            )
    frame = frame.assign(row=np.arange(len(frame)))
    of_split = _split(frame, asked)
    frame, of_split = frame[of_split != ""], of_split[of_split != ""]
    if not (of_split == "test").any():
        raise RequestError(f"{asked.file}: no row is a test row")
    labels, classes = _labels(frame[asked.target], asked)
    scores = as_logits(_numbers("score", frame, asked))
    columns: dict[str, Any] = {"row": frame["row"].to_numpy()}
    columns |= {asked.id: frame[asked.id]} if asked.id else {}
    columns |= {GROUP: frame[asked.group]} if asked.group else {}
    columns |= {AMOUNT: _numbers("amount", frame, asked, least=0)} if asked.amount else {}
    rows = Rows(scores, labels, columns)
    found = {
        name: rows.take(np.flatnonzero(of_split == name))
        for name in ("val", "test")
        if (of_split == name).any()
    }
    for name, part in found.items():
        if len(set(part.labels.tolist())) < 2:
            raise RequestError(
                f"target={asked.target}: the {name} rows have only the label"
                f" {classes[part.labels[0]]}; expected two classes"
            )
    return found, classes


def _split(frame: Any, asked: Request) -> NDArray:
    if asked.split_col is None:
        return np.full(len(frame), "test")
    texts = [level_text(value).strip().lower() for value in frame[asked.split_col]]
    for text in texts:
        if text not in _SPLITS:
            raise RequestError(
                f"split_col={asked.split_col}: {text!r} is not a split; {nearest(text, _SPLITS)}"
            )
    return np.array([_SPLITS[text] for text in texts])


def _labels(column: Any, asked: Request) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    absent = int(column.isna().sum())
    if absent:
        raise RequestError(
            f"target={asked.target} is missing in {absent:,} of {len(column):,} rows:"
            " leave those rows out"
        )
    try:
        labels, classes = encode(column, (asked.positive_label,) if asked.positive_label else ())
    except RequestError as error:
        raise RequestError(str(error).replace("dataset.positive_label", "positive_label")) from None
    if len(classes) != 2:
        raise RequestError(
            f"target={asked.target} has {len(classes)} different values, expected two: name the"
            " positive one with positive_label="
        )
    return labels, classes


def _numbers(key: str, frame: Any, asked: Request, least: float = -math.inf) -> NDArray[np.float64]:
    import pandas as pd

    name = getattr(asked, key)
    column: Any = pd.to_numeric(frame[name], errors="coerce")
    numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
    bad = ~(np.isfinite(numbers) & (numbers >= least))
    if bad.any():
        expected = "" if least == -math.inf else f" of at least {least:g}"
        raise RequestError(
            f"{key}={name} is not a finite number{expected} in {int(bad.sum()):,} of"
            f" {len(numbers):,} rows (the first is {str(frame[name].iloc[int(bad.argmax())])!r})"
        )
    return numbers


def _table(frame: Any) -> pa.Table:
    try:
        return pa.Table.from_pandas(frame.rename(columns=str), preserve_index=False)
    except pa.ArrowException as error:
        reason = str(error).strip().splitlines()[0]
        raise RequestError(f"the frame cannot be read: {reason}") from None

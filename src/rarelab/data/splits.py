"""What a dataset gives to training: three tables of one task, and what identifies them."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from rarelab.errors import RequestError

IGNORE_INDEX = -100
FEW_VALIDATION_POSITIVES = 20


@dataclass(frozen=True)
class Table:
    """The rows of one split, in memory.

    x: float32 [N, F], or rows of any other shape such as images [N, C, H, W]; [N, T, F] for
    sequences. y: int64 class indices [N], or [N, T] for a target at every step of a sequence, with
    -100 at a padded one. sample_weight: float32 [N], or None for equal weights. origin: where each
    row comes from, as columns of N values: ``row``, its number in the table as read, counted from
    0, the columns to keep beside its prediction, and what the data set was asked for besides
    (``given/amount``); None if the rows come from no table. days: how many days they span, the
    first and the last included, where they are split by dates.
    """

    x: Tensor
    y: Tensor
    sample_weight: Tensor | None = None
    origin: Mapping[str, Any] | None = None
    days: int | None = None

    def __post_init__(self) -> None:
        if self.x.dtype != torch.float32 or self.y.dtype != torch.int64:
            raise TypeError(
                f"a Table holds float32 features and int64 targets, not {self.x.dtype} and"
                f" {self.y.dtype}"
            )
        if self.x.ndim <= self.y.ndim or self.x.shape[: self.y.ndim] != self.y.shape:
            raise ValueError(
                f"features {tuple(self.x.shape)} and targets {tuple(self.y.shape)} do not match:"
                " every target needs the features of one row"
            )
        weight = self.sample_weight
        if weight is not None and (
            weight.dtype != torch.float32 or weight.shape != self.y.shape[:1]
        ):
            raise ValueError(
                f"sample_weight must be float32 of shape ({len(self.y)},), not {weight.dtype} of"
                f" {tuple(weight.shape)}"
            )

    def __len__(self) -> int:
        return len(self.y)

    def labels(self) -> Tensor:
        """The targets without padding, flattened: int64 [M]."""
        flat = self.y.reshape(-1)
        return flat[flat != IGNORE_INDEX]


@dataclass(frozen=True)
class Splits:
    """Train, validation and test tables of one task.

    ``classes`` are the names of the class indices (binary: negative, positive), ``features`` those
    of the columns of x (empty if its rows have none). ``digest`` is the sha256 of the arrays.
    ``notes`` are warnings for the user (few positives, duplicated rows). ``preprocessor``, if any,
    turns a new frame of raw columns into features: its ``transform(frame)`` returns float32 [N, F].
    """

    train: Table
    val: Table
    test: Table
    classes: tuple[str, ...]
    features: tuple[str, ...]
    digest: str
    name: str
    notes: tuple[str, ...] = ()
    preprocessor: Any = None

    def __post_init__(self) -> None:
        for name, table in self.tables():
            # In pieces: a mask of the whole table takes half of its memory again.
            if not all(bool(rows.isfinite().all()) for rows in table.x.split(2**16)):
                bad = ~table.x.isfinite()
                raise RequestError(self._not_finite(name, bad.flatten(0, -2).sum(0)))

    def _not_finite(self, table: str, counts: Tensor) -> str:
        if len(self.features) != len(counts):
            return (
                f"data set {self.name!r}: {int(counts.sum())} NaN or infinite values in {table}: "
                "replace them with numbers"
            )
        column = int(counts.argmax())
        named = self.features[column]
        others = int((counts > 0).sum()) - 1
        more = f" (and {others} other columns have some too)" if others else ""
        return (
            f"data set {self.name!r}: column {named!r} has {int(counts[column])} NaN or infinite "
            f"values in {table}{more}: replace them with numbers"
        )

    @property
    def task(self) -> Literal["binary", "multiclass"]:
        return "binary" if len(self.classes) == 2 else "multiclass"

    @property
    def num_outputs(self) -> int:
        """Logits per row: 1 for a binary task, else the number of classes."""
        return 1 if self.task == "binary" else len(self.classes)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one row: [F], [T, F] for a sequence, [C, H, W] for an image."""
        return tuple(self.train.x.shape[1:])

    @property
    def in_features(self) -> int:
        """Numbers per target: F; C · H · W for an image."""
        return math.prod(self.train.x.shape[self.train.y.ndim :])

    @cached_property
    def prevalence(self) -> dict[str, Any]:
        """Split -> rate of positives; for a multi-class task, split -> {class name: rate}. A split
        without rows is left out."""
        return {name: self._rates(table) for name, table in self.tables() if len(table)}

    def _rates(self, table: Table) -> Any:
        counts = torch.bincount(table.labels(), minlength=len(self.classes)).double()
        rates = (counts / counts.sum()).tolist()
        return rates[1] if self.task == "binary" else dict(zip(self.classes, rates, strict=True))

    def tables(self) -> Iterator[tuple[str, Table]]:
        """The three splits with their names, in the order train, val, test."""
        yield from (("train", self.train), ("val", self.val), ("test", self.test))


@runtime_checkable
class Dataset(Protocol):
    """What a ``dataset`` leaf of the configuration builds.

    ``splits(seed)`` draws or reads the data; only generated data uses ``seed``. ``identity()`` is a
    short stable text that identifies the data without loading or downloading it: the arguments of
    a generator, the hashes of an archive and its members, or the hash of a file.
    """

    def splits(self, seed: int) -> Splits: ...

    def identity(self) -> str: ...


@runtime_checkable
class Stored(Protocol):
    """A dataset kept on disk, or downloaded. ``availability()`` says which in a few words;
    ``require()`` raises RequestError if a run could not obtain the data on its own."""

    def is_here(self) -> bool: ...

    def availability(self) -> str: ...

    def require(self) -> None: ...


@runtime_checkable
class Checked(Protocol):
    """A dataset whose settings name things in a file. ``check()`` raises RequestError for a name
    that the file does not have, without preparing the data."""

    def check(self) -> None: ...


def make_splits(
    train: Table,
    val: Table,
    test: Table,
    *,
    classes: Sequence[str],
    features: Sequence[str],
    name: str,
    notes: Sequence[str] = (),
    preprocessor: Any = None,
) -> Splits:
    """Splits with their digest, and a note if validation has too few rows of a class."""
    return Splits(
        train=train,
        val=val,
        test=test,
        classes=tuple(classes),
        features=tuple(features),
        digest=digest(train, val, test),
        name=name,
        notes=(*notes, *few_positives(val, classes)),
        preprocessor=preprocessor,
    )


def digest(*tables: Table) -> str:
    """sha256 over the bytes, dtypes and shapes of all arrays of the tables, in order."""
    total = hashlib.sha256()
    for table in tables:
        for tensor in (table.x, table.y, table.sample_weight):
            if tensor is None:
                total.update(b"none")
                continue
            total.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            total.update(tensor.contiguous().numpy().data)
    return total.hexdigest()


def few_positives(val: Table, classes: Sequence[str]) -> tuple[str, ...]:
    """A note if validation has too few positives to select an epoch with."""
    counts = torch.bincount(val.labels(), minlength=len(classes)).tolist()
    rare = dict(zip(classes, counts, strict=True))
    if len(classes) == 2:
        rare.pop(classes[0])
    rare = {name: count for name, count in rare.items() if count < FEW_VALIDATION_POSITIVES}
    if not rare:
        return ()
    advice = f"fewer than {FEW_VALIDATION_POSITIVES}, so selecting the best epoch is mostly noise"
    if len(classes) == 2:
        return (f"validation has {next(iter(rare.values()))} positives: {advice}",)
    shown = ", ".join(f"{name} {count}" for name, count in sorted(rare.items(), key=lambda r: r[1]))
    return (f"validation has few rows of {len(rare)} classes ({shown}): {advice}",)

"""The user's own table: CSV, TSV or Parquet."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from rarelab.data.arguments import one_of
from rarelab.data.reading import find, read_table
from rarelab.data.source import Roles
from rarelab.data.splits import Splits
from rarelab.data.tables.recipe import Numeric, Recipe
from rarelab.errors import RequestError

SPLITS = ("auto", "stratified", "grouped", "time")


@dataclass(frozen=True)
class TableFile:
    """A table on disk with a header and one row per case.

    path: a .csv, .tsv (optionally .gz) or .parquet file. target: the label column.
    positive_label: the value that counts as positive; required unless the target is 0/1, boolean or
    has more than two values. drop: columns not to use as features, such as identifiers.
    categorical: numeric columns that are codes. group, time: the column to split by; split "auto"
    uses whichever is set, else stratifies by class. sample_weight: a column of row weights. The
    other parameters are those of :class:`rarelab.data.tables.recipe.Recipe`. Text columns are
    one-hot encoded; missing values are allowed.
    """

    path: str | None = None
    target: str | None = None
    positive_label: str | int | float | bool | None = None
    drop: Sequence[str] = ()
    categorical: Sequence[str] = ()
    group: str | None = None
    time: str | None = None
    sample_weight: str | None = None
    split: Literal["auto", "stratified", "grouped", "time"] = "auto"
    split_seed: int = 0
    numeric: Numeric = "quantile"
    max_categories: int = 32
    deduplicate: bool = False

    def __post_init__(self) -> None:
        one_of("dataset.split", self.split, SPLITS)
        for key in ("path", "target"):
            if getattr(self, key) is None:
                raise RequestError(f"dataset=file needs dataset.{key}=…")
        if self.split == "auto" and self.group and self.time:
            raise RequestError(
                "dataset.group and dataset.time are both given: set dataset.split=grouped or time"
            )
        self.recipe.check(self.roles)

    @cached_property
    def roles(self) -> Roles:
        label = self.positive_label
        return Roles(
            target=str(self.target),
            positive=None if label is None else str(label),
            drop=tuple(self.drop),
            categorical=tuple(self.categorical),
            group=self.group,
            time=self.time,
            sample_weight=self.sample_weight,
        )

    @cached_property
    def recipe(self) -> Recipe:
        by_column = "grouped" if self.group else "time" if self.time else "stratified"
        split = by_column if self.split == "auto" else self.split
        return Recipe(split, self.split_seed, self.numeric, self.max_categories, self.deduplicate)

    def identity(self) -> str:
        """The sha256 of the file's bytes, independent of its path."""
        with open(find(str(self.path)), "rb") as stream:
            return f"file(sha256={hashlib.file_digest(stream, 'sha256').hexdigest()})"

    def splits(self, seed: int) -> Splits:
        """The splits; they depend on ``split_seed``, not on ``seed``."""
        from rarelab.data.tables.suspects import suspect_columns
        from rarelab.data.tables.tabular import prepare

        path = find(str(self.path))
        frame = read_table(path)
        notes = suspect_columns(frame, self.roles, self.max_categories)
        return prepare(frame, self.roles, self.recipe, name=path.name, notes=notes)

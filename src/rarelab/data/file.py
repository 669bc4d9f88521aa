"""The user's own table: a file, its parts, an address, or the result of a query."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from rarelab.data.arguments import one_of
from rarelab.data.dialect import Csv
from rarelab.data.positives import UNLABELLED, Label, Unlabelled, chosen
from rarelab.data.source import Roles
from rarelab.data.splits import Splits
from rarelab.data.tables.recipe import (
    FOLDS,
    HASH_BUCKETS,
    TEXT_COMPONENTS,
    Dates,
    HighCardinality,
    Numeric,
    Recipe,
    Text,
)
from rarelab.errors import RequestError

if TYPE_CHECKING:
    from pandas import DataFrame

    from rarelab.data.columns import Reading

SPLITS = ("auto", "stratified", "grouped", "time", "cv")


@dataclass(frozen=True)
class TableFile:
    """A table with a header and one row per case.

    path: a .csv, .tsv, .txt (optionally .gz, .zip, .zst), .parquet, .feather or .xlsx file, a
    folder or pattern of such files, or an address (``s3://``, ``gs://``, ``https://``). sql, uri: a
    query instead, and SQLAlchemy's address of its database; without one DuckDB answers it. csv:
    how text is written, where that is not recognised (:class:`rarelab.data.dialect.Csv`).

    target: the label column. positive_label: the value, or a list of the values, that counts as
    positive; required unless the target is 0/1, boolean or has more than two values. positive_if:
    instead, a comparison of a numeric target with a number, ``>0``. unlabelled: "drop" leaves out
    the rows without a label, which are otherwise refused. drop: columns not to use as features,
    such as identifiers. keep: such columns that are written to ``predictions.parquet`` beside each
    row's score. scores: columns that hold the scores of a model in use (higher = more suspicious),
    for a target of two classes; never features, each is an arm of its own in ``rarelab compare``.

    categorical: numeric columns that are codes. group, time: the column to split by; split "auto"
    uses whichever is set, else stratifies by class; "cv" keeps a group in one fold. sample_weight:
    a column of row weights; weigh_metrics: whether it weighs validation and test metrics, recorded
    beside the others, too. amount: a numeric column of what each row is worth, for recall weighted
    by value; it stays a feature unless it is dropped. The other parameters are those of
    :class:`rarelab.data.tables.recipe.Recipe`. Text columns are one-hot encoded; those with
    more than ``max_categories`` levels get target encoding if ``high_cardinality`` is "target",
    hashed levels if it is "hash", and codes if it is "codes". With ``dates`` "parts" or "cyclic",
    ISO dates become their parts as numbers; with ``text`` "tfidf", free text becomes components of
    its n-grams. Missing values are allowed.
    """

    path: str | None = None
    target: str | int | None = None
    positive_label: Label | Sequence[Label] | None = None
    positive_if: str | None = None
    unlabelled: Unlabelled = "refuse"
    drop: Sequence[str | int] = ()
    keep: Sequence[str | int] = ()
    categorical: Sequence[str | int] = ()
    group: str | int | None = None
    time: str | int | None = None
    sample_weight: str | int | None = None
    split: Literal["auto", "stratified", "grouped", "time", "cv"] = "auto"
    split_seed: int = 0
    numeric: Numeric = "quantile"
    max_categories: int = 32
    deduplicate: bool = False
    sql: str | None = None
    uri: str | None = None
    csv: Mapping[str, Any] | None = None
    test_share: float | None = None
    val_share: float | None = None
    folds: int = FOLDS
    origins: int | None = None
    scores: Sequence[str | int] = ()
    amount: str | int | None = None
    weigh_metrics: bool = False
    high_cardinality: HighCardinality = "onehot"
    dates: Dates = "levels"
    hash_buckets: int = HASH_BUCKETS
    text: Text = "levels"
    text_columns: Sequence[str | int] | None = None
    text_components: int = TEXT_COMPONENTS

    def __post_init__(self) -> None:
        one_of("dataset.split", self.split, SPLITS)
        one_of("dataset.unlabelled", self.unlabelled, UNLABELLED)
        if self.path is None and self.sql is None:
            raise RequestError("dataset=file needs dataset.path=…, or dataset.sql=…")
        if self.path is not None and self.sql is not None:
            raise RequestError("dataset.path and dataset.sql are both given: give one")
        if self.uri is not None and self.sql is None:
            raise RequestError("dataset.uri is the address of a database: give dataset.sql=… too")
        if self.target is None:
            raise RequestError("dataset=file needs dataset.target=…")
        if self.weigh_metrics and self.sample_weight is None:
            raise RequestError(
                "dataset.weigh_metrics=true: expected dataset.sample_weight to name the column of "
                "weights"
            )
        Csv.of(self.csv)
        if self.split == "auto" and self.group and self.time:
            raise RequestError(
                "dataset.group and dataset.time are both given: set dataset.split=grouped or time"
            )
        self.recipe.check(self.roles)

    @cached_property
    def roles(self) -> Roles:
        return Roles(
            target=str(self.target),
            positive=chosen(self.positive_label, self.positive_if),
            unlabelled=self.unlabelled,
            drop=tuple(map(str, self.drop)),
            keep=tuple(map(str, self.keep)),
            categorical=tuple(map(str, self.categorical)),
            group=_name(self.group),
            time=_name(self.time),
            sample_weight=_name(self.sample_weight),
            scores=tuple(map(str, self.scores)),
            amount=_name(self.amount),
            weigh_metrics=self.weigh_metrics,
        )

    @cached_property
    def recipe(self) -> Recipe:
        by_column = "grouped" if self.group else "time" if self.time else "stratified"
        split = by_column if self.split == "auto" else self.split
        return Recipe(
            split,
            self.split_seed,
            self.numeric,
            self.max_categories,
            self.deduplicate,
            self.test_share,
            self.val_share,
            self.folds,
            self.origins,
            self.high_cardinality,
            self.dates,
            self.hash_buckets,
            self.text,
            None if self.text_columns is None else tuple(map(str, self.text_columns)),
            self.text_components,
        )

    def identity(self) -> str:
        """The sha256 of the bytes of the file or its parts, independent of their path, or of the
        rows that the query gives."""
        from rarelab.data import places, sql

        if self.sql is not None:
            return sql.identity(sql.query(self.sql, self.uri))
        return places.locate(str(self.path)).identity()

    def check(self) -> None:
        """Refuse a column or label that the table does not have, before anything is trained."""
        from rarelab.data.tables.tabular import check

        known = (self.identity(), self.roles, repr(self.csv))
        if known not in _CHECKED:
            check(self.read()[0], self.roles)
            _CHECKED.add(known)

    def splits(self, seed: int) -> Splits:
        """The splits; they depend on ``split_seed``, not on ``seed``."""
        from rarelab.data.tables.suspects import suspect_columns
        from rarelab.data.tables.tabular import prepare

        frame, understood, note, name = self.read()
        suspects = suspect_columns(frame, self.roles, self.recipe)
        notes = [*([note] if note else []), *suspects]
        splits = prepare(
            frame, self.roles, self.recipe, name=name, notes=notes, alarms=True, consume=True
        )
        splits.preprocessor.remember(understood)
        return splits

    def read(self) -> "tuple[DataFrame, Reading, str, str]":
        """The raw table, how it was read, a note about that, and the table's name."""
        from rarelab.data import places, reading, sql

        if self.sql is None:
            place = places.locate(str(self.path))
            name = place.name
        else:
            place, name = sql.query(self.sql, self.uri), "the query"
        roles = self.roles
        used = {roles.target, roles.group, roles.time, roles.sample_weight, roles.amount}
        used |= {*roles.scores}
        kept = [name for name in roles.keep if name not in used]
        unread = [name for name in roles.drop if name not in used]
        return *reading.read(
            place, Csv.of(self.csv), drop=roles.drop, keep=kept, unread=unread
        ), name


_CHECKED: set[tuple[str, Roles, str]] = set()
"""What :meth:`TableFile.check` accepted: the jobs of a sweep mostly read the same columns."""


def _name(column: str | int | None) -> str | None:
    return None if column is None else str(column)

"""Any table on openml.org, by id or by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from rarelab.data.archives.fetch import data_home
from rarelab.data.arguments import one_of
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
from rarelab.errors import RarelabError, RequestError

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class OpenML:
    """An OpenML data set (Vanschoren et al. 2014, SIGKDD Explorations 15(2)), cached on disk.

    Give ``data_id``, or ``name`` and ``version``. target: the label column, null for the set's
    default target. positive_label, positive_if, unlabelled, drop, keep, scores, amount: as for a
    file. split: null is stratified. The other parameters are those of
    :class:`rarelab.data.tables.recipe.Recipe`. Columns that OpenML marks as categorical are one-hot
    encoded.
    """

    data_id: int | None = None
    name: str | None = None
    version: int = 1
    target: str | None = None
    positive_label: Label | Sequence[Label] | None = None
    positive_if: str | None = None
    unlabelled: Unlabelled = "refuse"
    drop: Sequence[str] = ()
    keep: Sequence[str] = ()
    split_seed: int = 0
    numeric: Numeric = "quantile"
    max_categories: int = 32
    deduplicate: bool = False
    split: Literal["stratified", "cv"] | None = None
    test_share: float | None = None
    val_share: float | None = None
    folds: int = FOLDS
    scores: Sequence[str] = ()
    amount: str | None = None
    high_cardinality: HighCardinality = "onehot"
    dates: Dates = "levels"
    hash_buckets: int = HASH_BUCKETS
    text: Text = "levels"
    text_columns: Sequence[str] | None = None
    text_components: int = TEXT_COMPONENTS

    def __post_init__(self) -> None:
        if (self.data_id is None) == (self.name is None):
            raise RequestError("dataset=openml needs dataset.data_id=NUMBER or dataset.name=NAME")
        one_of("dataset.unlabelled", self.unlabelled, UNLABELLED)
        self.recipe.check(Roles(target="", positive=chosen(self.positive_label, self.positive_if)))

    @cached_property
    def recipe(self) -> Recipe:
        return Recipe(
            self.split or "stratified",
            self.split_seed,
            self.numeric,
            self.max_categories,
            self.deduplicate,
            self.test_share,
            self.val_share,
            self.folds,
            high_cardinality=self.high_cardinality,
            dates=self.dates,
            hash_buckets=self.hash_buckets,
            text=self.text,
            text_columns=None if self.text_columns is None else tuple(self.text_columns),
            text_components=self.text_components,
        )

    def identity(self) -> str:
        if self.data_id is not None:
            return f"openml(data_id={self.data_id})"
        return f"openml(name={self.name}, version={self.version})"

    def splits(self, seed: int) -> Splits:
        """The splits; they depend on ``split_seed``, not on ``seed``."""
        from rarelab.data.tables.tabular import prepare

        frame, target, categorical = self._fetch()
        roles = Roles(
            target=self.target or target,
            positive=chosen(self.positive_label, self.positive_if),
            unlabelled=self.unlabelled,
            drop=tuple(self.drop),
            keep=tuple(self.keep),
            categorical=tuple(name for name in categorical if name != (self.target or target)),
            scores=tuple(self.scores),
            amount=self.amount,
        )
        return prepare(frame, roles, self.recipe, name=self.identity(), alarms=True)

    def _fetch(self) -> "tuple[DataFrame, str, list[str]]":
        """The frame, its default target and its categorical columns, from the cache or the web."""
        from sklearn.datasets import fetch_openml

        asked: dict[str, Any] = {"data_id": self.data_id}
        if self.name is not None:
            asked = {"name": self.name, "version": self.version}
        folder = data_home() / "openml"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            bunch: Any = fetch_openml(
                **asked, as_frame=True, data_home=str(folder), parser="auto", n_retries=1
            )
        except (OSError, ValueError) as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise RarelabError(
                f"{self.identity()} cannot be fetched ({first}): check the network and the id,"
                " or use dataset=file dataset.path=YOUR.csv, or dataset=toy"
            ) from error
        kinds = bunch.frame.dtypes
        return bunch.frame, bunch.target_names[0], list(kinds.index[kinds == "category"])

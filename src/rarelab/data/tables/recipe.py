"""How a raw frame is split and scaled: the options common to all tabular sets."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from rarelab.data.arguments import at_least, between, one_of
from rarelab.data.source import Roles
from rarelab.errors import RequestError

Split = Literal["stratified", "grouped", "time", "official", "cv"]
Numeric = Literal["quantile", "standard", "none"]
HighCardinality = Literal["onehot", "target", "hash", "codes"]
Dates = Literal["levels", "parts", "cyclic"]
Text = Literal["levels", "tfidf"]

SPLITS: tuple[str, ...] = get_args(Split)
NUMERIC: tuple[str, ...] = get_args(Numeric)
HIGH_CARDINALITY: tuple[str, ...] = get_args(HighCardinality)
DATES: tuple[str, ...] = get_args(Dates)
TEXT: tuple[str, ...] = get_args(Text)

HASH_BUCKETS = 128
TEXT_COMPONENTS = 30
MOST_HASH_BUCKETS = 2**16
MOST_TEXT_COMPONENTS = 1000
VAL_SHARE = 0.15
TEST_SHARE = 0.25
FOLDS = 5


@dataclass(frozen=True)
class Recipe:
    """Options of the split and of the preprocessing.

    split: "stratified" (60 / 15 / 25 by class), "grouped" (no group in two splits), "time" (train
    on the oldest rows, test on the newest), "official" (the set's own test rows) or "cv" (a fold of
    a cross-validation, stratified; where there is a group column, no group is in two folds).
    split_seed: the number of the split: the seed of the draw; with "cv" fold split_seed % folds of
    repetition split_seed // folds; with several ``origins`` one of them, 0 being the oldest.
    numeric, max_categories, high_cardinality: see ``preprocess.Preprocessor``. hash_buckets: of
    high_cardinality "hash" (``hashing.HashedColumns``), for each column. dates: "levels" (ISO
    dates are text like any other), "parts" (numbers, see ``dates.DateColumns``) or "cyclic" (parts,
    of which month, weekday and hour are a sine and a cosine each). text: "levels" (free text is
    text like any other) or "tfidf" (``text_components`` numbers, see
    ``free_text.FreeTextColumns``). text_columns: the columns of free text, null for those that
    ``free_text.is_free_text`` finds in the training rows. deduplicate: leave out rows that repeat
    the features and label of an earlier row.

    test_share, val_share: shares of all rows (with "grouped", of the groups), null for 0.25 and
    0.15. With "cv" the test share is 1 / folds; with "official" the test rows are given, and
    val_share null is 20 % of the others. folds: of "cv". origins: of "time", the number of
    consecutive windows into which the newest test_share is cut, each tested by a model trained on
    all rows before it (:func:`rarelab.data.tables.divide.by_time`); null for one.
    """

    split: Split = "stratified"
    split_seed: int = 0
    numeric: Numeric = "quantile"
    max_categories: int = 32
    deduplicate: bool = False
    test_share: float | None = None
    val_share: float | None = None
    folds: int = FOLDS
    origins: int | None = None
    high_cardinality: HighCardinality = "onehot"
    dates: Dates = "levels"
    hash_buckets: int = HASH_BUCKETS
    text: Text = "levels"
    text_columns: tuple[str, ...] | None = None
    text_components: int = TEXT_COMPONENTS

    @property
    def shares(self) -> dict[str, Any]:
        """The shares of validation and test, as the functions of ``divide`` take them."""
        val = VAL_SHARE if self.val_share is None else self.val_share
        test = TEST_SHARE if self.test_share is None else self.test_share
        return {"val_share": val, "test_share": 1 / self.folds if self.split == "cv" else test}

    def check(self, roles: Roles) -> None:
        """Refuse an option that is unknown, out of range, or needs a column that is not given."""
        one_of("dataset.split", self.split, SPLITS)
        one_of("dataset.numeric", self.numeric, NUMERIC)
        one_of("dataset.high_cardinality", self.high_cardinality, HIGH_CARDINALITY)
        one_of("dataset.dates", self.dates, DATES)
        one_of("dataset.text", self.text, TEXT)
        self._check_encoding()
        at_least("dataset.split_seed", self.split_seed, 0)
        at_least("dataset.max_categories", self.max_categories, 2)
        needs = {"grouped": roles.group, "time": roles.time, "official": roles.official}
        if needs.get(self.split, "") is None:
            able = [name for name in SPLITS if needs.get(name, "") is not None]
            raise RequestError(
                f"dataset.split={self.split} is not possible: there is no column to split by;"
                f" choose from {', '.join(able)}"
            )
        self._check_shares()
        self._check_number()

    def _check_encoding(self) -> None:
        """Refuse sizes out of range, and columns of free text that are not encoded as such."""
        for key, value, most in (
            ("hash_buckets", self.hash_buckets, MOST_HASH_BUCKETS),
            ("text_components", self.text_components, MOST_TEXT_COMPONENTS),
        ):
            between(f"dataset.{key}", value, 1, most, include_low=True, include_high=True)
        if self.text_columns is not None and self.text == "levels":
            raise RequestError(
                f"dataset.text_columns=[{','.join(self.text_columns)}]: expected dataset.text=tfidf"
                " beside it"
            )

    def _check_shares(self) -> None:
        if self.test_share is not None and self.split in _TESTED:
            raise RequestError(
                f"dataset.test_share={self.test_share} is not possible with"
                f" dataset.split={self.split}: {_TESTED[self.split]}"
            )
        if self.folds != FOLDS and self.split != "cv":
            raise RequestError(f"dataset.folds={self.folds}: expected dataset.split=cv beside it")
        at_least("dataset.folds", self.folds, 2)
        shares = self.shares
        for name, share in shares.items():
            between(f"dataset.{name}", share, 0, 1)
        val, test = shares["val_share"], shares["test_share"]
        if self.split != "official" and val + test > 1 - 1e-9:
            raise RequestError(
                f"dataset.val_share={val:g} beside a test share of {test:g} leaves no training"
                " rows: expected a sum below 1"
            )

    def _check_number(self) -> None:
        """Refuse a cut-off, or a split by time, that there is not."""
        if self.origins is None:
            if self.split == "time" and self.split_seed > 0:
                raise RequestError(
                    f"dataset.split_seed={self.split_seed}: there is one split by time; for R of"
                    " them, by R consecutive cut-offs: dataset.origins=R"
                    " 'dataset.split_seed=range(R)'"
                )
            return
        if self.split != "time":
            raise RequestError(
                f"dataset.origins={self.origins}: expected dataset.split=time beside it"
            )
        at_least("dataset.origins", self.origins, 1)
        if self.split_seed >= self.origins:
            raise RequestError(
                f"dataset.split_seed={self.split_seed}: expected a whole number below"
                f" dataset.origins={self.origins} (0 is the oldest cut-off)"
            )


_TESTED = {
    "cv": "each fold tests 1 / dataset.folds of the rows",
    "official": "the set has its own test rows",
}
"""Splits whose test rows follow from something else than a share."""

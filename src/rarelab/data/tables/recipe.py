"""How a raw frame is split and scaled: the options common to all tabular sets."""

from dataclasses import dataclass
from typing import Literal, get_args

from rarelab.data.arguments import at_least, one_of
from rarelab.data.source import Roles
from rarelab.errors import RequestError

Split = Literal["stratified", "grouped", "time", "official"]
Numeric = Literal["quantile", "standard", "none"]

SPLITS: tuple[str, ...] = get_args(Split)
NUMERIC: tuple[str, ...] = get_args(Numeric)


@dataclass(frozen=True)
class Recipe:
    """Options of the split and of the preprocessing.

    split: "stratified" (60 / 15 / 25 by class), "grouped" (no group in two splits), "time" (train
    on the oldest rows, test on the newest) or "official" (the set's own test rows). split_seed: the
    random seed of the split. numeric, max_categories: see ``preprocess.Preprocessor``. deduplicate:
    leave out rows that repeat the features and label of an earlier row.
    """

    split: Split = "stratified"
    split_seed: int = 0
    numeric: Numeric = "quantile"
    max_categories: int = 32
    deduplicate: bool = False

    def check(self, roles: Roles) -> None:
        """Refuse an option that is unknown, out of range, or needs a column that is not given."""
        one_of("dataset.split", self.split, SPLITS)
        one_of("dataset.numeric", self.numeric, NUMERIC)
        at_least("dataset.split_seed", self.split_seed, 0)
        at_least("dataset.max_categories", self.max_categories, 2)
        needs = {"grouped": roles.group, "time": roles.time, "official": roles.official}
        if needs.get(self.split, "") is None:
            able = [name for name in SPLITS if needs.get(name, "") is not None]
            raise RequestError(
                f"dataset.split={self.split} is not possible: there is no column to split by;"
                f" choose from {', '.join(able)}"
            )

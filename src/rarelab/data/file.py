"""The user's own table: CSV, TSV or Parquet."""

import hashlib
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rarelab.data.arguments import one_of
from rarelab.data.recipe import Numeric, Recipe
from rarelab.data.source import Roles
from rarelab.data.splits import Splits
from rarelab.errors import RequestError, nearest

if TYPE_CHECKING:
    from pandas import DataFrame

SPLITS = ("auto", "stratified", "grouped", "time")
READ_AS = {
    **dict.fromkeys((".csv", ".csv.gz"), "csv"),
    **dict.fromkeys((".tsv", ".tsv.gz", ".tab"), "tsv"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
}


@dataclass(frozen=True)
class TableFile:
    """A table on disk, one row a case, with a header.

    path: a .csv, .tsv (either may be .gz) or .parquet file. target: the label column.
    positive_label: the value that counts as positive; needed unless the target is 0/1, boolean or
    has more than two values. drop: columns that are no features, such as identifiers. categorical:
    number columns that are codes. group, time: the column to split by; split "auto" follows them,
    else stratifies by class. sample_weight: a column of row weights. The other parameters are those
    of :class:`rarelab.data.recipe.Recipe`. Text columns are one-hot, missing values allowed.
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
                "dataset.group and dataset.time are both given: say dataset.split=grouped or time"
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
        """The sha256 of the file, wherever it lies."""
        with open(find(str(self.path)), "rb") as stream:
            return f"file(sha256={hashlib.file_digest(stream, 'sha256').hexdigest()})"

    def splits(self, seed: int) -> Splits:
        """The splits; ``seed`` changes nothing here, ``split_seed`` does."""
        from rarelab.data.suspects import suspect_columns
        from rarelab.data.tabular import prepare

        path = find(str(self.path))
        frame = read_table(path)
        notes = suspect_columns(frame, self.roles, self.max_categories)
        return prepare(frame, self.roles, self.recipe, name=path.name, notes=notes)


def find(name: str, key: str = "dataset.path") -> Path:
    """The file of that name; RequestError with the nearest file of its folder if it is absent.

    ``key`` is what the user calls it, for the message.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    folder = path.parent
    if not folder.is_dir():
        raise RequestError(f"{key}={name}: there is no folder {folder}")
    tables = [file.name for file in folder.iterdir() if ending_of(file.name)]
    raise RequestError(f"{key}={name}: there is no such file: {nearest(path.name, tables)}")


def ending_of(name: str) -> str | None:
    """The end of a file's name that says how it is read (a key of ``READ_AS``), None if none."""
    return next((end for end in READ_AS if name.lower().endswith(end)), None)


def read_table(path: Path, text: Collection[str] = ()) -> "DataFrame":
    """The frame of a CSV, TSV or Parquet file; RequestError when it cannot be read.

    ``text`` names columns that are to be read as text, though they may look like numbers.
    """
    import pandas as pd

    ending = ending_of(path.name)
    if ending is None:
        raise RequestError(f"{path.name}: expected a name that ends in {', '.join(READ_AS)}")
    kind = READ_AS[ending]
    try:
        if kind == "parquet":
            return _text_names(pd.read_parquet(path))
        separator = "\t" if kind == "tsv" else ","
        # Without a header pandas leaves repeated names alone, so that they can be refused.
        names = pd.read_csv(path, sep=separator, header=None, nrows=1, dtype=str).iloc[0]
        as_text: Any = {name: str for name in names if str(name).strip() in text}
        frame = pd.read_csv(path, sep=separator, low_memory=False, index_col=False, dtype=as_text)
    except pd.errors.EmptyDataError:
        raise RequestError(f"{path.name} is empty: expected a header and rows") from None
    except UnicodeDecodeError as error:
        raise RequestError(
            f"{path.name} is no UTF-8 text (byte {error.start} is {error.object[error.start]:#x}): "
            "save it as UTF-8"
        ) from None
    except (ValueError, OSError, EOFError, zlib.error, pd.errors.ParserWarning) as error:
        first = str(error).strip().splitlines()[0]
        raise RequestError(f"{path.name} cannot be read as {kind}: {first}") from None
    if len(names) == len(frame.columns) and not names.isna().any():
        frame.columns = list(names)
    return _text_names(frame)


def _text_names(frame: "DataFrame") -> "DataFrame":
    frame.columns = [str(name).strip() for name in frame.columns]
    return frame

"""Read a CSV, TSV or Parquet file as a raw frame, with its column names as written."""

import zlib
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rarelab.data.delimited import header_and_width
from rarelab.errors import RequestError, nearest

if TYPE_CHECKING:
    from pandas import DataFrame

READ_AS = {
    **dict.fromkeys((".csv", ".csv.gz"), "csv"),
    **dict.fromkeys((".tsv", ".tsv.gz", ".tab"), "tsv"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
}


def find(name: str, key: str = "dataset.path") -> Path:
    """The path of an existing file; else RequestError with the nearest file name in its folder.

    ``key`` is the setting that the message names.
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
    """The suffix that decides how a file is read (a key of ``READ_AS``), or None."""
    return next((end for end in READ_AS if name.lower().endswith(end)), None)


def read_table(path: Path, text: Collection[str] = ()) -> "DataFrame":
    """The frame of a CSV, TSV or Parquet file; RequestError if it cannot be read.

    ``text`` names columns to read as text even if they look like numbers.
    """
    import pandas as pd

    ending = ending_of(path.name)
    if ending is None:
        raise RequestError(f"{path.name}: expected a name ending in {', '.join(READ_AS)}")
    kind = READ_AS[ending]
    try:
        if kind == "parquet":
            frame = pd.read_parquet(path)
            frame.columns = [str(name).strip() for name in frame.columns]
            return frame
        return _read_delimited(path, "\t" if kind == "tsv" else ",", text)
    except RequestError:
        raise
    except (ValueError, OSError, EOFError, zlib.error) as error:
        first = str(error).strip().splitlines()[0]
        raise RequestError(f"{path.name} cannot be read as {kind}: {first}") from None


def _read_delimited(path: Path, separator: str, text: Collection[str]) -> "DataFrame":
    import pandas as pd

    header, width = header_and_width(path, separator)
    # Positions as names while pandas reads, or it would rename duplicates and shift columns.
    names = [name.strip() or f"Unnamed: {i}" for i, name in enumerate(header)]
    as_text: Any = {i: str for i, name in enumerate(names) if name in text}
    frame = pd.read_csv(
        path,
        sep=separator,
        header=0,
        names=list(range(width)),
        index_col=False,
        dtype=as_text,
        low_memory=False,
    )
    frame = frame.iloc[:, : len(names)]
    frame.columns = names
    return frame

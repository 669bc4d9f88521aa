"""The file of scores, written in pieces: complete under its name, or not there."""

import gzip
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rarelab.data.reading import ending_of
from rarelab.errors import RarelabError, RequestError
from rarelab.files import written_whole
from rarelab.predict.digits import as_texts
from rarelab.predict.spreadsheet import inert

WRITTEN_AS = {
    **dict.fromkeys((".csv", ".csv.gz"), ","),
    **dict.fromkeys((".tsv", ".tsv.gz", ".tab"), "\t"),
    **dict.fromkeys((".parquet", ".pq"), None),
}
"""Endings of output files -> the separator of the fields; None: Parquet."""

Write = Callable[[pd.DataFrame], None]


def output_path(
    asked: str | None, file: Path, inputs: Sequence[Path], *, overwrite: bool
) -> Path | None:
    """The file to write the scores of ``file`` to, None for standard output (``-``).

    ``inputs``: the files that hold its rows, which are never overwritten.

    Raises:
        RequestError: an ending, a folder or a file that cannot be written to.
    """
    if asked == "-":
        return None
    ending = ending_of(file.name) or file.suffix
    stem = file.name[: len(file.name) - len(ending)]
    written = ending if ending in WRITTEN_AS else ".csv"
    output = Path(asked).expanduser() if asked else file.with_name(f"{stem}.scores{written}")
    if not output.name.lower().endswith(tuple(WRITTEN_AS)):
        raise RequestError(f"output={output}: expected a name ending in {', '.join(WRITTEN_AS)}")
    if not output.parent.is_dir():
        raise RequestError(f"output={output}: there is no folder {output.parent}")
    if output.is_dir():
        raise RequestError(f"output={output}: this is a folder")
    if output.exists() and not overwrite:
        raise RequestError(
            f"output={output}: the file already exists and is not overwritten"
            " (overwrite=true replaces it)"
        )
    if output.exists() and any(output.samefile(one) for one in inputs):
        raise RequestError(f"output={output}: this is the file to score")
    return output


@contextmanager
def writing(output: Path | None, schema: pa.Schema, *, overwrite: bool) -> Iterator[Write]:
    """A function that appends a frame with the columns of ``schema`` to the output.

    Raises:
        RequestError: the file has appeared in the meantime, and ``overwrite`` is false.
        RarelabError: it cannot be written.
    """
    if output is None:
        yield _delimited(sys.stdout, ",")
        return
    separator = next(s for end, s in WRITTEN_AS.items() if output.name.lower().endswith(end))
    try:
        with written_whole(output, replace=overwrite) as scratch, scratch.open("wb") as file:
            if separator is None:
                with pq.ParquetWriter(file, schema) as writer:
                    yield lambda table: writer.write_table(
                        pa.Table.from_pandas(table, schema, preserve_index=False)
                    )
            elif output.name.lower().endswith(".gz"):
                with gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as packed:
                    yield _delimited(packed, separator)
            else:
                yield _delimited(file, separator)
    except FileExistsError:
        raise RequestError(f"output={output}: the file already exists") from None
    except OSError as error:
        raise RarelabError(
            f"output={output} cannot be written: {error.strerror or error}"
        ) from None


def _delimited(file: BinaryIO | gzip.GzipFile | object, separator: str) -> Write:
    """Writes frames as CSV to an open file, the header before the first one."""
    header = True

    def write(table: pd.DataFrame) -> None:
        nonlocal header
        shown = as_texts(inert(table))
        shown.to_csv(file, index=False, sep=separator, header=header)  # pyright: ignore
        header = False

    return write

"""``rarelab predict RUN_ID FILE``: score a file of raw columns."""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from rarelab.data.arguments import between
from rarelab.data.reading import READ_AS, ending_of, find, opened, read_like
from rarelab.errors import RarelabError, RequestError, nearest
from rarelab.files import written_whole
from rarelab.predict.arrays import ArrayRows
from rarelab.predict.bundle import FOLDER, read_model
from rarelab.predict.columns import check_columns
from rarelab.predict.facts import read_facts
from rarelab.predict.scorer import Scorer, Threshold
from rarelab.predict.spreadsheet import inert
from rarelab.quoting import names
from rarelab.records.find import fetch_model, find_run

WRITTEN = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".tab", ".parquet", ".pq")
"""The endings of a file of scores."""


@dataclass(frozen=True)
class Request:
    """What to score, with which run, and where to write the scores.

    run: MLflow id, a prefix of it, or folder name. file: a table, named as by ``dataset.path``,
    or a query (``SELECT ...``) of the database at ``uri``; .npy or .npz for a run trained on
    arrays. budget: share of rows that may alert. output: a new file, ``-`` for standard output,
    None for a file next to the input. drop: columns of the file to ignore. allow_targets: the
    user's own modules that the model may come from.
    """

    run: str
    file: str
    budget: float | None = None
    output: str | None = None
    drop: Sequence[str] = ()
    allow_targets: Sequence[str] = ()
    uri: str | None = None


def request(run: str, file: str, settings: Sequence[str]) -> Request:
    """Build the request from ``KEY=VALUE`` settings; lists as in Hydra, ``drop=[a,b]``.

    Raises:
        RequestError: an unknown key or an invalid value.
    """
    known = {"budget": _share, "output": str, "uri": str, "drop": names, "allow_targets": names}
    given: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if key not in known:
            raise RequestError(f"{key}: there is no such setting; {nearest(key, known)}")
        if not equals or not value:
            raise RequestError(f"{setting}: expected {key}=VALUE")
        given[key] = known[key](value)
    return Request(run, file, **given)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        raise RequestError(f"budget={text}: expected a number, for example 0.005") from None
    between("budget", share, 0, 1)
    return share


def predict(request: Request, home: Path, uri: str | None = None) -> str:
    """Score the file, write the scores and return a summary.

    Raises:
        RequestError: the run, the file, a column, the budget or the output is invalid; nothing was
            written.
    """
    path = find(request.file, key="FILE")
    output = _output(request.output, path)
    if request.allow_targets and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # find the user's modules in the working directory
    with tempfile.TemporaryDirectory() as scratch:
        directory = find_run(home, request.run)
        if directory is None:
            folder = fetch_model(home, uri, request.run, Path(scratch))
        else:
            folder = directory / FOLDER
        name = read_facts(folder)["run"]
        scorer = read_model(folder, request.allow_targets)
    threshold = None if request.budget is None else scorer.threshold(request.budget)
    table = scorer.table(_read(path, request, scorer), request.budget)
    table.insert(0, "row", range(len(table)))
    _write(table, output)
    return _summary(table, name, path, output, threshold)


def _read(path: Path, request: Request, scorer: Scorer) -> pd.DataFrame | NDArray:
    fitted = scorer.preprocessor
    if isinstance(fitted, ArrayRows):
        return fitted.read(path)
    frame = read_like(opened(request.file, request.uri, key="FILE"), fitted)
    check_columns(frame, fitted, request.drop)
    return frame


def _output(asked: str | None, path: Path) -> Path | None:
    """The file to write the scores to, None for standard output."""
    if asked == "-":
        return None
    ending = ending_of(path.name) or path.suffix
    stem = path.name.removesuffix(path.name[len(path.name) - len(ending) :])
    beside = path.with_name(f"{stem}.scores{ending if ending in WRITTEN else '.csv'}")
    output = Path(asked).expanduser() if asked else beside
    if ending_of(output.name) not in WRITTEN:
        raise RequestError(f"output={output}: expected a name ending in {', '.join(WRITTEN)}")
    if not output.parent.is_dir():
        raise RequestError(f"output={output}: there is no folder {output.parent}")
    if output.exists():
        raise RequestError(f"output={output}: the file already exists and is not overwritten")
    return output


def _write(table: pd.DataFrame, output: Path | None) -> None:
    if output is None:
        inert(table).to_csv(sys.stdout, index=False)
        return
    kind = READ_AS[ending_of(output.name) or ".csv"]
    try:
        with written_whole(output, replace=False) as scratch, scratch.open("wb") as file:
            if kind == "parquet":
                table.to_parquet(file, index=False)
                return
            packed = "gzip" if output.name.endswith(".gz") else None
            separator = "\t" if kind == "tsv" else ","
            inert(table).to_csv(file, index=False, sep=separator, compression=packed)
    except FileExistsError:
        raise RequestError(f"output={output}: the file already exists") from None
    except OSError as error:
        raise RarelabError(
            f"output={output} cannot be written: {error.strerror or error}"
        ) from None


def _summary(
    table: pd.DataFrame, run: str, path: Path, output: Path | None, threshold: Threshold | None
) -> str:
    where = "standard output" if output is None else output
    lines = [f"scored {len(table):,} rows of {path.name} with {run}: {where}"]
    if threshold is not None:
        alerts = int(table["alert"].to_numpy().sum())
        lines += [
            f"alert at a budget of {100 * threshold.budget:g} %: score >= {threshold.value:.6g},"
            f" chosen on validation ({threshold.alerts:,} of its {threshold.rows:,} rows,"
            f" {threshold.hits:,} of its {threshold.positives:,} positives)",
            f"{alerts:,} of {len(table):,} rows alert ({alerts / len(table):.3%})",
        ]
    return "\n".join(lines)

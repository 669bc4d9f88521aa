"""``rarelab predict RUN_ID FILE``: score a file of raw columns.

A table is read in pieces. A first pass scores them all and holds the scores, because a rank and a
number of alerts need them together; nothing is written before it has seen the whole file. A second
pass writes, reading again only the columns to keep.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rarelab.data.pieces import Pieces, Unsettled
from rarelab.data.reading import find, locate, opened, reading_of
from rarelab.data.sql import is_query
from rarelab.data.tables.preprocess import Preprocessor
from rarelab.errors import RequestError
from rarelab.predict import summary
from rarelab.predict.arrays import ArrayRows
from rarelab.predict.bundle import FOLDER, read_model
from rarelab.predict.columns import TextColumnsCheck, Unreadable, check_names, readable
from rarelab.predict.drift import Drift
from rarelab.predict.facts import read_facts
from rarelab.predict.output import output_path, writing
from rarelab.predict.probability import calibrator_of
from rarelab.predict.reasons import Reasons, Top
from rarelab.predict.scorer import Scorer
from rarelab.predict.settings import Request, request
from rarelab.predict.table import Scored, ScoreTable
from rarelab.records.find import fetch_model, find_run

__all__ = ["Request", "predict", "request"]

CELLS = 2**21
"""Features of a piece, at most: some 100 MB with all their copies."""

_REASONS = 1000
"""Different reasons that are kept for rows without a score; further ones share one."""

_OVERFLOW = "the score is not finite: the values are beyond what the model can compute with"


def predict(
    request: Request,
    home: Path,
    uri: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> str:
    """Score the file, write the scores and return a summary.

    ``progress`` is called with a line now and then; by default it goes to standard error.

    Rows alert at the run's own budget, if it has one and nothing else is asked for.

    Raises:
        RequestError: the run, the file, a column, a setting or the output is invalid; nothing was
            written.
    """
    path = find(request.file, key="FILE")
    inputs = () if is_query(request.file) else locate(request.file, key="FILE").files
    if request.allow_targets and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # find the user's modules in the working directory
    with tempfile.TemporaryDirectory() as scratch:
        directory = find_run(home, request.run)
        if directory is None:
            folder = fetch_model(home, uri, request.run, Path(scratch))
        else:
            folder = directory / FOLDER
        output = output_path(request.output, path, inputs, overwrite=request.overwrite)
        name = read_facts(folder)["run"]
        scorer = read_model(folder, request.allow_targets)
        calibrated = calibrator_of(scorer, folder.parent / "predictions.parquet")
    ours = scorer.rules.budget if request.undecided and scorer.validation is not None else None
    if ours is not None:
        request = replace(request, budget=ours.value)
    reasons = Reasons.of(scorer, request.reasons) if request.reasons else None
    table = ScoreTable(scorer, None if calibrated is None else calibrated[0], request, reasons)
    threshold = None if request.rule is None else scorer.threshold(request.rule)
    tell = progress or _to_standard_error
    ignored: list[str] = []
    if isinstance(scorer.preprocessor, ArrayRows):
        pieces = None
        scored = _score_array(scorer, scorer.preprocessor.read(path), request)
    else:
        fitted = scorer.preprocessor
        pieces = Pieces(opened(request.file, request.uri, key="FILE"), reading_of(fitted))
        ignored = check_names(pieces.names, fitted, request.drop)
        table.check(pieces.names)
        how = [*fitted.columns], _rows_of_a_piece(scorer, fitted)
        rest = scorer, fitted, request.on_bad, reasons
        try:
            scored = _score(_told(_ahead(pieces.read_once(*how)), "scored", tell), *rest)
        except (Unsettled, RequestError):  # what to say of a value may change too
            scored = _score(_told(_ahead(pieces.read(*how)), "scored", tell), *rest)
    cut = table.cut(scored)
    with writing(output, table.schema(pieces, cut), overwrite=request.overwrite) as write:
        for part in _told(table.parts(scored, cut, pieces), "wrote", tell):
            write(part)
    lines = [
        summary.first_line(scored, path, name, output),
        *summary.bad_rows(scored),
        *summary.ignored_columns([n for n in ignored if n not in request.kept]),
        *table.repeated_ids(),
        *([] if calibrated is None else [f"probability: {calibrated[1]}"]),
        *summary.alerts(scored, table, cut, threshold),
        *summary.own_budget(ours),
        *summary.drift(scored, scorer),
    ]
    return "\n".join(lines)


def _to_standard_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _score_array(scorer: Scorer, rows: NDArray, request: Request) -> Scored:
    """The scores of an array, which is in memory as it is.

    Raises:
        RequestError: columns were asked for, the array is not as in training, or no row can be
            scored, or one with ``on_bad`` "refuse".
    """
    asked = {"id": request.id, "keep": request.keep, "drop": request.drop}
    for key in (key for key, names in asked.items() if names):
        raise RequestError(f"{key}: this run was trained on arrays, which have no columns")
    found, failed = scorer.scores(rows).numpy(), _Failed()
    failed.add(_with_overflow([], found, 0), request.on_bad)
    return failed.scored(found)


def _score(
    frames: Iterable[pd.DataFrame],
    scorer: Scorer,
    fitted: Preprocessor,
    on_bad: str,
    reasons: Reasons | None,
) -> Scored:
    """The first pass.

    Raises:
        RequestError: no row can be scored, a column is of another type, or ``on_bad`` is "refuse"
            and a value is unreadable.
    """
    texts, drift, failed = TextColumnsCheck(fitted), Drift(fitted), _Failed()
    scores: list[NDArray[np.float32]] = []
    tops: list[Top] = []
    rows = 0
    for frame in frames:
        if not len(frame):  # pandas gives one piece for a header without rows
            continue
        texts.add(frame)
        clean, unreadable = readable(frame, fitted, rows)
        features = scorer.features(clean)
        found = scorer.scores_of(features).numpy()
        failed.add(_with_overflow(unreadable, found, rows), on_bad)
        drift.add(clean)
        scores.append(found)
        tops += [] if reasons is None else [reasons.top(features)]
        rows += len(frame)
    if not rows:
        raise RequestError("the file has a header but no rows")
    texts.finish()
    return failed.scored(np.concatenate(scores), drift, Top.joined(tops) if tops else None)


class _Failed:
    """Rows without a score, with as many reasons in words as are worth their memory."""

    def __init__(self) -> None:
        self.first: list[Unreadable] = []
        self.reasons: dict[str, int] = {}
        self._found: list[NDArray[np.int64]] = []

    def add(self, unreadable: list[Unreadable], on_bad: str) -> None:
        if unreadable and on_bad == "refuse":
            raise RequestError(str(unreadable[0]))
        self.first += unreadable[: 5 - len(self.first)]
        pairs = [(one.row, self._code(one)) for one in unreadable]
        self._found.append(np.array(pairs, dtype=np.int64).reshape(-1, 2))

    def scored(
        self, scores: NDArray[np.float32], drift: Drift | None = None, top: Top | None = None
    ) -> Scored:
        """The scores [N, C] of all rows, with these left out."""
        rows, reason = np.concatenate(self._found).T
        if len(rows) == len(scores) > 0:
            raise RequestError(str(self.first[0]))
        return Scored(scores, rows, reason, [*self.reasons], self.first, drift, top)

    def _code(self, one: Unreadable) -> int:
        reason = one.why
        if reason not in self.reasons and len(self.reasons) >= _REASONS:
            reason = "a value cannot be read"
        return self.reasons.setdefault(reason, len(self.reasons))


def _with_overflow(
    unreadable: list[Unreadable], scores: NDArray[np.float32], first_row: int
) -> list[Unreadable]:
    """Also the rows whose values can be read, but are beyond what the model can compute with."""
    known = {one.row for one in unreadable}
    rows = first_row + np.flatnonzero(~np.isfinite(scores).all(axis=1))
    beyond = [Unreadable(row, _OVERFLOW) for row in rows.tolist() if row not in known]
    return sorted([*unreadable, *beyond], key=lambda one: one.row)


def _rows_of_a_piece(scorer: Scorer, fitted: Preprocessor) -> int:
    """A multiple of the rows that the trainer scores at once, so that the pieces change no bit."""
    size = max(1, CELLS // len(fitted.feature_names))
    batch = scorer.trainer.eval_batch_size
    return size // batch * batch or size


Piece = TypeVar("Piece", bound=Sized)


def _ahead(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """The pieces, each made by another thread while the one before is used."""
    with ThreadPoolExecutor(1, "rarelab-reading") as thread:
        coming = thread.submit(next, pieces, None)
        while (piece := coming.result()) is not None:
            coming = thread.submit(next, pieces, None)
            yield piece


def _told(
    pieces: Iterable[Piece], done: str, progress: Callable[[str], None], every: float = 10.0
) -> Iterator[Piece]:
    """The pieces, with a line on how far they are every few seconds."""
    rows, last = 0, time.monotonic()
    for piece in pieces:
        yield piece
        rows += len(piece)
        if time.monotonic() - last > every:
            last = time.monotonic()
            progress(f"{done} {rows:,} rows …")

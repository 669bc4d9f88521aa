"""The table of scores: one row for each row of the file, made in parts from the held scores."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray

from rarelab.data.pieces import Pieces
from rarelab.errors import RarelabError, RequestError, nearest
from rarelab.metrics.calibration import Calibrator
from rarelab.metrics.thresholds import top_threshold
from rarelab.predict.columns import Unreadable
from rarelab.predict.drift import Drift
from rarelab.predict.reasons import Reasons, Top
from rarelab.predict.rules import probability_columns
from rarelab.predict.scorer import Scorer, score_columns
from rarelab.predict.settings import Request

ROWS = 2**16
"""Rows of a part."""

SCORED = "scored"
"""The status of a row that has a score."""


@dataclass
class Scored:
    """The scores of the whole file, [N, C]; ``bad`` are the rows without one, in order, and
    ``reasons[reason[i]]`` says why row ``bad[i]`` has none. ``first`` are the first few of them.
    ``drift`` is None if the rows are arrays, ``top`` if no reasons were asked for."""

    scores: NDArray[np.float32]
    bad: NDArray[np.int64]
    reason: NDArray[np.int64]
    reasons: list[str]
    first: list[Unreadable]
    drift: Drift | None = None
    top: Top | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def found(self) -> NDArray[np.float32]:
        """The scores [M, C] of the rows that have one."""
        return np.delete(self.scores, self.bad, axis=0) if len(self.bad) else self.scores


@dataclass
class ScoreTable:
    """Columns: ``row``, the kept ones, ``score`` (or one for each class), ``probability``, the
    run's ``decision``, ``alert`` if there is a threshold, ``rank``, the reasons, ``status``.

    ``repeated`` counts rows whose ``id`` an earlier row has, once all parts are made.
    """

    scorer: Scorer
    calibrator: Calibrator | None
    request: Request
    reasons: Reasons | None = None
    repeated: int = field(default=0, init=False)

    def check(self, names: Sequence[str]) -> None:
        """Refuse kept columns that the file lacks, has twice or that are named like another."""
        key = {name: "keep" for name in self.request.keep}
        if self.request.id is not None:
            key[self.request.id] = "id"
        for name, where in key.items():
            if name not in names:
                raise RequestError(f"{where}={name} is not a column: {nearest(name, names)}")
            if names.count(name) > 1:
                raise RequestError(f"the column name {name!r} occurs more than once: rename one")
            if name == "row" or name in self._own():
                raise RequestError(
                    f"{where}={name}: the scores have a column {name!r} of their own; rename yours"
                )

    def cut(self, scored: Scored) -> float | None:
        """The lowest score that alerts, by the request, else by the run's costs; None: no alerts.

        Raises:
            RequestError: alerts were asked for, and the run has more than two classes.
        """
        request = self.request
        if request.rule is not None:
            return self.scorer.threshold(request.rule).value
        if request.alerts is None:
            return None if request.no_budget else self.scorer.rules.threshold
        if len(self.scorer.classes) > 2:
            raise RequestError(
                f"alerts={request.alerts}: alerts need two classes, this run has"
                f" {len(self.scorer.classes)}"
            )
        found = scored.found()[:, 0]
        return top_threshold(found, request.alerts) if request.alerts < len(found) else -math.inf

    def schema(self, pieces: Pieces | None, cut: float | None) -> pa.Schema:
        """The Arrow types of the columns."""
        kept = {} if pieces is None else pieces.types(self.request.kept)
        return pa.schema([("row", pa.int64()), *kept.items(), *self._own(cut).items()])

    def parts(
        self, scored: Scored, cut: float | None, pieces: Pieces | None
    ) -> Iterator[pd.DataFrame]:
        """The table, in parts.

        Raises:
            RarelabError: the file now has another number of rows.
        """
        ordered = np.sort(scored.found()[:, 0])
        starts = range(0, len(scored), ROWS)
        if pieces is None or not self.request.kept:
            yield from (self._part(scored, start, cut, ordered, {}) for start in starts)
            return
        hashes: list[NDArray[np.uint64]] = []
        frames = pieces.cells(self.request.kept, ROWS)
        try:
            for start, frame in zip(starts, frames, strict=True):
                if self.request.id is not None:
                    hashes.append(_hashes(frame[self.request.id]))
                kept = {name: frame[name].array for name in self.request.kept}
                yield self._part(scored, start, cut, ordered, kept)
        except ValueError:
            raise RarelabError("the file changed while it was read: try again") from None
        if hashes:
            found = np.concatenate(hashes)
            hashes.clear()
            found.sort()
            self.repeated = int((found[1:] == found[:-1]).sum())

    def repeated_ids(self) -> Iterator[str]:
        """A note if the column ``id`` does not identify the rows."""
        if self.repeated:
            rows = "1 row repeats" if self.repeated == 1 else f"{self.repeated:,} rows repeat"
            yield f"note: {rows} the {self.request.id!r} of another row"

    def _part(
        self,
        scored: Scored,
        start: int,
        cut: float | None,
        ordered: NDArray[np.float32],
        kept: dict[str, Any],
    ) -> pd.DataFrame:
        scores = scored.scores[start : start + ROWS]
        low, high = np.searchsorted(scored.bad, [start, start + len(scores)])
        bad = scored.bad[low:high] - start
        raw, classes = torch.from_numpy(scores), self.scorer.classes
        columns = {"row": np.arange(start, start + len(scores)), **kept}
        columns |= {name: scores[:, i] for i, name in enumerate(score_columns(classes))}
        if self.calibrator is not None:
            values = self.calibrator(raw).numpy()
            columns |= {name: values[:, i] for i, name in enumerate(self._probabilities())}
        if self.scorer.rules.costs is not None:
            columns["decision"] = self.scorer.rules.columns(raw, classes)["decision"]
        if cut is not None:
            columns["alert"] = pd.array(scores[:, 0] >= cut, dtype="boolean")
        if len(classes) == 2:
            above = len(ordered) - np.searchsorted(ordered, scores[:, 0], side="right")
            columns["rank"] = pd.array(above + 1, dtype="Int64")
        if self.reasons is not None and scored.top is not None:
            columns |= self.reasons.columns(scored.top[start : start + ROWS])
        table = pd.DataFrame(columns)
        table["status"] = SCORED
        if len(bad):
            table.loc[bad, [*self._own(cut)]] = None
            reasons = np.array(scored.reasons, dtype=object)
            table.loc[bad, "status"] = reasons[scored.reason[low:high]]
        return table

    def _own(self, cut: float | None = 0.0) -> dict[str, pa.DataType]:
        """The columns made here, with their types; ``row`` is not among them."""
        own = dict.fromkeys(score_columns(self.scorer.classes), pa.float32())
        if self.calibrator is not None:
            own |= dict.fromkeys(self._probabilities(), pa.float64())
        if self.scorer.rules.costs is not None:
            own["decision"] = pa.string()
        if cut is not None:
            own["alert"] = pa.bool_()
        if len(self.scorer.classes) == 2:
            own["rank"] = pa.int64()
        if self.reasons is not None:
            own |= self.reasons.types()
        return own | {"status": pa.string()}

    def _probabilities(self) -> list[str]:
        return probability_columns(self.scorer.classes)


def _hashes(column: Any) -> NDArray[np.uint64]:
    hashed: Any = pd.util.hash_pandas_object(column.astype(str), index=False)  # pyright: ignore
    return hashed.to_numpy()

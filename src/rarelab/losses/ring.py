"""A ring buffer of earlier rows with bookkeeping that never synchronises with the device."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Marks:
    """Where the next row goes, how many slots are filled, and which special rows may be among them.

    For each kind of special row: how many more rows must be written before the last one is
    certainly overwritten. At 0 every slot, filled or not, holds the default value.
    """

    position: int = 0
    filled: int = 0
    ignored: int = 0
    weighted: int = 0
    dependent: int = 0


class Ring(nn.Module):
    """The last ``size`` rows written, in buffers of fixed size.

    The bookkeeping (`Marks`) is kept in Python integers, so reading and writing never wait for an
    accelerator. It is saved in ``state_dict`` as extra state.
    """

    scores: Tensor
    labels: Tensor
    weights: Tensor
    iid: Tensor

    def __init__(self, size: int, num_classes: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("scores", torch.zeros(num_classes, size))
        self.register_buffer("labels", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("weights", torch.ones(size))
        self.register_buffer("iid", torch.ones(size, dtype=torch.bool))
        self._marks = Marks()
        self.register_load_state_dict_pre_hook(_as_saved)

    def reset(self) -> None:
        """Forget all rows."""
        if self.has_weights:
            self.weights.fill_(1)
        if self.has_iid:
            self.iid.fill_(True)
        self._marks = Marks()

    def __len__(self) -> int:
        return self._marks.filled

    @property
    def has_ignored(self) -> bool:
        """Whether a stored row may have to be ignored."""
        return self._marks.ignored > 0

    @property
    def has_weights(self) -> bool:
        """Whether a stored row may have a weight other than 1."""
        return self._marks.weighted > 0

    @property
    def has_iid(self) -> bool:
        """Whether a stored row may not be an independent draw."""
        return self._marks.dependent > 0

    def read(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """The stored scores [C, F], in the dtype of ``like``, and labels [F]."""
        scores, labels = self.scores, self.labels
        if scores.device != like.device:
            self.to(like.device)
            scores, labels = self.scores, self.labels
        if self._marks.filled < self.size:
            filled = self._marks.filled
            scores, labels = scores[:, :filled], labels[..., :filled]
        return (scores if scores.dtype == like.dtype else scores.to(like.dtype)), labels

    def read_weights(self, like: Tensor) -> Tensor:
        """The stored weights [F], in the dtype of ``like``."""
        return self.weights[..., : self._marks.filled].to(like.dtype)

    def read_iid(self) -> Tensor:
        """Which stored rows are independent draws, bool [F]."""
        return self.iid[: self._marks.filled]

    def write(
        self,
        scores: Tensor,
        labels: Tensor,
        weights: Tensor | None,
        iid: Tensor | None,
        has_ignored: bool,
    ) -> None:
        """Overwrite the oldest rows with these (scores [C, N]); only the last ``size`` are kept."""
        rows = labels.size(-1)
        if self.size == 0 or rows == 0:
            return
        self._adopt(scores)
        spans = self._advance(rows)
        _put(self.scores, scores, spans)
        _put(self.labels, labels, spans)
        if weights is not None or self.has_weights:
            _put(self.weights, 1.0 if weights is None else weights, spans)
        if iid is not None or self.has_iid:
            _put(self.iid, True if iid is None else iid, spans)
        self._note(rows, has_ignored, weights is not None, iid is not None)

    def _advance(self, rows: int) -> list[tuple[int, int, int]]:
        """Advance by ``rows``; return one or two spans (slot, first row, number of rows)."""
        skipped = max(0, rows - self.size)
        start = 0 if skipped else self._marks.position
        first = min(rows - skipped, self.size - start)
        self._marks.position = 0 if skipped else (start + rows) % self.size
        self._marks.filled = min(self.size, self._marks.filled + rows)
        spans = [(start, skipped, first)]
        if skipped + first < rows:
            spans.append((0, skipped + first, rows - skipped - first))
        return spans

    def _adopt(self, scores: Tensor) -> None:
        mine = self.scores
        if mine.device != scores.device:
            self.to(scores.device)
        if scores.dtype == torch.float64 and mine.dtype != torch.float64:
            self.to(torch.float64)

    def _note(self, rows: int, ignored: bool, weighted: bool, dependent: bool) -> None:
        marks = self._marks
        marks.ignored = self.size if ignored else max(0, marks.ignored - rows)
        marks.weighted = self.size if weighted else max(0, marks.weighted - rows)
        marks.dependent = self.size if dependent else max(0, marks.dependent - rows)

    def get_extra_state(self) -> dict[str, int]:
        return asdict(self._marks)

    def set_extra_state(self, state: dict[str, int]) -> None:
        self._marks = Marks(**state)


def stacked(rings: Sequence[Ring]) -> Ring:
    """One ring for K rings of one class each, whose buffers become views of its own, [K, size], so
    that one write is one to each. Its labels and weights are [K, size] too.

    The bookkeeping stays apart: :func:`stand_alike` before a step, :func:`follow` after it.
    """
    whole = Ring(rings[0].size, len(rings))
    whole.scores = torch.cat([ring.scores for ring in rings])
    for name in ("labels", "weights", "iid"):
        setattr(whole, name, torch.stack([getattr(ring, name) for ring in rings]))
    for index, ring in enumerate(rings):
        ring.scores = whole.scores[index : index + 1]
        for name in ("labels", "weights", "iid"):
            setattr(ring, name, getattr(whole, name)[index])
    return whole


def stand_alike(whole: Ring, rings: Sequence[Ring]) -> bool:
    """Whether the rings are at one position, which the ring of all of them then takes."""
    first = rings[0]._marks
    if any(ring._marks != first for ring in rings):
        return False
    vars(whole._marks).update(vars(first))
    return True


def follow(whole: Ring, rings: Sequence[Ring]) -> None:
    """Move the rings to where the ring of all of them stands."""
    for ring in rings:
        vars(ring._marks).update(vars(whole._marks))


def _as_saved(ring: nn.Module, state_dict: Mapping[str, Any], prefix: str, *_: Any) -> None:
    """Adopt the saved precision: a ring that was given float64 logits holds float64."""
    saved = state_dict.get(prefix + "scores")
    if saved is not None:
        ring.to(saved.dtype)


def _put(buffer: Tensor, values: Tensor | float, spans: list[tuple[int, int, int]]) -> None:
    for slot, row, rows in spans:
        place = buffer.narrow(-1, slot, rows)
        if not isinstance(values, Tensor):
            place.fill_(values)
        elif rows == values.size(-1):
            place.copy_(values)
        else:
            place.copy_(values.narrow(-1, row, rows))

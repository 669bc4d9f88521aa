"""A ring buffer of earlier rows, whose bookkeeping never waits for the device."""

import torch
from torch import Tensor, nn


class Ring(nn.Module):
    """The last ``size`` rows written, in buffers of fixed size.

    The write position, the number of filled rows and what kind of rows may be inside are kept as
    Python integers, so that neither reading nor writing synchronises with an accelerator. They
    travel in ``state_dict`` as extra state.
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
        # How many more rows must be written before the last special one is certainly overwritten.
        # At 0 every slot, filled or not, holds the ordinary value.
        self._left = {"ignored": 0, "weighted": 0, "marked": 0}
        self.reset()

    def reset(self) -> None:
        """Forget all rows."""
        self._position = 0
        self._filled = 0
        if self.has_weights:
            self.weights.fill_(1)
        if self.has_iid:
            self.iid.fill_(True)
        self._left = dict.fromkeys(self._left, 0)

    def __len__(self) -> int:
        return self._filled

    @property
    def has_ignored(self) -> bool:
        """Whether a stored row may be one to ignore."""
        return self._left["ignored"] > 0

    @property
    def has_weights(self) -> bool:
        """Whether a stored row may weigh other than 1."""
        return self._left["weighted"] > 0

    @property
    def has_iid(self) -> bool:
        """Whether a stored row may be one that is not an independent draw."""
        return self._left["marked"] > 0

    def read(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """The stored scores [C, F], in the dtype of ``like``, and labels [F]."""
        if self.scores.device != like.device:
            self.to(like.device)
        scores, labels = self.scores, self.labels
        if self._filled < self.size:
            scores, labels = scores[:, : self._filled], labels[: self._filled]
        return (scores if scores.dtype == like.dtype else scores.to(like.dtype)), labels

    def read_weights(self, like: Tensor) -> Tensor:
        """The stored weights [F], in the dtype of ``like``."""
        return self.weights[: self._filled].to(like.dtype)

    def read_iid(self) -> Tensor:
        """Which stored rows are independent draws, bool [F]."""
        return self.iid[: self._filled]

    @torch.no_grad()
    def write(
        self,
        scores: Tensor,
        labels: Tensor,
        weights: Tensor | None,
        iid: Tensor | None,
        has_ignored: bool,
    ) -> None:
        """Store rows (scores [C, N]) in place of the oldest; of more than ``size``, the last."""
        rows = labels.size(0)
        if self.size == 0 or rows == 0:
            return
        self._adopt(scores)
        write_weights = self.has_weights or weights is not None
        write_iid = self.has_iid or iid is not None
        self._note(rows, has_ignored, weights is not None, iid is not None)
        skipped = max(0, rows - self.size)
        start = 0 if skipped else self._position
        first = min(rows - skipped, self.size - start)
        spans = [(start, skipped, first)]
        if skipped + first < rows:
            spans.append((0, skipped + first, rows - skipped - first))
        for at, source, length in spans:
            whole = length == rows
            self.scores[:, at : at + length] = (
                scores if whole else scores[:, source : source + length]
            )
            self.labels[at : at + length] = labels if whole else labels[source : source + length]
            if write_weights:
                ours = 1.0 if weights is None else weights[source : source + length]
                self.weights[at : at + length] = ours
            if write_iid:
                ours = True if iid is None else iid[source : source + length]
                self.iid[at : at + length] = ours
        self._position = 0 if skipped else (start + rows) % self.size
        self._filled = min(self.size, self._filled + rows)

    def _adopt(self, scores: Tensor) -> None:
        if self.scores.device != scores.device:
            self.to(scores.device)
        if scores.dtype == torch.float64 and self.scores.dtype != torch.float64:
            self.to(torch.float64)

    def _note(self, rows: int, ignored: bool, weighted: bool, marked: bool) -> None:
        for kind, now in (("ignored", ignored), ("weighted", weighted), ("marked", marked)):
            self._left[kind] = self.size if now else max(0, self._left[kind] - rows)

    def get_extra_state(self) -> dict:
        return {"position": self._position, "filled": self._filled, "left": dict(self._left)}

    def set_extra_state(self, state: dict) -> None:
        self._position, self._filled = state["position"], state["filled"]
        self._left = dict(state["left"])

    def _load_from_state_dict(self, state_dict, prefix, *rest) -> None:
        # A ring that has met float64 logits holds float64: loading must not round it.
        saved = state_dict.get(prefix + "scores")
        if saved is not None:
            self.to(saved.dtype)
        super()._load_from_state_dict(state_dict, prefix, *rest)

"""The pool that a ranking loss ranks: the rows of this batch, then a queue of earlier ones."""

from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rarelab.losses.gather import gather_rows, row_counts, should_gather
from rarelab.losses.notices import Notices
from rarelab.losses.ring import Ring
from rarelab.losses.rows import as_column, as_labels, as_logits, as_weights, kept_rows

SAMPLED = (
    "a pool of %d rows exceeds max_pool_size=%d: from here on the loss is computed on a random "
    "subset with a minimum per class"
)


class Rows(NamedTuple):
    """Rows in the class-first layout of the kernels.

    ``scores`` [C, M], detached; ``labels`` int64 [M]; ``weights`` [M], or None when all are 1;
    ``iid`` bool [M], or None when all are independent draws; ``live`` [C, L], the scores of this
    batch, which come first, with their graph. ``broken`` bool [C]: classes with a NaN or infinite
    score in a kept row of this batch, or None; ``scores`` hold 0 in place of such scores.
    """

    scores: Tensor
    labels: Tensor
    weights: Tensor | None
    iid: Tensor | None
    live: Tensor
    broken: Tensor | None = None

    def select(self, index: Tensor, live: Tensor) -> "Rows":
        """The rows selected by a mask [M] or an index; ``live``: the batch rows that remain."""
        weights = None if self.weights is None else self.weights[index]
        iid = None if self.iid is None else self.iid[index]
        scores, labels = self.scores[:, index].contiguous(), self.labels[index]
        return Rows(scores, labels, weights, iid, live, self.broken)

    def without_infinities(self, finite: Tensor, keep: Tensor | None) -> "Rows":
        """The same rows with 0 where ``finite`` [C, M] is false, and broken classes marked.

        Rows outside ``keep`` [M] do not break a class.
        """
        broken = ~(finite if keep is None else finite | ~keep).all(dim=1)
        scores = torch.where(finite, self.scores, 0)
        return self._replace(scores=scores, broken=broken if bool(broken.any()) else None)


@dataclass
class _Last:
    """What is remembered of the last pool: its labels [M], or which classes had a positive [C]."""

    labels: Tensor | None = None
    has_positive: Tensor | None = None


class RankingPool(nn.Module):
    """Merge a batch with the queue of earlier rows, then add the batch to the queue.

    The queue is a ring of ``queue_size`` rows (0: none), filled with detached logits. Rows whose
    target is ``ignore_index`` occupy slots in the ring but never enter a pool. A NaN or infinite
    logit breaks its class for this step, and its row never enters the ring. The pool of a step is
    its own batch plus the queue as it was before that batch.

    The whole state is in ``state_dict``: ring, write position and the generator of the loss's own
    random stream, used only for ``max_pool_size``.
    """

    def __init__(self, num_classes: int, queue_size: int) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes is {num_classes}, expected at least 1")
        if queue_size < 0:
            raise ValueError(f"queue_size is {queue_size}, expected at least 0")
        self.num_classes = num_classes
        self.ring = Ring(queue_size, num_classes)
        self._last = _Last()
        self._generator = torch.Generator()
        self._notices = Notices()

    def forward(
        self,
        logits: Tensor,
        targets: Tensor,
        iid_mask: Tensor | None = None,
        sample_weight: Tensor | None = None,
        *,
        ignore_index: int,
        max_pool_size: int | None,
        gather_distributed: bool | None,
        update_queue: bool,
    ) -> tuple[Rows, Tensor]:
        """The pool of this step and its positives, bool [C, M], one-vs-rest."""
        batch = self._read(logits, targets, iid_mask, sample_weight, ignore_index)
        if should_gather(gather_distributed):
            batch = _gather(batch)
        keep = kept_rows(batch.labels, max(2, self.num_classes), ignore_index)
        finite = finite_scores(batch.scores)
        queued = batch
        if finite is not None:
            queued = batch.select(finite.all(dim=0), batch.live)
            batch = batch.without_infinities(finite, keep)
        pool = self._merge(batch, keep, ignore_index)
        if update_queue:
            self.ring.write(
                queued.scores, queued.labels, queued.weights, queued.iid, keep is not None
            )
        if max_pool_size is not None and pool.labels.size(0) > max_pool_size:
            pool = self._cap(pool, max_pool_size)
        self._last = _Last(pool.labels)
        return pool, self._positives(pool.labels)

    @property
    def has_positive(self) -> Tensor | None:
        """Which classes had a positive in the last pool, bool [C]; None before the first one."""
        last = self._last
        if last.has_positive is None and last.labels is not None:
            return self._positives(last.labels).any(dim=1)
        return last.has_positive

    def found(self, has_positive: Tensor) -> None:
        """Remember whether the last pool, found together with others, had a positive, bool [1]."""
        self._last.has_positive = has_positive

    def reset(self) -> None:
        """Forget every earlier row."""
        self.ring.reset()

    def seed(self, seed: int) -> None:
        """Seed the random stream that `max_pool_size` draws from."""
        self._generator.manual_seed(seed)

    def get_extra_state(self) -> dict:
        return {"generator": self._generator.get_state()}

    def set_extra_state(self, state: dict) -> None:
        self._generator.set_state(state["generator"].cpu())

    def _read(self, logits, targets, iid_mask, sample_weight, ignore_index) -> Rows:
        logits = as_logits(logits, self.num_classes)
        rows = logits.size(0)
        labels = as_labels(targets, rows, max(2, self.num_classes), ignore_index)
        weights = as_weights(sample_weight, logits)
        iid = None
        if iid_mask is not None:
            iid = as_column(iid_mask.detach(), rows, "iid_mask").to(logits.device, torch.bool)
        live = logits.t()
        return Rows(live.detach(), labels.to(logits.device), weights, iid, live)

    def _merge(self, batch: Rows, keep: Tensor | None, ignore_index: int) -> Rows:
        if keep is not None:
            batch = batch.select(keep, batch.live[:, keep])
        ring, rows = self.ring, batch.live.size(1)
        if not len(ring):
            return batch._replace(scores=batch.scores.contiguous())
        scores, labels = ring.read(like=batch.scores)
        weights = iid = None
        if batch.weights is not None or ring.has_weights:
            weights = _joined(batch.weights, ring.read_weights(like=batch.scores), rows)
        if batch.iid is not None or ring.has_iid:
            iid = _joined(batch.iid, ring.read_iid(), rows)
        scores = torch.cat([batch.scores, scores], dim=1)
        labels = torch.cat([batch.labels, labels])
        pool = Rows(scores, labels, weights, iid, batch.live, batch.broken)
        if not ring.has_ignored:
            return pool
        return pool.select(pool.labels != ignore_index, batch.live)

    def _cap(self, pool: Rows, size: int) -> Rows:
        self._notices.warn(SAMPLED, pool.labels.size(0), size)
        index = quota_sample(pool.labels, size, self._generator)
        return pool.select(index, pool.live[:, index[index < pool.live.size(1)]])

    def _positives(self, labels: Tensor) -> Tensor:
        if self.num_classes == 1:
            return labels.to(torch.bool).unsqueeze(0)
        classes = torch.arange(self.num_classes, device=labels.device)
        return labels == classes.unsqueeze(1)


def quota_sample(labels: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Sorted positions [size] of a random subset with a minimum per class.

    Each observed class first gets max(1, size // (2 · classes)) of its rows, or all it has; the
    rest of ``size`` is drawn uniformly from the remaining rows. If the reserved rows alone exceed
    ``size``, they are sampled uniformly. ``labels`` [M] are non-negative, M >= size.
    """
    rows = labels.size(0)
    shuffle = torch.randperm(rows, generator=generator).to(labels.device)
    by_class = torch.sort(labels[shuffle], stable=True)
    counts = torch.bincount(by_class.values)
    quota = max(1, size // (2 * int((counts > 0).sum())))
    within_class = torch.arange(rows, device=labels.device)
    within_class = within_class - (counts.cumsum(0) - counts)[by_class.values]
    last = torch.ones(rows, dtype=torch.bool, device=labels.device)
    last[shuffle[by_class.indices]] = within_class >= quota
    # Reserved rows first, then the rest. Shuffled again, since by now the rest of a small class is
    # at the end of its rows.
    shuffle = torch.randperm(rows, generator=generator).to(labels.device)
    return shuffle[torch.sort(last[shuffle], stable=True).indices[:size]].sort().values


def finite_scores(scores: Tensor) -> Tensor | None:
    """Which scores are finite, bool [C, N], or None when all are."""
    # A finite sum proves it in one pass; an infinite one may be mere overflow.
    if isfinite(scores.sum().item()):
        return None
    finite = scores.isfinite()
    return None if bool(finite.all()) else finite


def _joined(live: Tensor | None, queued: Tensor, rows: int) -> Tensor:
    """Live values before queued ones; a batch without values counts as 1."""
    return torch.cat([queued.new_ones(rows) if live is None else live, queued])


def _gather(batch: Rows) -> Rows:
    """The rows of all ranks. If any rank has weights or a mask, the others contribute ones."""
    has = (batch.weights is not None, batch.iid is not None)
    rows = batch.live.size(1)
    facts = row_counts(rows, *has, device=batch.labels.device)
    counts = facts[:, 0].tolist()
    any_weights, any_iid = (bool(flag) for flag in facts[:, 1:].any(dim=0))
    weights, iid = batch.weights, batch.iid
    if any_weights:
        ones = batch.scores.new_ones(rows)
        weights = gather_rows(ones if weights is None else weights, counts)
    if any_iid:
        ones = torch.ones_like(batch.labels, dtype=torch.bool)
        iid = gather_rows(ones if iid is None else iid, counts)
    live = gather_rows(batch.live.t(), counts).t()
    return Rows(live.detach(), gather_rows(batch.labels, counts), weights, iid, live)

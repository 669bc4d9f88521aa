"""The pools of K binary losses that train together, read and written as one."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rarelab.losses.pool import RankingPool, Rows, finite_scores
from rarelab.losses.ring import follow, stacked, stand_alike
from rarelab.losses.rows import finite_weights, floating, kept_rows


class Pools:
    """K pools of one output each: K ranked lists of one length, each with labels of its own.

    Their rings become views of one ring, so that the state of each stays its own.

    Args:
        pools: K pools, not shared with any other.
    """

    def __init__(self, pools: Sequence[RankingPool]) -> None:
        self._pools = pools
        self._rings = [pool.ring for pool in pools]
        self._whole = stacked(self._rings)

    def __call__(
        self,
        logits: Tensor,
        targets: Tensor,
        sample_weight: Tensor | None,
        *,
        ignore_index: int,
        update_queue: bool,
    ) -> tuple[Rows, Tensor] | None:
        """The pools of this step, and their positives, bool [K, M]. In the :class:`Rows` of K
        lists, labels and weights are [K, M] too. None if a row is to be ignored or the pools have
        not seen equally many rows.

        Args:
            logits: [K, N, 1].
            targets: [K, N].
            sample_weight: [K, N], or None.
        """
        live = floating(logits).squeeze(-1)
        labels = targets.long().to(live.device)
        ring = self._whole
        if kept_rows(labels.flatten(), 2, ignore_index) is not None or live.dtype != torch.float32:
            return None
        if not stand_alike(ring, self._rings) or ring.has_ignored or ring.has_iid:
            return None
        weights = sample_weight
        if weights is not None:
            weights = finite_weights(weights.detach()).to(live)
        batch = Rows(live.detach(), labels, weights, None, live)
        finite = finite_scores(batch.scores)
        if finite is not None:
            batch = batch.without_infinities(finite, None)
        pool = self._joined(batch)
        if update_queue:
            ring.write(batch.scores, labels, weights, None, False)
            follow(ring, self._rings)
        positives = pool.labels.to(torch.bool)
        for one, has in zip(self._pools, positives.any(dim=1, keepdim=True), strict=True):
            one.found(has)
        return pool, positives

    def _joined(self, batch: Rows) -> Rows:
        ring = self._whole
        if not len(ring):
            return batch
        scores, labels = ring.read(like=batch.scores)
        weights = batch.weights
        if weights is not None or ring.has_weights:
            weights = torch.ones_like(batch.scores) if weights is None else weights
            weights = torch.cat([weights, ring.read_weights(like=batch.scores)], dim=1)
        return batch._replace(
            scores=torch.cat([batch.scores, scores], dim=1),
            labels=torch.cat([batch.labels, labels], dim=1),
            weights=weights,
        )

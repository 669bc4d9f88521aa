"""The pool behind a ranking loss: its contents and their order, and what the queue keeps."""

import logging

import pytest
import torch
from torch import Tensor

from rarelab.losses import SmoothAPLoss
from rarelab.losses.pool import RankingPool, Rows, quota_sample


def step(
    pool: RankingPool, scores: list[float], labels: list[int] | None = None, **options
) -> Rows:
    """Feed one batch to a binary pool."""
    targets = torch.tensor([0] * len(scores) if labels is None else labels)
    settings = {
        "ignore_index": -100,
        "max_pool_size": None,
        "gather_distributed": None,
        "update_queue": True,
    }
    return pool(torch.tensor(scores, dtype=torch.float32), targets, **{**settings, **options})[0]


def test_a_batch_is_ranked_with_the_queue_from_before_it() -> None:
    pool = RankingPool(1, queue_size=4)
    assert step(pool, [1, 2]).scores.tolist() == [[1, 2]]
    assert step(pool, [3]).scores.tolist() == [[3, 1, 2]]
    rows = step(pool, [4, 5])
    assert rows.scores.tolist() == [[4, 5, 1, 2, 3]]
    assert rows.live.shape == (1, 2)


@pytest.mark.parametrize("sizes", [[3, 3, 3, 3], [1, 7, 2, 5, 1], [5, 5, 1], [12, 1, 1, 4]])
def test_the_ring_holds_the_last_rows_written(sizes: list[int]) -> None:
    pool, written = RankingPool(1, queue_size=5), []
    for size in sizes:
        batch = [float(len(written) + i) for i in range(size)]
        rows = step(pool, batch)
        assert rows.scores[0, :size].tolist() == batch
        assert sorted(rows.scores[0, size:].tolist()) == written[-5:]
        written += batch


def test_without_a_queue_the_pool_is_the_batch() -> None:
    pool = RankingPool(2, queue_size=0)
    for _ in range(3):
        logits = torch.randn(4, 2)
        settings = {"ignore_index": -100, "max_pool_size": None, "gather_distributed": None}
        rows, _ = pool(logits, torch.tensor([0, 1, 0, 1]), **settings, update_queue=True)
        assert torch.equal(rows.scores, logits.t())


def test_without_update_the_queue_is_unchanged() -> None:
    pool = RankingPool(1, queue_size=4)
    step(pool, [1, 2])
    assert step(pool, [9], update_queue=False).scores.tolist() == [[9, 1, 2]]
    assert step(pool, [8], update_queue=False).scores.tolist() == [[8, 1, 2]]


def test_reset_clears_rows_weights_and_marks() -> None:
    pool = RankingPool(1, queue_size=4)
    marked = {"sample_weight": torch.tensor([2.0, 3.0]), "iid_mask": torch.tensor([True, False])}
    step(pool, [1, 2], **marked)
    pool.reset()
    assert step(pool, [5, 6]).scores.tolist() == [[5, 6]]
    rows = step(pool, [7], sample_weight=torch.tensor([4.0]), iid_mask=torch.tensor([False]))
    assert rows.weights is not None
    assert rows.iid is not None
    assert rows.weights.tolist() == [4, 1, 1]
    assert rows.iid.tolist() == [False, True, True]


def test_ignored_rows_take_a_slot_in_the_ring_but_not_in_a_pool() -> None:
    pool = RankingPool(1, queue_size=3)
    rows = step(pool, [1, 2, 3], [0, -100, 1])
    assert rows.scores.tolist() == [[1, 3]]
    assert rows.live.shape == (1, 2)
    rows = step(pool, [4, 5], [-100, 1])
    assert (rows.scores.tolist(), rows.labels.tolist()) == ([[5, 1, 3]], [1, 0, 1])
    # In the ring, the ignored 4 and the 5 have replaced the 1 and the ignored 2.
    assert step(pool, [6]).scores.tolist() == [[6, 5, 3]]


def test_non_finite_rows_make_their_class_nan_and_take_no_slot_in_the_ring() -> None:
    pool = RankingPool(1, queue_size=3)
    assert step(pool, [1]).broken is None
    for bad in (float("nan"), float("inf"), float("-inf")):
        rows = step(pool, [2, bad, 3], sample_weight=torch.tensor([1.0, 5.0, 2.0]))
        assert rows.broken is not None
        assert rows.broken.tolist() == [True]
    rows = step(pool, [4])
    assert rows.broken is None
    assert rows.weights is not None
    assert (rows.scores.tolist(), rows.weights.tolist()) == ([[4, 3, 3, 2]], [1, 2, 2, 1])


def test_an_ignored_non_finite_row_has_no_effect() -> None:
    pool = RankingPool(1, queue_size=3)
    assert step(pool, [1, float("inf"), 2], [0, -100, 1]).broken is None
    assert step(pool, [3]).scores.tolist() == [[3, 1, 2]]


def test_scores_whose_sum_overflows_are_finite() -> None:
    assert step(RankingPool(1, queue_size=3), [3e38, 3e38]).broken is None


def test_a_capped_pool_does_not_hide_non_finite_rows() -> None:
    logits = torch.randn(200)
    logits[7] = float("inf")
    for seed in range(5):
        loss = SmoothAPLoss(1, max_pool_size=4)
        loss.seed(seed)
        assert loss(logits, torch.arange(200) % 5 == 0).isnan()


def test_weights_travel_through_the_queue_and_default_to_one() -> None:
    pool = RankingPool(1, queue_size=3)
    assert step(pool, [1]).weights is None
    step(pool, [2, 3], sample_weight=torch.tensor([0.5, 4.0]))
    rows = step(pool, [4])
    assert rows.weights is not None
    assert rows.weights.tolist() == [1, 1, 0.5, 4]
    assert rows.scores.tolist() == [[4, 1, 2, 3]]
    step(pool, [5, 6])
    assert step(pool, [7]).weights is None, "the last weighted row is overwritten"


def test_stored_rows_are_detached() -> None:
    pool = RankingPool(1, queue_size=8)
    live = torch.randn(3, requires_grad=True)
    settings = {"ignore_index": -100, "max_pool_size": None, "gather_distributed": None}
    for _ in range(2):
        rows, _ = pool(live, torch.tensor([0, 1, 0]), **settings, update_queue=True)
    assert not rows.scores.requires_grad
    rows.live.sum().backward()
    assert live.grad is not None
    assert live.grad.tolist() == [1, 1, 1]
    assert not any(buffer.requires_grad for buffer in pool.buffers())


def test_presence_of_positives_is_reported_per_class() -> None:
    pool = RankingPool(3, queue_size=4)
    settings = {"ignore_index": -100, "max_pool_size": None, "gather_distributed": None}
    _, positives = pool(torch.randn(2, 3), torch.tensor([0, 2]), **settings, update_queue=True)
    assert positives.tolist() == [[True, False], [False, False], [False, True]]
    assert pool.has_positive is not None
    assert pool.has_positive.tolist() == [True, False, True]
    pool(torch.randn(1, 3), torch.tensor([1]), **settings, update_queue=True)
    assert pool.has_positive.all()


def test_float64_rows_are_stored_unrounded() -> None:
    pool = RankingPool(1, queue_size=4)
    third = torch.tensor([1 / 3], dtype=torch.float64)
    settings = {"ignore_index": -100, "max_pool_size": None, "gather_distributed": None}
    pool(third, torch.tensor([1]), **settings, update_queue=True)
    rows, _ = pool(third, torch.tensor([1]), **settings, update_queue=True)
    assert rows.scores.tolist() == [[1 / 3, 1 / 3]]


def drawn(labels: Tensor, size: int, seed: int = 0) -> Tensor:
    return quota_sample(labels, size, torch.Generator().manual_seed(seed))


def test_every_class_keeps_its_quota_or_all_its_rows() -> None:
    labels = torch.tensor([0] * 900 + [1] * 3 + [2] * 97)
    for seed in range(20):
        chosen = drawn(labels, 60, seed)
        counts = torch.bincount(labels[chosen], minlength=3)
        assert len(chosen) == len(set(chosen.tolist())) == 60
        assert torch.equal(chosen, chosen.sort().values)
        assert counts[1] == 3
        assert counts[2] >= 10
        assert counts[0] >= 10


def test_beyond_the_quotas_the_draw_is_uniform() -> None:
    labels, stream = torch.tensor([0] * 80 + [1] * 20), torch.Generator().manual_seed(0)
    times = sum(
        torch.bincount(quota_sample(labels, 40, stream), minlength=100) for _ in range(3000)
    )
    # 10 of each are reserved; 20 more are drawn from the remaining 70 + 10.
    expected = torch.tensor([(10 + 70 / 4) / 80] * 80 + [(10 + 10 / 4) / 20] * 20)
    torch.testing.assert_close(times / 3000, expected, atol=0.04, rtol=0)


def test_with_more_classes_than_slots_the_draw_is_uniform() -> None:
    seen = torch.cat([drawn(torch.arange(30), 5, seed) for seed in range(200)])
    assert len(seen) == 1000
    assert torch.bincount(seen, minlength=30).min() > 0


def test_a_cap_keeps_live_rows_first_and_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    pool = RankingPool(1, queue_size=100)
    step(pool, [float(-i) for i in range(1, 101)], [0] * 99 + [1])
    with caplog.at_level(logging.WARNING, logger="rarelab"):
        for _ in range(3):
            rows = step(pool, [float(i) for i in range(50)], [1] * 50, max_pool_size=40)
            assert rows.scores.shape == (1, 40)
            assert (rows.scores[0, : rows.live.shape[1]] >= 0).all()
            assert 0 < rows.live.shape[1] < 40
    assert [record.message for record in caplog.records] == [
        "a pool of 150 rows exceeds max_pool_size=40: from here on the loss is computed on a "
        "random subset with a minimum per class"
    ]


def test_the_draw_follows_the_pools_own_seed() -> None:
    def draws(seed: int) -> list[list[float]]:
        pool = RankingPool(1, queue_size=0)
        pool.seed(seed)
        batch = [float(i) for i in range(30)]
        return [step(pool, batch, max_pool_size=10).scores[0].tolist() for _ in range(3)]

    assert draws(1) == draws(1)
    assert draws(1) != draws(2)
    assert draws(1)[0] != draws(1)[1]


@pytest.mark.parametrize(("classes", "size"), [(0, 4), (-1, 4), (1, -1)])
def test_impossible_sizes_are_refused(classes: int, size: int) -> None:
    with pytest.raises(ValueError, match="expected at least"):
        RankingPool(classes, size)

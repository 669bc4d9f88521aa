"""A model of several members: the loss is taken within each, and its probabilities are averaged."""

import copy
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cases import CASES, Case
from rarelab.config import build
from rarelab.config.compose import compose_train
from rarelab.losses import BinaryCrossEntropy, LossWarmupWrapper, SmoothAPLoss
from rarelab.losses.members import MemberLosses
from rarelab.models import MLP, Members, TabM
from rarelab.models.members import of_mean_probability
from rarelab.streams import drawing_from, generator, stream_seed
from rarelab.training.health import Health
from rarelab.training.history import History, read_rows

SMALL = [
    *("dataset.n_samples=1500", "dataset.pos_rate=0.05", "model=tabm", "model.k=3"),
    *("model.d_block=16", "model.dropout=0", "trainer.batch_size=2048"),
]
BARE = {"num_embeddings": None, "cat_embeddings": None}


def logits(n: int, k: int, classes: int = 1, seed: int = 0) -> Tensor:
    return 3 * torch.randn(n, k, classes, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("classes", [1, 4])
def test_the_score_is_the_logit_of_the_mean_probability(classes: int) -> None:
    scores = logits(50, 5, classes)
    found = of_mean_probability(scores).double().numpy()
    exact = scores.double().numpy()
    if classes == 1:
        mean = (1 / (1 + np.exp(-exact))).mean(axis=1)
        np.testing.assert_allclose(found, np.log(mean / (1 - mean)), rtol=1e-5, atol=1e-5)
    else:
        mean = (np.exp(exact) / np.exp(exact).sum(axis=-1, keepdims=True)).mean(axis=1)
        np.testing.assert_allclose(found, np.log(mean), rtol=1e-5, atol=1e-5)


def test_scores_keep_their_order_where_float32_probabilities_are_all_1_or_0() -> None:
    ladder = torch.arange(20.0, 90.0).view(-1, 1, 1).expand(-1, 3, 1)
    assert ladder.sigmoid().unique().numel() < 70
    for sign in (1, -1):
        found = of_mean_probability(sign * ladder).flatten()
        torch.testing.assert_close(found, sign * ladder[:, 0, 0])
    assert of_mean_probability(ladder.bfloat16()).dtype == torch.float32


def test_one_member_is_an_ordinary_network() -> None:
    torch.manual_seed(0)
    model = TabM(5, 1, k=1, d_block=16, **BARE).eval()
    x = torch.randn(30, 5)
    assert isinstance(model, Members) and not isinstance(MLP(5, 1), Members)
    torch.testing.assert_close(model(x), model.member_logits(x)[:, 0])


@pytest.mark.parametrize("arch_type", ["tabm", "tabm-mini", "tabm-packed"])
def test_members_differ_and_are_those_of_the_authors(arch_type: str) -> None:
    import tabm

    torch.manual_seed(0)
    mine = TabM(5, 2, k=4, d_block=16, arch_type=arch_type, **BARE)
    torch.manual_seed(0)
    theirs = tabm.TabM.make(n_num_features=5, d_out=2, k=4, d_block=16, arch_type=arch_type)
    x = torch.randn(10, 5)
    found = mine.eval().member_logits(x)
    assert found.shape == (10, 4, 2) and torch.allclose(found, theirs.eval()(x), atol=1e-6)
    assert not torch.allclose(found[:, 0], found[:, 1])


def test_the_cross_entropy_of_members_is_the_mean_of_theirs() -> None:
    scores, y = logits(40, 6), torch.arange(40) % 3 % 2
    found = MemberLosses(BinaryCrossEntropy(), 6)(scores.flatten(0, 1), y)
    expected = nn.functional.binary_cross_entropy_with_logits(
        scores[..., 0], y.float().unsqueeze(1).expand(-1, 6)
    )
    torch.testing.assert_close(found, expected)


PLAIN = [case for case in CASES if case.width == 1]


@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case.name)
def test_every_loss_is_taken_within_a_member_with_a_queue_of_its_own(case: Case) -> None:
    """Against a loop over members, each with a separate loss, for three batches."""
    rows, k = 24, 3
    together = MemberLosses(case.make(), k)
    apart = [copy.deepcopy(together.copies[0]) for _ in range(k)]
    for batch in range(3):
        scores, y = logits(rows, k, seed=batch).requires_grad_(), torch.arange(rows) % 4 % 2
        for loss in (*together.copies, *apart):
            if hasattr(loss, "on_train_batch_rows"):
                loss.on_train_batch_rows(torch.arange(rows))
        found = together(scores.flatten(0, 1), y)
        (slope,) = torch.autograd.grad(found, scores)
        each = [loss(scores[:, m], y) for m, loss in enumerate(apart)]
        (expected,) = torch.autograd.grad(sum(each) / k, scores)
        torch.testing.assert_close(found, sum(each) / k)
        torch.testing.assert_close(slope, expected)


def test_ranking_the_mean_is_another_loss() -> None:
    scores, y = logits(40, 6), torch.arange(40) % 3 % 2
    within = MemberLosses(SmoothAPLoss(1), 6)(scores.flatten(0, 1), y)
    assert abs(within - SmoothAPLoss(1)(of_mean_probability(scores), y)) > 0.01


def test_a_warning_is_logged_once_not_once_a_member(caplog: pytest.LogCaptureFixture) -> None:
    loss = MemberLosses(SmoothAPLoss(1, max_pool_size=10), 4)
    with caplog.at_level(logging.WARNING):
        loss(logits(40, 4).flatten(0, 1), torch.arange(40) % 2)
    assert len(caplog.records) == 1


def test_training_takes_the_scheduled_loss_within_every_member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One batch an epoch, so that the first epoch's loss is that of the initial weights."""
    cfg, _ = compose_train([*SMALL, "schedule=constant", "trainer.max_epochs=1", "loss=smooth_ap"])
    trainer = build.trainer(cfg)
    sizes = build.Sizes(build.dataset(cfg).splits(stream_seed(0, "draw")), trainer)
    work = build.work(cfg, sizes, build.model(cfg, sizes), torch.device("cpu"))
    assert isinstance(work.loss, MemberLosses) and len(work.loss.copies) == 3
    members = work.model.member_logits(work.train.x).detach().requires_grad_()
    losses = [copy.deepcopy(work.loss.copies[0])(s, work.train.y) for s in members.unbind(1)]
    (slopes,) = torch.autograd.grad(sum(losses), members)
    steepest: list[float] = []
    monkeypatch.setattr(
        Health, "step", lambda self, slope, *_: steepest.append(slope.abs().max().item())
    )
    monkeypatch.setattr(Health, "metrics", lambda self: {})
    path = tmp_path / "history.jsonl"
    with drawing_from(0, "model"):
        trainer.fit(work, History(path), generator(0, "batches"))
    (row,) = [row["metrics"] for row in read_rows(path)]
    assert row["train/loss"] == pytest.approx(sum(losses).item() / 3, abs=1e-6)
    assert steepest == [pytest.approx(slopes.abs().max().item(), rel=1e-4)]  # of a member's loss


def test_every_member_follows_the_schedule_and_keeps_a_queue(tmp_path: Path) -> None:
    asked = ["schedule.warmup_epochs=1", "schedule.blend_epochs=1", "loss=smooth_ap"]
    cfg, _ = compose_train([*SMALL, *asked, "trainer.max_epochs=3", "loss.queue_size=64"])
    trainer = build.trainer(cfg)
    sizes = build.Sizes(build.dataset(cfg).splits(stream_seed(0, "draw")), trainer)
    work = build.work(cfg, sizes, build.model(cfg, sizes), torch.device("cpu"))
    with drawing_from(0, "model"):
        trainer.fit(work, History(tmp_path / "history.jsonl"), generator(0, "batches"))
    rings = []
    for loss in work.loss.copies:
        assert isinstance(loss, LossWarmupWrapper) and loss.ap_weight == 0.5
        rings.append(loss.main_loss.pool.ring.read(like=torch.zeros(1))[0])
    assert len(rings) == 3 and rings[0].numel() == 64
    assert not torch.equal(rings[0], rings[1])

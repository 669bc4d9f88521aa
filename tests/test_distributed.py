"""Two processes compute the same gradient as one process on all rows, for any split."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rarelab.losses import (
    AllPairsSquaredHingeLoss,
    BinaryCrossEntropy,
    LossWarmupWrapper,
    RecallAtQuantileLoss,
    SigmoidFocalLoss,
    SmoothAPLoss,
    SoftmaxFocalLoss,
)
from rarelab.losses.gather import all_gather_no_grad, all_gather_with_grad

FEATURES, ROWS = 4, 12


def _blend(width: int) -> nn.Module:
    main = SmoothAPLoss(width, queue_size=16, temperature=0.5)
    loss = LossWarmupWrapper(BinaryCrossEntropy(), main, warmup_epochs=1, blend_epochs=1)
    loss.on_train_epoch_start(1)
    loss.on_train_batch_start(0)
    return loss


LOSSES: dict[str, Callable[[int], nn.Module]] = {
    "ap": lambda width: SmoothAPLoss(width, queue_size=16, temperature=0.5),
    "recall": lambda width: RecallAtQuantileLoss(width, 0.3, queue_size=16, temperature=0.5),
    "sampled": lambda width: SmoothAPLoss(width, 16, temperature=0.5, max_pool_size=14),
    "blend": _blend,
    "hinge": lambda width: AllPairsSquaredHingeLoss(width, queue_size=16),
    "sigmoid focal": lambda width: SigmoidFocalLoss(),
    "softmax focal": lambda width: SoftmaxFocalLoss(reduction="mean_positive"),
}


@dataclass(frozen=True)
class Scenario:
    """A loss, its width, the rows of the first process, and which processes pass weights."""

    loss: str
    width: int = 1
    split: int = 5
    weights: str = "none"


SCENARIOS = [
    *(Scenario(loss, width) for loss in ("ap", "recall", "sampled") for width in (1, 3)),
    *(Scenario("ap", weights=weights) for weights in ("both", "first")),
    *(Scenario("recall", 3, split) for split in (0, 1, 6, 12)),
    Scenario("blend", split=6),
    Scenario("blend", split=6, weights="both"),
    *(Scenario("hinge", width) for width in (1, 3)),
    *(Scenario("sigmoid focal", weights=weights) for weights in ("none", "both")),
    *(Scenario("softmax focal", 3, weights=weights) for weights in ("none", "both")),
]


def trace(scenario: Scenario, part: slice, wrap: Callable[[nn.Module], nn.Module]) -> list[Tensor]:
    """Losses and parameter gradients of three steps, each on a slice of its rows."""
    generator = torch.Generator().manual_seed(0)
    net = nn.Linear(FEATURES, scenario.width, dtype=torch.float64)
    for parameter in net.parameters():
        nn.init.normal_(parameter, generator=generator)
    model, loss, found = wrap(net), LOSSES[scenario.loss](scenario.width), []
    for _ in range(3):
        x = torch.randn(ROWS, FEATURES, generator=generator, dtype=torch.float64)
        y = torch.arange(ROWS) % max(2, scenario.width)
        if scenario.loss != "blend":  # its plain part is averaged over processes, not rows
            y[4] = -100
        weight = torch.rand(ROWS, generator=generator, dtype=torch.float64)
        if scenario.loss == "blend":
            weight[6:] = weight[:6]
        if scenario.weights == "first":
            weight[scenario.split :] = 1
        bare = scenario.weights == "none" or (scenario.weights == "first" and part.start)
        net.zero_grad()
        value = loss(model(x[part]), y[part], sample_weight=None if bare else weight[part])
        value.backward()
        gradient = [p.grad.flatten() for p in net.parameters() if p.grad is not None]
        found += [value.detach().view(1), *gradient]
    return found


def gathers(rank: int) -> list[Tensor]:
    """Gather uneven rows of several dtypes; includes the gradient of the sum of squares."""
    mine = torch.arange(1.0, 4.0 + rank).requires_grad_()
    everyone = all_gather_with_grad(mine)
    everyone.square().sum().backward()
    assert mine.grad is not None
    flags = all_gather_no_grad(torch.tensor([[rank == 0, True]]))
    labels = all_gather_no_grad(torch.full((2 - rank,), rank))
    return [everyone.detach(), mine.grad, flags, labels]


def overflowing(rank: int) -> list[Tensor]:
    """Two steps; in the first, only rank 1 has an infinite logit."""
    loss, found = SmoothAPLoss(1, queue_size=16), []
    for top in (float("inf"), 2.0):
        logits = torch.tensor([0.5, 1.0, top if rank == 1 else 0.0])
        found.append(loss(logits, torch.tensor([0, 1, 1])).view(1))
    return [*found, torch.tensor([len(loss.pool.ring)])]


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    outcome: dict[object, list[Tensor]] = {
        "gathers": gathers(rank),
        "overflowing": overflowing(rank),
    }
    for index, scenario in enumerate(SCENARIOS):
        part = slice(0, scenario.split) if rank == 0 else slice(scenario.split, ROWS)
        outcome[index] = trace(scenario, part, DistributedDataParallel)
    torch.save(outcome, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[object, list[Tensor]]]:
    folder: Path = tmp_path_factory.mktemp("ranks")
    mp.spawn(worker, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("index", range(len(SCENARIOS)), ids=lambda index: str(SCENARIOS[index]))
def test_the_gradient_is_that_of_a_single_process(outcomes, index: int) -> None:
    scenario = SCENARIOS[index]
    alone = trace(scenario, slice(0, ROWS), lambda net: net)
    assert any(part.abs().sum() > 1e-3 for part in alone[1::3])
    for outcome in outcomes:
        for position, (ours, whole) in enumerate(zip(outcome[index], alone, strict=True)):
            if scenario.loss == "blend" and position % 3 == 0:
                continue  # the plain part of the value is local to each process
            torch.testing.assert_close(ours, whole)


def test_rows_are_gathered_in_rank_order(outcomes) -> None:
    for rank, outcome in enumerate(outcomes):
        everyone, gradient, flags, labels = outcome["gathers"]
        assert everyone.tolist() == [1, 2, 3, 1, 2, 3, 4]
        # Twice the slice of the full gradient, since DDP averages over two processes.
        assert gradient.tolist() == [4.0 * value for value in range(1, 4 + rank)]
        assert flags.tolist() == [[True, True], [False, True]]
        assert labels.tolist() == [0, 0, 1]


def test_an_infinite_logit_in_one_process_gives_nan_in_all(outcomes) -> None:
    for outcome in outcomes:
        first, second, remembered = outcome["overflowing"]
        assert first.isnan()
        assert second.isfinite()
        assert second == outcomes[0]["overflowing"][1]
        assert remembered == 5 + 6


def test_without_a_process_group_there_is_nothing_to_gather() -> None:
    with pytest.raises(RuntimeError, match="init_process_group"):
        all_gather_with_grad(torch.ones(2))
    assert LOSSES["ap"](1)(torch.randn(4), torch.tensor([0, 1, 0, 1])).isfinite()

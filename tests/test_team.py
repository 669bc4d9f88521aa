"""Several processes train exactly like one: loss, weights, queue and history at every step."""

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from cases import CASES, Case
from rarelab.data.splits import IGNORE_INDEX, Table
from rarelab.losses import LossWarmupWrapper, constant, plain_loss
from rarelab.streams import drawing_from, generator
from rarelab.training import Trainer, Work
from rarelab.training.history import History, read_rows
from rarelab.training.team import Ranks, Team

FEATURES, ROWS, BATCH = 5, 102, 20  # the last batch of an epoch has 2 rows
SCHEDULES: dict[str, Callable[..., nn.Module]] = {
    "constant": constant,
    "switch": lambda *losses: LossWarmupWrapper(*losses, 1, 0.5, 0.1, 30),
    "blend": lambda *losses: LossWarmupWrapper(
        *losses, 1, 0.5, 0.1, 30, blend_epochs=3, final_main_weight=0.9
    ),
}


class Foreign(nn.Module):
    """A user's own loss with everything: a parameter, a per-row memory and random draws."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.register_buffer("memory", torch.zeros(ROWS, dtype=torch.float64))

    def on_train_batch_rows(self, rows: Tensor) -> None:
        self.rows = rows

    def forward(self, logits: Tensor, targets: Tensor, *, sample_weight: Tensor) -> Tensor:
        kept = targets != IGNORE_INDEX
        scores = logits.squeeze(1)[kept] * self.scale
        self.memory[self.rows[kept]] = 0.9 * self.memory[self.rows[kept]] + scores.detach()
        drawn = torch.rand(len(scores), dtype=scores.dtype)
        error = scores - targets[kept] + 0.1 * self.memory[self.rows[kept]] * drawn
        return (sample_weight[kept] * error.square()).sum()


@dataclass(frozen=True)
class Scenario:
    """A loss under a schedule; ``steps`` per sequence (0: plain rows); 64 or 32 bits."""

    case: Case
    schedule: str = "constant"
    steps: int = 0
    bits: int = 64

    @property
    def name(self) -> str:
        shape = f" sequences of {self.steps}" if self.steps else ""
        return f"{self.case.name} {self.schedule}{shape} {self.bits} bits"

    @property
    def epochs(self) -> int:
        """54 steps in all; 12 where each step is compared on its own."""
        return 9 if self.bits == 64 else 2

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64 if self.bits == 64 else torch.float32


FOREIGN = Case("Foreign", lambda **_: Foreign(), 1)
WEIGHTED = [case for case in CASES if case.takes_weights]
BY_NAME = {case.name: case for case in CASES}
FAST = [
    Scenario(BY_NAME["SmoothAPLoss.sampled[1]"], "blend"),
    Scenario(BY_NAME["SmoothAPLoss[3]"], "blend", bits=32),
    Scenario(BY_NAME["CrossEntropy"], steps=4),
    Scenario(FOREIGN),
]
SEQUENCES = ("SmoothAPLoss[1]", "RecallAtQuantileLoss[3]", "PAUCAtBudgetLoss.pairwise[1]")
ALL = [
    *(Scenario(case, schedule) for case in WEIGHTED for schedule in SCHEDULES),
    *(Scenario(case, "blend", bits=32) for case in WEIGHTED),
    *(Scenario(BY_NAME[name], "blend", steps=4) for name in SEQUENCES),
    *(Scenario(FOREIGN, schedule) for schedule in ("constant", "blend")),
]


class Net(nn.Module):
    """Two layers and an unused one, which must stay without a gradient."""

    def __init__(self, width: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(FEATURES, 8, dtype=dtype), nn.Linear(8, width, dtype=dtype)
        self.unused = nn.Linear(1, 1, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.body(x.to(self.head.weight.dtype))))


def table(scenario: Scenario, rows: int, draw: torch.Generator) -> Table:
    """Rare positives, a few ignored rows, unequal weights."""
    shape = (rows, scenario.steps) if scenario.steps else (rows,)
    x = torch.randn(*shape, FEATURES, generator=draw)
    y = (x[..., 0] + 0.5 * torch.randn(shape, generator=draw) > 1.5).long()
    if scenario.case.width > 1:
        y = y * torch.randint(1, scenario.case.width, shape, generator=draw)
    y[torch.rand(shape, generator=draw) < 0.04] = IGNORE_INDEX
    weight = None if scenario.steps else torch.rand(rows, generator=draw) + 0.5
    return Table(x, y, weight)


def work(scenario: Scenario) -> Work:
    draw = torch.Generator().manual_seed(0)
    train, val = table(scenario, ROWS, draw), table(scenario, 41, draw)
    net = Net(scenario.case.width, scenario.dtype)
    for parameter in net.parameters():
        nn.init.normal_(parameter, 0, 0.5, generator=draw)
    main = scenario.case.make()
    if isinstance(main, LossWarmupWrapper):
        loss: nn.Module = main  # the case is already a schedule
    else:
        loss = SCHEDULES[scenario.schedule](plain_loss(scenario.case.width), main)
    # A learning rate of 0 keeps the weights equal, so that gradients are comparable.
    rate = 0.05 if scenario.bits == 64 else 0.0
    trained = [*net.parameters(), *loss.parameters()]
    optimizer = torch.optim.SGD(trained, rate, momentum=0.5)
    return Work(net, loss, optimizer, None, train, val, rare_class=1)


def trace(scenario: Scenario, team: Team, folder: Path) -> dict[str, Any]:
    """Train; return what every step gives and the final state."""
    losses: list[Tensor] = []
    weights: list[Tensor] = []
    gradients: list[Tensor] = []
    job = replace(work(scenario), team=team)
    parameters = list(job.model.parameters()) + list(job.loss.parameters())
    job.loss.register_forward_hook(lambda *call: losses.append(call[2].detach().clone()))

    def before(*_: object) -> None:
        assert job.model.unused.weight.grad is None
        found = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        gradients.append(torch.cat([grad.flatten() for grad in found]))

    def after(*_: object) -> None:
        weights.append(torch.cat([p.detach().flatten() for p in parameters]))

    job.optimizer.register_step_pre_hook(before)
    job.optimizer.register_step_post_hook(after)
    path = folder / f"{os.getpid()}.jsonl"
    path.unlink(missing_ok=True)
    trainer = Trainer(
        scenario.epochs, BATCH, eval_batch_size=7, select="any", gradient_clip_norm=5.0
    )
    with drawing_from(0, "model"):
        trainer.fit(job, History(path), generator(0, "batches"))
        random = torch.get_rng_state()
    return {
        "losses": torch.stack(losses),
        "weights": torch.stack(weights),
        "gradients": torch.stack(gradients),
        "loss": copy.deepcopy(job.loss.state_dict()),
        "rows": [(row["step"], row["metrics"]) for row in read_rows(path)],
        "random": random,
    }


def worker(rank: int, size: int, folder: str, scenarios: list[int], fast: bool) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=size)
    chosen = [(FAST if fast else ALL)[index] for index in scenarios]
    found = [trace(scenario, Ranks(), Path(folder)) for scenario in chosen]
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def traces(size: int, folder: Path, fast: bool) -> list[list[dict[str, Any]]]:
    """Traces indexed by rank, then scenario."""
    scenarios = list(range(len(FAST if fast else ALL)))
    mp.spawn(worker, (size, str(folder), scenarios, fast), nprocs=size)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(size)]


def compare(scenario: Scenario, alone: dict[str, Any], ours: dict[str, Any]) -> None:
    assert alone["losses"].abs().max() > 1e-3, "nothing is learnt"
    if scenario.bits == 32:
        scale = alone["gradients"].abs().amax(1, keepdim=True)
        torch.testing.assert_close(
            ours["gradients"] / scale.clamp_min(1e-6),
            alone["gradients"] / scale.clamp_min(1e-6),
            atol=1e-5,
            rtol=0,
            msg=lambda text: f"{scenario.name}: {text}",
        )
        return
    assert len(alone["losses"]) > 50
    close = {"atol": 1e-10, "rtol": 1e-10}
    for name in ("losses", "weights", "gradients"):
        torch.testing.assert_close(
            ours[name], alone[name], **close, msg=lambda text: f"{scenario.name}: {text}"
        )
    assert torch.equal(ours["random"], alone["random"])
    assert ours["loss"].keys() == alone["loss"].keys()
    for name, state in alone["loss"].items():
        if isinstance(state, Tensor):
            torch.testing.assert_close(ours["loss"][name], state, **close)
    for (epoch, mine), (other, theirs) in zip(ours["rows"], alone["rows"], strict=True):
        assert epoch == other
        assert mine == pytest.approx(theirs, abs=1e-5, nan_ok=True)


def check(size: int, folder: Path, fast: bool) -> None:
    scenarios = FAST if fast else ALL
    found = traces(size, folder, fast)
    for index, scenario in enumerate(scenarios):
        alone = trace(scenario, Team(), folder)
        for rank in range(size):
            compare(scenario, alone, found[rank][index])
        for rank in range(1, size):
            assert torch.equal(found[rank][index]["weights"], found[0][index]["weights"])


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    check(2, tmp_path, fast=True)


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
def test_every_loss_and_schedule_trains_alike_on_any_number_of_processes(
    size: int, tmp_path: Path
) -> None:
    check(size, tmp_path, fast=False)

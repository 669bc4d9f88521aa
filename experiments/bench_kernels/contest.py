"""The libraries that are compared, and the tensors they all get."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import imbalanced_losses
import proxy_losses  # pyright: ignore[reportMissingImports]  # only in the extra `bench`
import torch
from torch import Tensor, nn

from rarelab import losses as rarelab_losses

LIBRARIES: dict[str, ModuleType] = {
    "rarelab": rarelab_losses,
    "imbalanced-losses": imbalanced_losses,
    "proxy-losses": proxy_losses,
}
LOSSES = {"smooth_ap": "SmoothAPLoss", "recall_at_quantile": "RecallAtQuantileLoss"}
MOST_PAIRS = 2 << 30  # bytes of a float32 pair matrix above which a peer is left out


@dataclass(frozen=True, order=True)
class Work:
    """One loss on one pool: a batch behind a full queue."""

    loss: str
    classes: int
    batch: int
    queue: int
    rate: float  # of positives; several classes have equal shares of the rows
    tau: float

    @property
    def pool(self) -> int:
        return self.batch + self.queue

    def pair_bytes(self) -> float:
        """Size of the [positives, pool] matrix that the peers' Smooth-AP builds per class."""
        share = self.rate if self.classes == 1 else 1 / self.classes
        return 4 * share * self.pool**2 if self.loss == "smooth_ap" else 0

    def fits(self, library: str) -> bool:
        return library == "rarelab" or self.pair_bytes() <= MOST_PAIRS


def works() -> list[Work]:
    """Pools of 1 280 to 1 048 576 rows."""
    binary = [(256, 1024), (1024, 16384), (1024, 65536), (1024, 131072 - 1024), (1024, 1047552)]
    several = [(10, 256, 1024), (10, 1024, 16384), (100, 256, 4096)]
    found = []
    for loss in LOSSES:
        for tau in (0.01, 0.5):
            found += [
                Work(loss, 1, *sizes, rate, tau) for sizes in binary for rate in (0.005, 0.05, 0.1)
            ]
            if loss == "smooth_ap" or tau == 0.01:
                found.append(Work(loss, 1, 1024, 16384, 0.01, tau))
            found += [
                Work(loss, classes, batch, queue, 1 / classes, tau)
                for classes, batch, queue in several
            ]
    return found


def tensors(work: Work, rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Normal scores with standard deviation 3, plus 2 for the true class; at least one positive."""
    draw = torch.Generator().manual_seed(seed)
    if work.classes == 1:
        labels = (torch.rand(rows, generator=draw) < work.rate).long()
        labels[0] = 1
        return 3 * torch.randn(rows, 1, generator=draw) + 2 * labels[:, None], labels
    labels = torch.randint(0, work.classes, (rows,), generator=draw)
    raised = 2 * nn.functional.one_hot(labels, work.classes)
    return 3 * torch.randn(rows, work.classes, generator=draw) + raised, labels


def step_of(library: str, work: Work) -> Callable[[], Any]:
    """Forward and backward pass of the library's loss module, with its queue already full."""
    make = getattr(LIBRARIES[library], LOSSES[work.loss])
    loss = make(work.classes, queue_size=work.queue, temperature=work.tau)
    logits, labels = tensors(work, work.queue, seed=0)
    if library == "rarelab":
        loss.pool.ring.write(logits.t(), labels, None, None, has_ignored=False)
    else:
        loss._enqueue(logits, labels)
    logits, labels = tensors(work, work.batch, seed=1)

    def step() -> Tensor:
        leaf = logits.detach().requires_grad_()
        value = loss(leaf, labels)
        value.backward()
        return value.detach()

    return step


def quiet() -> None:
    """One thread, and no warnings: the peers warn about large pools."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)

"""What does a training step cost, with categories one-hot and as embeddings? Five networks in turn.

Run:  python experiments/bench_networks/steps.py

Made-up rows of the shape of kdd_census: 7 numbers, and 33 columns of text with 2 to 32 levels, 410
one-hot features in all. A step is forward, BCE, backward and AdamW on 1,024 rows, on one thread.
The networks take turns; steps.csv has the median of each, and its ratio to the first of its kind.
"The authors' layers" is TabM with the first layer of the package tabm, which scales k copies of the
rows; rarelab's scales k copies of the weights.
"""

import csv
import statistics
import time
from collections.abc import Callable
from itertools import accumulate, pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from rarelab.models import MLP, TabM
from rarelab.models.bins import bin_edges

HERE = Path(__file__).parent
LEVELS = [32] * 7 + [24, 17, 15, 10, 10, 10, 9, 9, 8, 8, 7, 6, 6, 6, 5, 5, 5, 4] + [3] * 6 + [2] * 2
NUMBERS, ROWS, TURNS, STEPS = 7, 1024, 15, 4

Step = Callable[[], None]


def rows() -> tuple[Tensor, Tensor, list[list[int]]]:
    """Features, labels, and the features that are the levels of a column, of each."""
    draw = torch.Generator().manual_seed(0)
    ends = [*accumulate(LEVELS, initial=NUMBERS)]
    blocks = [list(range(start, end)) for start, end in pairwise(ends)]
    x = torch.zeros(ROWS, ends[-1])
    x[:, :NUMBERS] = torch.randn(ROWS, NUMBERS, generator=draw)
    for block in blocks:
        at = torch.randint(block[0], block[-1] + 1, (ROWS, 1), generator=draw)
        x.scatter_(1, at, 1.0)
    return x, (torch.rand(ROWS, generator=draw) < 0.06).float(), blocks


def authors_layers(model: TabM) -> nn.Module:
    """The same network, its members computed by the package ``tabm`` alone."""
    import tabm

    spread = tabm.EnsembleView(k=model.k)
    model.member_logits = lambda x: model.head(model.body(spread(model.embed(x))))  # type: ignore[method-assign]
    return model


def networks(x: Tensor, blocks: list[list[int]]) -> dict[tuple[str, str], nn.Module]:
    """Kind and variant -> network."""
    f, bins = x.shape[1], bin_edges(x, 48)
    one_hot = {"bin_edges": bins, "cat_embeddings": None}
    embedded = {"bin_edges": bins, "one_hot": blocks}
    return {
        ("tabm", "one-hot, the authors' layers"): authors_layers(TabM(f, 1, **one_hot)),
        ("tabm", "one-hot"): TabM(f, 1, **one_hot),
        ("tabm", "cat_embeddings=auto"): TabM(f, 1, **embedded),
        ("mlp", "one-hot"): MLP(f, 1),
        ("mlp", "cat_embeddings=auto"): MLP(f, 1, cat_embeddings="auto", one_hot=blocks),
    }


def training_step(network: nn.Module, x: Tensor, y: Tensor) -> Step:
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    network.train()

    def step() -> None:
        logits = network.member_logits(x) if isinstance(network, TabM) else network(x)
        loss = binary_cross_entropy_with_logits(
            logits, y.view(-1, *[1] * (logits.ndim - 1)).expand_as(logits)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x, y, blocks = rows()
    steps = {name: training_step(made, x, y) for name, made in networks(x, blocks).items()}
    times: dict[tuple[str, str], list[float]] = {name: [] for name in steps}
    for turn in range(TURNS + 1):
        for name, step in steps.items():
            start = time.thread_time()
            for _ in range(STEPS):
                step()
            if turn:
                times[name].append(1e3 * (time.thread_time() - start) / STEPS)
    first: dict[str, float] = {}
    with (HERE / "steps.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "variant", "cpu_ms_per_step", "ratio"])
        for (model, variant), spent in times.items():
            median = statistics.median(spent)
            first.setdefault(model, median)
            line = [model, variant, f"{median:.1f}", f"{median / first[model]:.2f}"]
            writer.writerow(line)
            print(*line)


if __name__ == "__main__":
    main()

"""What does training many small networks as one save? The same steps, run by run and batched.

Run:  python experiments/bench_batch/run.py [--repeats 5] [--runs 16]

16 seeds of a 20-64-64-1 MLP are trained on 50 000 rows with Adam, by this project's trainer one
after the other and as a batch (``sweep.batch=auto``), on one thread. Each repetition trains an
epoch of the batch and one of each of four runs alone, in turn; compared are the medians of the
processor time per step of a run. Validation is on 512 rows, so that the steps are timed. Smooth-AP
and recall at a quantile rank the batch and a queue of 1 024; 1.7 % of the rows are positive.
"""

import argparse
import csv
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from rarelab.data.splits import Table
from rarelab.losses import BinaryCrossEntropy, RecallAtQuantileLoss, SmoothAPLoss
from rarelab.losses.together import LossesTogether
from rarelab.models import MLP
from rarelab.models.stacked import Stack
from rarelab.training import Trainer, Work
from rarelab.training.history import History
from rarelab.training.together import Joint, fit_together

ROWS, FEATURES, ALONE = 50_000, 20, 4
HERE = Path(__file__).parent

LOSSES: dict[str, Callable[[], nn.Module]] = {
    "bce": BinaryCrossEntropy,
    "smooth_ap": lambda: SmoothAPLoss(1, queue_size=1024, temperature=0.05),
    "recall_at_quantile": lambda: RecallAtQuantileLoss(1, queue_size=1024, temperature=0.05),
}
SIZES = ((512, 64), (128, 16))
"""Rows per step, and the width of the two hidden layers."""


def data() -> tuple[Table, Table]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, FEATURES, generator=draw)
    y = (x[:, 0] + torch.randn(ROWS, generator=draw) > 3).long()
    return Table(x, y), Table(x[:512], y[:512])


def work(seed: int, width: int, make: Callable[[], nn.Module], train: Table, val: Table) -> Work:
    torch.manual_seed(seed)
    model = MLP(FEATURES, 1, hidden=[width, width])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    return Work(model, make(), optimizer, None, train, val, rare_class=1)


def joint(works: list[Work]) -> Joint:
    draws = [torch.Generator() for _ in works]
    stack = Stack([each.model for each in works], draws, [""] * len(works))
    optimizer = torch.optim.Adam(stack.parameters(), lr=1e-3, fused=True)
    return Joint(works, stack, LossesTogether([w.loss for w in works]), optimizer, None)


def measure(
    make: Callable[[], nn.Module], batch: int, width: int, runs: int, repeats: int
) -> tuple[float, float]:
    """Milliseconds per step of a run: alone, and in a batch of ``runs``."""
    tables = data()
    trainer = Trainer(max_epochs=1, batch_size=batch, select="any")
    alone = [work(seed, width, make, *tables) for seed in range(ALONE)]
    together = joint([work(seed, width, make, *tables) for seed in range(runs)])
    steps = trainer.steps_per_epoch(ROWS)
    draws = [torch.Generator().manual_seed(seed) for seed in range(2 * runs)]
    found: tuple[list[float], list[float]] = ([], [])
    with TemporaryDirectory() as folder:
        histories = [History(Path(folder) / f"{i}.jsonl") for i in range(runs)]
        for turn in range(repeats + 1):
            began = time.process_time()
            for i, each in enumerate(alone):
                trainer.fit(each, histories[i], draws[runs + i])
            between = time.process_time()
            fit_together(trainer, together, histories, draws[:runs])
            ended = time.process_time()
            if turn:
                found[0].append(1e3 * (between - began) / steps / ALONE)
                found[1].append(1e3 * (ended - between) / steps / runs)
    return statistics.median(found[0]), statistics.median(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--runs", type=int, default=16)
    parser.add_argument("--out", type=Path, default=HERE / "result.csv")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for batch, width in SIZES:
        for name, make in LOSSES.items():
            alone, together = measure(make, batch, width, chosen.runs, chosen.repeats)
            row = {
                "loss": name,
                "batch_size": batch,
                "hidden": f"{width}-{width}",
                "runs": chosen.runs,
                "ms_alone": f"{alone:.3f}",
                "ms_batched": f"{together:.3f}",
                "times_faster": f"{alone / together:.2f}",
            }
            rows.append(row)
            print("  ".join(f"{key}={value}" for key, value in row.items()), flush=True)
    with chosen.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()

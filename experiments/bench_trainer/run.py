"""What overhead does the trainer have? One model, one data set, four loops, in one process.

Run:  make bench            (or: python experiments/bench_trainer/run.py [--repeats 5])

A 20-64-64-1 MLP is trained on 50 000 rows with BCE and Adam at batch 512. The loops train one epoch
each in turn, repeatedly, and the median time per step is compared: this project's trainer, a bare
loop with fused Adam (the floor), PyTorch Lightning's Trainer with a DataLoader, and skorch.
Validation is off everywhere, so only the loops are timed.
"""

import argparse
import csv
import gc
import logging
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import lightning
import numpy as np
import skorch  # pyright: ignore[reportMissingImports]  # only in the extra `bench`
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from rarelab.data.splits import Table
from rarelab.losses import BinaryCrossEntropy
from rarelab.models import MLP
from rarelab.training import Trainer, Work
from rarelab.training.history import History

ROWS, FEATURES, BATCH = 50_000, 20, 512
HERE = Path(__file__).parent

EpochTimer = Callable[[], float]


def data(seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(ROWS, FEATURES, generator=draw)
    y = (x[:, 0] + torch.randn(ROWS, generator=draw) > 3).long()
    return x, y


def model() -> nn.Module:
    torch.manual_seed(0)
    return MLP(in_features=FEATURES, num_outputs=1, hidden=[64, 64])


def timed(work: Callable[[], object]) -> float:
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def bare(x: Tensor, y: Tensor) -> EpochTimer:
    """The floor: what any loop over these rows has to do."""
    network, target = model(), y.float().unsqueeze(1)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    loss = nn.BCEWithLogitsLoss()

    def epoch() -> None:
        network.train()
        for rows in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            loss(network(x[rows]), target[rows]).backward()
            optimizer.step()

    return lambda: timed(epoch)


def rarelab(x: Tensor, y: Tensor) -> EpochTimer:
    network = model()
    table = Table(x, y)
    few = Table(x[:BATCH], y[:BATCH])
    work = Work(
        model=network,
        loss=BinaryCrossEntropy(),
        optimizer=torch.optim.Adam(network.parameters(), lr=1e-3, fused=True),
        lr_schedule=None,
        train=table,
        val=few,
        rare_class=1,
    )
    trainer = Trainer(max_epochs=1, batch_size=BATCH)
    batches = torch.Generator().manual_seed(0)
    folder = TemporaryDirectory()

    def epoch(keep: TemporaryDirectory = folder) -> None:
        trainer.fit(work, History(Path(keep.name) / "history.jsonl"), batches)

    return lambda: timed(epoch)


class Lit(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = model()

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        x, y = batch
        return nn.functional.binary_cross_entropy_with_logits(self.network(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3, fused=True)


def lightning_loop(x: Tensor, y: Tensor) -> EpochTimer:
    rows = TensorDataset(x, y.float().unsqueeze(1))
    loader = DataLoader(rows, batch_size=BATCH, shuffle=True, num_workers=0)
    module = Lit()

    def epoch() -> float:
        trainer = lightning.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        clock = StepClock()
        trainer.callbacks.append(clock)  # type: ignore[attr-defined]
        trainer.fit(module, loader)
        return clock.seconds

    return epoch


class StepClock(lightning.Callback):
    """Times only the epoch, without Lightning's set-up before it."""

    seconds = 0.0

    def on_train_epoch_start(self, *_: object) -> None:
        gc.collect()
        self._start = time.perf_counter()

    def on_train_epoch_end(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._start


def skorch_loop(x: Tensor, y: Tensor) -> EpochTimer:
    net = skorch.NeuralNet(
        model(),
        criterion=nn.BCEWithLogitsLoss,
        optimizer=torch.optim.Adam,
        optimizer__fused=True,
        lr=1e-3,
        batch_size=BATCH,
        max_epochs=1,
        iterator_train__shuffle=True,
        train_split=None,
        callbacks=None,
        verbose=0,
    )
    net.initialize()
    features = x.numpy()
    target = y.numpy().astype(np.float32)[:, None]
    return lambda: timed(lambda: net.partial_fit(features, target))


LOOPS = {
    "bare loop, fused Adam": bare,
    "rarelab": rarelab,
    "PyTorch Lightning": lightning_loop,
    "skorch": skorch_loop,
}


def measure(repeats: int) -> dict[str, list[float]]:
    """Milliseconds per step, each loop in turn, after one warm-up turn."""
    x, y = data()
    steps = -(-ROWS // BATCH)
    epochs = {name: build(x, y) for name, build in LOOPS.items()}
    found: dict[str, list[float]] = {name: [] for name in LOOPS}
    for turn in range(repeats + 1):
        for name, epoch in epochs.items():
            milliseconds = 1e3 * epoch() / steps
            if turn:
                found[name].append(milliseconds)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE / "result.csv")
    chosen = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(chosen.threads)
    found = measure(chosen.repeats)
    floor = statistics.median(found["bare loop, fused Adam"])
    rows = [
        {
            "loop": name,
            "ms_per_step": f"{statistics.median(times):.3f}",
            "times_bare": f"{statistics.median(times) / floor:.2f}",
        }
        for name, times in found.items()
    ]
    with chosen.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(f"{row['loop']:<24}{row['ms_per_step']:>8} ms per step{row['times_bare']:>8} x bare")


if __name__ == "__main__":
    main()

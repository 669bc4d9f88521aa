"""Does a busy neighbour slow down a step of Smooth-AP, and do threads help?

Run:     python experiments/bench_kernels/busy.py    (half a minute, on 2 idle cores)
Expect:  beside another process that is always busy, two threads take at most twice what one thread
         takes alone, in the median and in nine steps of ten.

Forward and backward pass of the loss, 60 steps each. Writes busy.csv beside this file.
"""

import csv
import subprocess
import sys
import time
from pathlib import Path

import torch

from rarelab.losses import SmoothAPLoss

HERE = Path(__file__).parent
CASES = {"100 classes, 256 + 4096": (100, 256, 4096), "10 % of 66560": (1, 1024, 65536)}
"""Classes, rows in a batch, rows in the queue."""
STEPS, BATCHES = 60, 8


def measured(classes: int, rows: int, queue: int) -> dict[str, str]:
    """Milliseconds of a step with a full queue, median and 90th percentile."""
    torch.manual_seed(0)
    loss = SmoothAPLoss(classes, queue_size=queue, temperature=0.01)
    scores = [torch.randn(rows, classes) * 3 for _ in range(BATCHES)]
    rare = [(torch.rand(rows) < 0.1).long() for _ in range(BATCHES)]
    many = [torch.randint(0, classes, (rows,)) for _ in range(BATCHES)]
    labels = many if classes > 1 else rare

    def step(number: int) -> float:
        began = time.perf_counter()
        leaf = scores[number % BATCHES].detach().requires_grad_()
        loss(leaf, labels[number % BATCHES]).backward()
        return 1000 * (time.perf_counter() - began)

    for number in range(2 * queue // rows + 2):
        step(number)
    took = sorted(step(number) for number in range(STEPS))
    return {"median_ms": f"{took[STEPS // 2]:.1f}", "p90_ms": f"{took[9 * STEPS // 10]:.1f}"}


def main() -> None:
    lines = []
    for name, case in CASES.items():
        for threads, neighbour in ((1, False), (2, False), (2, True)):
            torch.set_num_threads(threads)
            command = [sys.executable, "-c", "while True: pass"]
            busy = subprocess.Popen(command) if neighbour else None
            try:
                found = measured(*case)
            finally:
                if busy is not None:
                    busy.kill()
            lines.append({"pool": name, "threads": threads, "busy": neighbour, **found})
            print(*lines[-1].values(), flush=True)
    with (HERE / "busy.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, lines[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


if __name__ == "__main__":
    main()

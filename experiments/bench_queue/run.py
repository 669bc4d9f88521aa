"""What does a queue longer than the data cost, and does it help?

Run:  python experiments/bench_queue/run.py      (minutes; `rarelab data fetch creditcard` first)

Trains Smooth-AP on creditcard at batch 2 048 with loss.queue_size=1024 and 200000 in turn, three
seeds each. Writes result.csv beside this file: test AUCPR, and the time of a step (network, loss
and optimiser) at the final main weight, in CPU time of the thread, the wall time if it is idle.
"""

import csv
import time
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from unittest.mock import patch

import rarelab
from rarelab.training import Trainer

HERE = Path(__file__).parent
RUN = ["dataset=creditcard", "loss=smooth_ap", "trainer.batch_size=2048"]
RUN += ["schedule.final_main_weight=1.0"]
QUEUES, SEEDS, STEPS = (1024, 200_000), (0, 1, 2), 84  # 170 884 rows at batch 2 048


def train(queue: int, seed: int, home: str) -> tuple[float, list[float]]:
    """Test AUCPR, and milliseconds per step of each epoch after the blend."""
    epoch, times = Trainer._train_epoch, []

    def timed(*arguments: object) -> dict[str, float]:
        start = time.thread_time()
        metrics = epoch(*arguments)  # type: ignore[arg-type]
        if metrics["train/ap_weight"] == 1:
            times.append(1e3 * (time.thread_time() - start) / STEPS)
        return metrics

    wanted = [f"loss.queue_size={queue}", f"seed={seed}", f"paths.home={home}", "tracking=none"]
    with patch.object(Trainer, "_train_epoch", timed):
        done = rarelab.train([*RUN, *wanted])
    return done.metrics["test/aucpr"], times


def main() -> None:
    found = {queue: ([], []) for queue in QUEUES}
    with TemporaryDirectory() as home:
        for seed in SEEDS:
            for queue, (scores, times) in found.items():
                score, spent = train(queue, seed, home)
                scores.append(score)
                times.extend(spent)
    with (HERE / "result.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["queue_size", "ms_per_step", "test_aucpr", "lowest", "highest", "seeds"])
        for queue, (scores, times) in found.items():
            ends = [f"{score:.4f}" for score in (mean(scores), min(scores), max(scores))]
            row = [queue, f"{median(times):.1f}", *ends, len(SEEDS)]
            writer.writerow(row)
            print(*row)


if __name__ == "__main__":
    main()

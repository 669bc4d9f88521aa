"""How long does an epoch take with one process and with two, for a small and a large model?

Run:  python experiments/bench_devices/run.py [--devices 1 2]

Each run trains `toy` on the CPU, one thread per process. The time of an epoch, validation included,
is the median over the epochs after the first, from the times in the history.
"""

import argparse
import itertools
import logging
import os
import statistics
import tempfile

import rarelab
from rarelab.training.history import read_rows

MODELS = {"64, 64": 512, "1024, 1024": 2048}
"""Hidden widths of the MLP, and its batch size."""


def seconds(devices: int, hidden: str, batch: int) -> float:
    run = rarelab.train(
        [
            *("tracking=none", "loss=smooth_ap", "schedule=constant", "trainer.max_epochs=6"),
            *(f"model.hidden=[{hidden}]", f"trainer.batch_size={batch}"),
            *(f"trainer.devices={devices}", "trainer.device=cpu"),
        ]
    )
    rows = read_rows(run.directory / "history.jsonl")
    times = [row["time"] for row in rows if "train/loss" in row["metrics"]]
    return statistics.median(b - a for a, b in itertools.pairwise(times)) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2])
    chosen = parser.parse_args()
    logging.getLogger("rarelab").addHandler(logging.NullHandler())
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RARELAB_HOME"] = folder
        for hidden, batch in MODELS.items():
            for devices in chosen.devices:
                found = seconds(devices, hidden, batch)
                print(
                    f"hidden {hidden:<12} batch {batch:<6} devices {devices}  {found:6.2f} s/epoch"
                )


if __name__ == "__main__":
    main()

"""The number of torch threads; sums change in their last bits with it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

ALONE = 1 << 20
"""Up to so many scores one thread is as fast as several, and nobody waits for a busy core."""


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Compute with ``count`` threads; the previous number is restored afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_thread(scores: int, device: torch.device) -> AbstractContextManager[None]:
    """One thread for work on so many scores, unless they are many or elsewhere than on the CPU.

    Threads meet after every operation. A kernel has a hundred short ones, so that one thread that
    has to share its core with another process holds up all of them a hundred times.
    """
    if scores > ALONE or device.type != "cpu" or torch.get_num_threads() == 1:
        return nullcontext()
    return limited_threads(1)

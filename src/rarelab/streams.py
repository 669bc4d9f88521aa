"""One seed split into named random streams, so components do not affect each other's draws."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

STREAMS = ("draw", "init", "batches", "model", "loss", "bootstrap")


def stream_seed(seed: int, name: str) -> int:
    """The 32-bit seed of the stream ``name`` under ``seed``, hashed to decorrelate neighbours."""
    if name not in STREAMS:
        raise KeyError(f"unknown random stream {name!r}; known: {', '.join(STREAMS)}")
    return _hashed(seed, name)


def generator(seed: int, name: str) -> torch.Generator:
    """A CPU generator at the start of the stream ``name``."""
    return torch.Generator().manual_seed(stream_seed(seed, name))


@contextmanager
def drawing_from(seed: int, name: str) -> Iterator[None]:
    """Let torch's global generators draw from the stream ``name``, then restore them.

    torch's initialisers and dropout only use the global generators.
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(stream_seed(seed, name))
        yield


@contextmanager
def drawing_apart(*where: int) -> Iterator[None]:
    """Let torch's global generators (CPU and current GPU) draw from a stream derived from their
    own seed and ``where``, then restore them."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(_hashed(torch.initial_seed(), *where))
        yield


def global_state() -> dict[str, Any]:
    """The state of torch's global generators, of the CPU and every GPU, as tensors."""
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": gpus}


def set_global_state(state: dict[str, Any]) -> None:
    """Restore the global generators to a state from :func:`global_state`."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def _hashed(*parts: object) -> int:
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "little")

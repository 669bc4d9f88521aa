"""Weights on disk, whole or not at all."""

import os
from pathlib import Path
from typing import Any

import torch


def save(path: Path, **content: Any) -> None:
    """Write tensors and plain values so that a reader sees the old file or the new, never half."""
    partial = path.with_suffix(".partial")
    torch.save(content, partial)
    os.replace(partial, path)


def load(path: Path) -> dict[str, Any]:
    """Read what :func:`save` wrote, on the CPU, without running anything that is in the file."""
    return torch.load(path, map_location="cpu", weights_only=True)

"""Weights on disk, whole or not at all."""

import os
import zipfile
from pathlib import Path
from typing import Any

import torch


def save(path: Path, **content: Any) -> None:
    """Write tensors and plain values so that a reader sees the old file or the new, never half.

    The bytes are on the disk itself when this returns.
    """
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def load(path: Path) -> dict[str, Any]:
    """Read what :func:`save` wrote, on the CPU, without running anything that is in the file.

    Raises:
        ValueError: the file is not what was written, with the reason in one line.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch itself does not look at the checksums
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} is wrong")
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path.name} cannot be read: {reason}") from error

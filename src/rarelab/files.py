"""Atomic file writes: a file is complete or absent."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SCRATCH = ".part"
"""Suffix of files that are still being written."""


@contextmanager
def written_whole(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """A scratch path beside ``path``; the file written there is renamed to ``path`` at the end.

    The data is flushed to disk before the rename, so a reader of ``path`` sees the old file or the
    new one, even after a power failure. If the block raises, the scratch file is removed and
    ``path`` is unchanged; a killed process leaves its scratch file behind, which does no harm.

    Args:
        path: the final name, in an existing folder.
        replace: whether to overwrite an existing file.

    Raises:
        FileExistsError: ``path`` exists and ``replace`` is false.
    """
    scratch = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}{SCRATCH}")
    try:
        yield scratch
        with scratch.open("rb+") as file:
            os.fsync(file.fileno())
        if replace:
            os.replace(scratch, path)
        else:
            _take_free_name(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically, like :func:`written_whole`."""
    with written_whole(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def remove_scratch(path: Path) -> None:
    """Remove the scratch files of killed writers; nobody may be writing ``path`` now."""
    for left in path.parent.glob(f".{path.name[:100]}.*{SCRATCH}"):
        left.unlink(missing_ok=True)


def _take_free_name(scratch: Path, path: Path) -> None:
    """Link, which unlike a rename fails if the name exists; not all file systems have links."""
    try:
        os.link(scratch, path)
    except FileExistsError:
        raise
    except OSError:
        if path.exists():
            raise FileExistsError(f"{path} already exists") from None
        os.replace(scratch, path)

"""Files that are there whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SCRATCH = ".part"
"""How the name of a file that is being written ends."""


@contextmanager
def written_whole(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """A scratch path beside ``path``; what the block writes there takes the name at its end.

    The bytes are on the disk before the rename, so whoever opens ``path``, even after a power cut,
    finds the old file or the new one. If the block raises, the scratch file is removed and ``path``
    is as it was; a killed process leaves the scratch file, which stands in nobody's way.

    Args:
        path: the final name, in a folder that is there.
        replace: whether a file of that name may be there.

    Raises:
        FileExistsError: without ``replace``, where one is.
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
    """Write a text file, in UTF-8, as :func:`written_whole` does."""
    with written_whole(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def remove_scratch(path: Path) -> None:
    """Remove what killed writers of ``path`` left; the caller knows that nobody writes it now."""
    for left in path.parent.glob(f".{path.name[:100]}.*{SCRATCH}"):
        left.unlink(missing_ok=True)


def _take_free_name(scratch: Path, path: Path) -> None:
    """A link, unlike a rename, fails where the name is taken; not every file system has links."""
    try:
        os.link(scratch, path)
    except FileExistsError:
        raise
    except OSError:
        if path.exists():
            raise FileExistsError(f"{path} is there already") from None
        os.replace(scratch, path)

"""Where a table is: a file, a folder or pattern of parts, or an address."""

import atexit
import functools
import glob
import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from rarelab.data.formats import READ_AS, ending_of
from rarelab.data.sql import is_query
from rarelab.errors import RequestError, nearest, one_line


@dataclass(frozen=True)
class Place:
    """A table's name, and the files on this machine that hold its rows, in order.

    ``keys``: for each file the columns that folders called ``key=value`` add to its rows.
    """

    name: str
    files: tuple[Path, ...]
    keys: tuple[tuple[tuple[str, str], ...], ...] = ((),)

    def identity(self) -> str:
        """The sha256 of the file's bytes, independent of its path; of several files, that of their
        hashes and added columns in order."""
        hashes = [_sha256(file) for file in self.files]
        if len(hashes) == 1 and not self.keys[0]:
            return f"file(sha256={hashes[0]})"
        listed = "\n".join(f"{h} {k}" for h, k in zip(hashes, self.keys, strict=True))
        return f"files(sha256={hashlib.sha256(listed.encode()).hexdigest()})"


def locate(name: str, key: str = "dataset.path") -> Place:
    """The place of a table; ``key`` is the setting that messages name.

    A folder holds the parts that end in the name of a table, also in folders inside it, but not
    those whose name starts with ``.`` or ``_``; parts are in the order of their names. A pattern
    (``*``, ``?``, ``[``, ``**``) is used only if there is no such file.

    Raises:
        RequestError: there is no such file (with the nearest name), no part, or no such address.
    """
    if "://" in name:
        return Place(_last(name), (_fetched(name, key),))
    path = Path(name).expanduser()
    if path.is_file():
        return Place(path.name, (path,))
    if path.is_dir():
        return _parts(path, [*path.rglob("*")], f"{key}={name}: the folder holds")
    if glob.has_magic(name):
        found = [Path(part) for part in glob.glob(str(path), recursive=True)]
        return _parts(_fixed(path), found, f"{key}={name}: the pattern matches")
    folder = path.parent
    if not folder.is_dir():
        raise RequestError(f"{key}={name}: there is no folder {folder}")
    tables = [file.name for file in folder.iterdir() if ending_of(file.name) or file.is_dir()]
    raise RequestError(f"{key}={name}: there is no such file: {nearest(path.name, tables)}")


def find(name: str, key: str = "dataset.path") -> Path:
    """The path of a file or folder, checked by :func:`locate`; of a pattern, an address or a query,
    a name in the working directory."""
    if is_query(name):
        return Path("query")
    place, path = locate(name, key), Path(name).expanduser()
    return path if path.exists() else Path(place.name)


def _parts(folder: Path, found: list[Path], where: str) -> Place:
    inside = {path: path.relative_to(folder).parts for path in found if path.is_file()}
    files = sorted(
        (
            path
            for path, parts in inside.items()
            if ending_of(path.name) and not any(part[0] in "._" for part in parts)
        ),
        key=lambda path: inside[path],
    )
    if not files:
        raise RequestError(f"{where} no file that ends in {', '.join(READ_AS)}")
    keys = tuple(
        tuple(_divided(part) for part in inside[path][:-1] if "=" in part) for path in files
    )
    return Place(folder.name or str(folder), tuple(files), keys)


def _divided(part: str) -> tuple[str, str]:
    key, _, value = part.partition("=")
    return unquote(key), unquote(value)


def _fixed(pattern: Path) -> Path:
    """The folder that a pattern starts from."""
    parts = pattern.parts
    magic = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:magic])


def _last(address: str) -> str:
    return unquote(urlsplit(address).path.rstrip("/").rpartition("/")[2]) or "table.csv"


@functools.cache
def _fetched(address: str, key: str) -> Path:
    """A copy of the file at an address, fetched once in a process: its bytes identify the data, and
    a cache on disk could not tell for every kind of store whether they have changed."""
    try:
        import fsspec
    except ImportError:
        raise RequestError(f"{key}={address}: needs pip install 'rarelab[remote]'") from None
    copy = _scratch() / hashlib.sha256(address.encode()).hexdigest()[:16] / _last(address)
    copy.parent.mkdir(exist_ok=True)
    try:
        opened: Any = fsspec.open(address, "rb")
        with opened as source, copy.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    except ImportError as error:  # fsspec names the package that a protocol needs
        raise RequestError(
            f"{key}={address}: {one_line(error)} (pip install 'rarelab[remote]')"
        ) from None
    except FileNotFoundError as error:  # its text is only the name, its cause may be the network
        cause = error.__cause__
        why = "there is no such file"
        if cause is not None and not isinstance(cause, FileNotFoundError):
            why = one_line(cause)
        raise RequestError(f"{key}={address} cannot be read: {why}") from None
    except Exception as error:  # every kind of store has errors of its own
        raise RequestError(f"{key}={address} cannot be read: {one_line(error)}") from None
    return copy


@functools.cache
def _scratch() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="rarelab-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

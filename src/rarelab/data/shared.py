"""Read and prepare a data set once for all jobs of a sweep on one machine.

The first job that needs a data set reads it and leaves the splits in the sweep's folder, each array
as an ``.npy`` file; the others map these files, so that their rows are in memory once. What they
get has the same bits, layouts and types as a reading of their own.
"""

import contextlib
import hashlib
import json
import os
import pickle  # nosec B403
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rarelab.data.splits import Dataset, Splits

FOLDER = "RARELAB_SHARED_SPLITS"
"""The variable that names the folder to the processes of a sweep's jobs."""

LIMIT = 4 * 2**30
"""Bytes; the splits that were not used for longest make room for new ones."""

_READ = {
    "rarelab.data.archives.real.RealData",
    "rarelab.data.file.TableFile",
    "rarelab.data.openml.OpenML",
}
"""Data sets whose splits depend on their configuration and identity alone. A generated one depends
on the seed, too, and takes no longer to make than to map; a user's own class may do anything."""

_SMALL = 4096
"""Bytes; smaller arrays stay in the pickle."""

_SPLITS = "splits.pickle"


def splits_of(data: Dataset, leaf: Mapping[str, Any], seed: int) -> Splits:
    """``data.splits(seed)``, or what another job of the sweep has left of the same.

    Args:
        data: the data set.
        leaf: its configuration.
        seed: of the draw, for generated data.
    """
    folder = os.environ.get(FOLDER)
    kind = f"{type(data).__module__}.{type(data).__qualname__}"
    if not folder or kind not in _READ or not _is_private(Path(folder)):
        return data.splits(seed)
    facts = json.dumps([kind, data.identity(), leaf], sort_keys=True, default=str)
    key = hashlib.sha256(facts.encode()).hexdigest()[:32]
    return Shelf(Path(folder)).get(key, lambda: data.splits(seed))


def _is_private(folder: Path) -> bool:
    """Whether nobody but this user can write to a folder or read it: unpickling executes."""
    with contextlib.suppress(OSError):
        found = folder.lstat()
        return found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) == stat.S_IRWXU
    return False


class Shelf:
    """Splits in a folder, by key. Nothing that goes wrong with the folder is an error: it may be
    full, or removed at any time."""

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self._folder, self._limit = folder, limit

    def get(self, key: str, read: Callable[[], Splits]) -> Splits:
        """The splits of a key; ``read`` makes them if they are not there. Of several processes that
        miss them at once, one reads and the others wait."""
        found = self._find(key)
        if found is not None:
            return found
        with self._alone(key):
            found = self._find(key)
            if found is not None:
                return found
            splits = read()
            with contextlib.suppress(OSError, pickle.PicklingError, TypeError, AttributeError):
                self._keep(key, splits)
        return splits

    def _find(self, key: str) -> Splits | None:
        place = self._folder / key
        try:
            with (place / _SPLITS).open("rb") as file:
                found = _Mapping(file, place).load()
            os.utime(place)  # when it was used last
        except (OSError, ValueError, EOFError, pickle.UnpicklingError):
            return None
        return found

    @contextlib.contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        from filelock import FileLock

        with contextlib.ExitStack() as held:
            with contextlib.suppress(OSError):
                held.enter_context(FileLock(self._folder / f"{key}.lock"))
            yield

    def _keep(self, key: str, splits: Splits) -> None:
        part = self._folder / f"{key}.{os.getpid()}.part"
        try:
            part.mkdir()
            with (part / _SPLITS).open("wb") as file:
                _Leaving(file, part, self._room()).dump(splits)
            self._make_room(_bytes_in(part))
            part.rename(self._folder / key)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _room(self) -> int:
        """The bytes that one entry may take: the limit, and half of what the disk has left."""
        return min(self._limit, shutil.disk_usage(self._folder).free // 2)

    def _make_room(self, size: int) -> None:
        kept = {path: path.stat().st_mtime_ns for path in self._folder.iterdir() if _is_entry(path)}
        sizes = {path: _bytes_in(path) for path in kept}
        for oldest in sorted(kept, key=kept.__getitem__):
            if sum(sizes.values()) + size <= self._limit:
                return
            gone = oldest.with_suffix(f".{os.getpid()}.part")
            with contextlib.suppress(OSError):
                oldest.rename(gone)  # at once, unlike its removal; those who mapped it keep it
            shutil.rmtree(gone, ignore_errors=True)
            del sizes[oldest]


def _is_entry(path: Path) -> bool:
    return not path.suffix and path.is_dir()


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


class _Leaving(pickle.Pickler):
    """Pickles splits, with their arrays in files beside.

    Raises:
        OSError: they would take more than ``room`` bytes, or the disk is full.
    """

    def __init__(self, file: Any, folder: Path, room: int) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._folder, self._room = folder, room
        self._names: dict[int, tuple[str, int]] = {}
        self._alive: list[Any] = []  # an id is unique only among living objects

    def persistent_id(self, obj: Any) -> tuple[str, int] | None:
        array = _as_array(obj)
        if array is None:
            return None
        if id(obj) not in self._names:
            self._room -= array.nbytes
            if self._room < 0:
                raise OSError("too large to share")
            name = "tensor" if isinstance(obj, Tensor) else "array", len(self._names)
            np.save(self._folder / f"{name[1]}.npy", array, allow_pickle=False)
            self._names[id(obj)] = name
            self._alive.append(obj)
        return self._names[id(obj)]


class _Mapping(pickle.Unpickler):
    """Restores splits whose arrays are mapped, privately: what a job would write to them is seen by
    nobody else. The data begin at a multiple of 64 bytes, as torch's own tensors do."""

    def __init__(self, file: Any, folder: Path) -> None:
        super().__init__(file)
        self._folder = folder

    def persistent_load(self, pid: tuple[str, int]) -> Any:
        kind, number = pid
        mapped = np.load(self._folder / f"{number}.npy", mmap_mode="c", allow_pickle=False)
        plain = mapped.view(np.ndarray)
        return torch.from_numpy(plain) if kind == "tensor" else plain


def _as_array(value: Any) -> np.ndarray | None:
    """The array of a large tensor or array that a file can hold in its own memory layout."""
    if isinstance(value, Tensor):
        if value.requires_grad or value.device.type != "cpu" or type(value) is not Tensor:
            return None
        value = value.numpy()
    if type(value) is not np.ndarray or value.dtype.hasobject or value.nbytes < _SMALL:
        return None
    flags = value.flags
    return value if flags.c_contiguous or flags.f_contiguous else None

"""Cache of prepared splits, so the jobs of a sweep do not each repeat the preprocessing."""

import contextlib
import hashlib
import json
import zipfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from rarelab.data.source import Source
from rarelab.data.splits import Splits, Table, digest
from rarelab.data.tables.preprocess import Preprocessor
from rarelab.data.tables.recipe import Recipe
from rarelab.files import written_whole

if TYPE_CHECKING:
    from torch import Tensor

LIMIT = 2**29
"""Bytes above which splits are not cached: reading them back would save little."""

_FACTS = "facts"


def path_of(source: Source, recipe: Recipe, home: Path) -> Path:
    """The cache file of a source's splits; its name changes with recipe, code and versions."""
    code = b"".join(
        path.read_bytes() for path in sorted(Path(__file__).parent.parent.rglob("*.py"))
    )
    versions = [version(name) for name in ("numpy", "pandas", "scikit-learn")]
    facts = [source.identity(), asdict(recipe), versions, hashlib.sha256(code).hexdigest()]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return home / source.name / f"prepared-{key[:16]}.npz"


def write(path: Path, splits: Splits) -> None:
    """Cache splits; a failed write is ignored."""
    arrays, size = {}, 0
    for name, table in splits.tables():
        for part in ("x", "y", "sample_weight"):
            tensor = getattr(table, part)
            if tensor is not None:
                arrays[f"{name}.{part}"] = tensor.numpy()
                size += tensor.nbytes
        assert table.origin is not None  # the rows come from a table
        origin = {column: np.asarray(values) for column, values in table.origin.items()}
        arrays |= {f"{name}.origin.{column}": values for column, values in origin.items()}
    if size > LIMIT:
        return
    learnt, scales = splits.preprocessor.state()
    facts = {
        "classes": splits.classes,
        "features": splits.features,
        "digest": splits.digest,
        "name": splits.name,
        "notes": splits.notes,
        "preprocessor": learnt,
    }
    arrays |= {f"preprocessor.{name}": array for name, array in scales.items()}
    arrays[_FACTS] = np.array(json.dumps(facts))
    with contextlib.suppress(OSError), written_whole(path) as scratch, scratch.open("wb") as file:
        np.savez(file, **arrays)


def read(path: Path) -> Splits | None:
    """The cached splits, or None; a damaged file is deleted."""
    if not path.exists():
        return None
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            splits = _splits({name: file[name] for name in file.files})
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        splits = None
    if splits is None or splits.digest != digest(splits.train, splits.val, splits.test):
        path.unlink(missing_ok=True)
        return None
    return splits


def _splits(arrays: dict[str, NDArray]) -> Splits:
    facts: dict[str, Any] = json.loads(arrays[_FACTS].item())
    prefix = "preprocessor."
    scales = {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
    return Splits(
        *(_table(arrays, name) for name in ("train", "val", "test")),
        classes=tuple(facts["classes"]),
        features=tuple(facts["features"]),
        digest=facts["digest"],
        name=facts["name"],
        notes=tuple(facts["notes"]),
        preprocessor=Preprocessor.restored(facts["preprocessor"], scales),
    )


def _table(arrays: dict[str, NDArray], name: str) -> Table:
    def tensor(part: str) -> "Tensor | None":
        array = arrays.get(f"{name}.{part}")
        return None if array is None else torch.from_numpy(array)

    x, y = tensor("x"), tensor("y")
    if x is None or y is None:
        raise KeyError(name)
    prefix = f"{name}.origin."
    origin = {key.removeprefix(prefix): arrays[key] for key in arrays if key.startswith(prefix)}
    return Table(x, y, tensor("sample_weight"), origin)

"""``rarelab data list / fetch / path``: the real data sets, without importing torch or sklearn."""

import importlib
import pkgutil
from collections.abc import Iterable
from pathlib import Path

from rarelab.data import sets
from rarelab.data.archives import fetch as archives
from rarelab.data.archives.real import is_present
from rarelab.data.source import Source
from rarelab.errors import RequestError, nearest


def sources() -> dict[str, Source]:
    """Every real set by name; each is a module of ``rarelab.data.sets``."""
    names = sorted(module.name for module in pkgutil.iter_modules(sets.__path__))
    modules = (importlib.import_module(f"{sets.__name__}.{name}") for name in names)
    return {module.SOURCE.name: module.SOURCE for module in modules}


def list_datasets(home: str | Path | None = None) -> str:
    """A table of the real sets: size, positives, whether on disk, description and citation."""
    folder = archives.data_home(home)
    head = ("name", "rows x features", "positives", "on disk", "description and citation")
    rows = [head, *(_row(source, folder) for source in sources().values())]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head) - 1)]
    lines = ["  ".join([*map(str.ljust, row, widths), row[-1]]) for row in rows]
    return "\n".join([*lines, "", f"data home: {folder} (set RARELAB_DATA to change it)"])


def _row(source: Source, home: Path) -> tuple[str, ...]:
    if source.positives is None:
        positives = f"{source.classes} classes"
    else:
        positives = f"{source.positives:,} = {source.positives / source.rows:.3%}"
    needs = f"; needs rarelab[{source.needs[1]}]" if source.needs else ""
    return (
        source.name,
        f"{source.rows:,} x {source.features:,}",
        positives,
        _where(source, home),
        f"{source.title}. {source.citation}{needs}",
    )


def _where(source: Source, home: Path) -> str:
    if source.archive is None:
        return "built in"
    return "yes" if is_present(source, home) else f"no ({source.archive.megabytes} MB)"


def fetch(names: Iterable[str], home: str | Path | None = None) -> None:
    """Download, verify and unpack the named sets; files already on disk are kept."""
    folder = archives.data_home(home)
    for source in [_known(name) for name in names]:
        if source.archive is None:
            print(f"{source.name}: comes with scikit-learn, nothing to fetch")
            continue
        if source.archive.builds and not is_present(source, folder):
            print(
                f"{source.name}: {source.archive.requirement} is a source distribution: pip runs"
                " its build to read the metadata, with build requirements not pinned by hash",
                flush=True,
            )
        archives.members(source, folder, download=True)
        print(f"{source.name}: in {folder / source.name}", flush=True)


def path(name: str, home: str | Path | None = None) -> Path:
    """The path of a set: its file, or its folder if it has several.

    RarelabError if it has not been fetched, RequestError if it has no file of its own.
    """
    source = _known(name)
    if source.archive is None:
        raise RequestError(f"{name} comes with scikit-learn: it has no file of its own")
    files = archives.members(source, archives.data_home(home), download=False)
    return files[0] if len(files) == 1 else files[0].parent


def _known(name: str) -> Source:
    known = sources()
    if name not in known:
        raise RequestError(f"there is no data set {name!r}: {nearest(name, known)}")
    return known[name]

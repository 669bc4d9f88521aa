"""A tiny pinned archive that the real pip fetches from a local index without network access, and
synthetic rows that stand in for those of a real data set."""

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from rarelab.data.archives import real
from rarelab.data.positives import Rule
from rarelab.data.source import Archive, Member, Roles, Source

MEMBER = "tiny_data/raw/tiny.csv"
CONTENT = ("a,b,y\n" + "".join(f"{i},{i % 7},{int(i % 10 == 0)}\n" for i in range(100))).encode()


def read_tiny(csv: Path) -> pd.DataFrame:
    return pd.read_csv(csv)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def make_wheel(folder: Path, content: bytes = CONTENT) -> Path:
    """A wheel that pip accepts, with one data member."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny_data-1.0-py3-none-any.whl"
    info = "tiny_data-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as whole:
        whole.writestr(MEMBER, content)
        whole.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-data\nVersion: 1.0\n")
        whole.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        whole.writestr(f"{info}/RECORD", "")
    return path


def make_sdist(folder: Path, content: bytes = CONTENT) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny_data-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as whole:
        entry = tarfile.TarInfo(MEMBER)
        entry.size = len(content)
        whole.addfile(entry, io.BytesIO(content))
    return path


def tiny_source(
    archive_sha256: str, *, member_sha256: str = sha256(CONTENT), builds: bool = False
) -> Source:
    return Source(
        name="tiny",
        title="a tiny table",
        roles=Roles(target="y"),
        read=read_tiny,
        rows=100,
        features=2,
        positives=10,
        citation="nobody",
        archive=Archive("tiny-data==1.0", archive_sha256, megabytes=1, builds=builds),
        members=(Member(MEMBER, member_sha256),),
        openml=4321,
    )


def leave_drawn_rows(source: Source, home: Path, *, rows: int = 3000) -> None:
    """Write synthetic rows, with the columns that ``source`` needs, into its parsed-frame cache."""
    draw, roles, several = np.random.default_rng(0), source.roles, source.classes > 2
    width = source.features if several else 6  # pixels are columns, and an image has all of them
    x = draw.normal(size=(rows, width)).round(1)
    columns = {f"x{place}": values for place, values in enumerate(x.T)}
    columns |= {name: draw.integers(0, 5, rows) for name in roles.categorical}
    positive = x[:, 0] + draw.normal(size=rows) > 2
    assert not isinstance(roles.positive, Rule)
    label = np.where(positive, roles.positive[0], "another") if roles.positive else positive
    columns |= {roles.target: draw.integers(0, source.classes, rows) if several else label}
    columns |= {name: draw.integers(0, 150, rows) for name in (roles.group, roles.time) if name}
    columns |= {roles.official: draw.random(rows) < 0.3} if roles.official else {}
    for path in source.paths(home / source.name):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    pd.DataFrame(columns).to_parquet(real._cache_path(source, home), index=False)

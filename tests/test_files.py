"""Files are written atomically: whole or not at all, whatever happens during the write."""

import os
from pathlib import Path

import pytest

from rarelab import files
from rarelab.files import remove_scratch, write_whole, written_whole


def test_the_file_appears_at_the_end_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    with written_whole(path) as scratch:
        scratch.write_text("half")
        assert not path.exists() and scratch.parent == tmp_path
    write_whole(path, "whole")
    assert [file.name for file in tmp_path.iterdir()] == ["scores.csv"]
    assert path.read_text() == "whole"


def test_an_error_keeps_the_old_file_and_leaves_no_scratch(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("old")
    with pytest.raises(OSError, match="No space"), written_whole(path) as scratch:
        scratch.write_text("half")
        raise OSError(28, "No space left on device")
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("links", [True, False])
def test_a_file_created_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "no links on this file system")

    if not links:
        monkeypatch.setattr(files.os, "link", refuse)
    path = tmp_path / "scores.csv"
    with pytest.raises(FileExistsError), written_whole(path, replace=False) as scratch:
        scratch.write_text("mine")
        path.write_text("theirs")
    assert path.read_text() == "theirs" and len(list(tmp_path.iterdir())) == 1
    with written_whole(tmp_path / "free.csv", replace=False) as scratch:
        scratch.write_text("mine")
    assert sorted(os.listdir(tmp_path)) == ["free.csv", "scores.csv"]


def test_leftovers_of_a_killed_writer_do_no_harm_and_can_be_removed(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    (tmp_path / f".{path.name}.0123abcd{files.SCRATCH}").write_text("half")
    write_whole(path, "whole")
    remove_scratch(path)
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt"]

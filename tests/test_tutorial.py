"""docs/tutorial.md, followed to the letter: four commands from a CSV file to a verdict."""

import re
from functools import partial
from pathlib import Path

import pytest

from tutorial import PAGE, SIGNATURE, environment, line_of, replayed, run_in

SCORE = re.compile(r"\b0\.\d{4}\b")


@pytest.mark.slow
def test_the_tutorial_comes_out_as_written(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    came = replayed(page, partial(run_in, tmp_path), tmp_path)
    if f"({environment()})" in page:
        assert SIGNATURE.sub("", came) == SIGNATURE.sub("", page)
    # Another processor or torch sums in another order, and training carries that on: what the runs
    # of one arm differ by is what two machines may.
    shown = [float(score) for score in SCORE.findall(page)]
    assert shown == pytest.approx([float(score) for score in SCORE.findall(came)], abs=0.05)


def test_the_tutorial_has_four_commands_beside_its_file() -> None:
    commands = re.findall(r"^(?:rarelab|python) \w+", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    assert commands == [
        *("python make_cards", "rarelab train", "rarelab train"),
        *("rarelab compare", "rarelab predict"),
    ]


def test_a_line_of_a_page_must_have_come_out() -> None:
    output = "loss=bce   8  0.31 worse\nrun a-s0-1234abcd-0"
    assert line_of(output, "loss=bce 8 0.29  worse") == "loss=bce   8  0.31 worse"
    assert line_of(output, "run a-s0-deadbeef-0") == "run a-s0-1234abcd-0"
    with pytest.raises(AssertionError, match="did not come out"):
        line_of(output, "loss=bce 8 0.31 better")
